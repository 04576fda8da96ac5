package custody

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Check is what always holds of a catalogue, whatever officers decide: every officer has a key of its own and there are enough of them for
// every act, whoever proposes it, with clients of their own that may call; the rules are ones that the signer can decide by; names, versions, labels and ids are there once; no two keys of one algorithm have one check value; a
// destroyed key has no copy. Apply answers no catalogue that breaks it.
func (c Catalogue) Check() error {
	if err := checkRules(c.Rules); err != nil {
		return err
	}
	return c.checkButRules()
}

// checkButRules is Check without what takes milliseconds: to compile the policy documents.
func (c Catalogue) checkButRules() error {
	if err := c.checkOfficers(); err != nil {
		return err
	}
	if !strictly(c.KeySets, func(a, b KeySet) int { return cmp.Compare(a.Name, b.Name) }) {
		return invalid("key sets are not each there once, in order")
	}
	if !strictly(c.Transports, func(a, b Transport) int { return cmp.Compare(a.Name, b.Name) }) {
		return invalid("transport keys are not each there once, in order")
	}
	labels, ids, masters := map[string]bool{}, map[string]bool{}, map[CheckValue]string{}
	for _, set := range c.KeySets {
		if err := set.Definition.check(); err != nil {
			return invalid("%v", err)
		}
		if !strictly(set.Keys, func(a, b Key) int { return a.Name.compare(b.Name) }) {
			return invalid("key set %s: keys are not each there once, in order", set.Name)
		}
		for _, k := range set.Keys {
			if err := k.check(); err != nil {
				return invalid("key %s: %v", Label(set.Name, k.Name), err)
			}
			if other, there := masters[k.KCV]; there {
				return invalid("%w: %s is the check value of %s and of %s", ErrSameKey, k.KCV.Value, other, k.Label)
			}
			if labels[k.Label] || k.ID != "" && ids[k.ID] {
				return invalid("key %s: its label or id is there twice", k.Label)
			}
			masters[k.KCV], labels[k.Label], ids[k.ID] = k.Label, true, true
		}
	}
	for _, t := range c.Transports {
		if labels[t.Label] {
			return invalid("transport key %s: its label is there twice", t.Name)
		}
		labels[t.Label] = true
	}
	return nil
}

func (c Catalogue) checkOfficers() error {
	if err := c.Quorum.Validate(); err != nil {
		return invalid("%v", err)
	}
	if !strictly(c.Officers, func(a, b Officer) int { return cmp.Compare(a.Name, b.Name) }) {
		return invalid("officers are not each there once, in order")
	}
	keys, names := map[string]string{}, map[string]string{}
	for _, o := range c.Officers {
		key, err := ParseOfficerKey(o.Key)
		if err != nil {
			return invalid("officer %s: %v", o.Name, err)
		}
		point, err := bare(key)
		if err != nil {
			return invalid("officer %s: %v", o.Name, err)
		}
		if other, there := keys[point]; there {
			return invalid("officers %s and %s have one key", other, o.Name)
		}
		if other, there := names[strings.ToLower(o.Name)]; there {
			return invalid("officers %s and %s have names that differ in their case alone", other, o.Name)
		}
		keys[point], names[strings.ToLower(o.Name)] = o.Name, o.Name
	}
	if need := c.Quorum.Most() + 1; len(c.Officers) < need {
		return invalid("%w: %d officers; a change takes its author and up to %d others", ErrOfficersFew, len(c.Officers), need-1)
	}
	if n := c.decide(); n <= c.Quorum.Most() {
		return invalid("%w: %d officers have a client of their name and of the role officer that is not suspended; a change takes its author and up to %d others",
			ErrOfficersFew, n, c.Quorum.Most())
	}
	return nil
}

func (k Key) check() error {
	switch {
	case !k.Kind.Valid() || k.Version < 1 || k.Version > 255:
		return fmt.Errorf("%v: expected a kind and a version from 1 to 255", k.Name)
	case stateNames[k.State] == "":
		return fmt.Errorf("%v", k.State)
	case !masterKCV.MatchString(k.KCV.Value):
		return fmt.Errorf("check value %q: expected 6 upper-case hex digits", k.KCV.Value)
	case k.Label == "":
		return fmt.Errorf("no label")
	case k.State == Destroyed && k.Wrapped != "":
		return fmt.Errorf("it is destroyed and has a copy")
	case k.State != PreActive && !k.ActivateAt.IsZero():
		return fmt.Errorf("it is %v and becomes active at a time", k.State)
	}
	return nil
}

// strictly reports whether each comes after the one before it.
func strictly[T any](all []T, compare func(a, b T) int) bool {
	for i := 1; i < len(all); i++ {
		if compare(all[i-1], all[i]) >= 0 {
			return false
		}
	}
	return slices.IsSortedFunc(all, compare)
}

// Found is the first catalogue: its officers, at revision 1, with a quorum. It is what `pursekeeper init` makes; nothing else makes one of
// nothing.
func (c Catalogue) Found(first Catalogue) (Catalogue, error) {
	if c.Revision != 0 || len(c.Officers) > 0 {
		return Catalogue{}, invalid("there are officers already: they alone change the catalogue")
	}
	first = first.clone()
	first.Revision = 1
	first.Rules = sorted(first.Rules)
	slices.SortFunc(first.Officers, func(a, b Officer) int { return cmp.Compare(a.Name, b.Name) })
	for i, o := range first.Officers {
		if !officerName.MatchString(o.Name) {
			return Catalogue{}, invalid("officer name %q: expected %v", o.Name, officerName)
		}
		first.Officers[i].Since = wholeSecond(o.Since)
	}
	return first, first.Check()
}
