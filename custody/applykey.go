package custody

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// becomes is the state that an act on existing keys brings them to.
var becomes = map[policy.Act]KeyState{
	policy.ActivateKey: Active, policy.SuspendKey: Suspended, policy.ResumeKey: Active, policy.DeactivateKey: Deactivated,
	policy.CompromiseKey: Compromised, policy.DestroyKey: Destroyed,
}

// makesKeys reports whether the act brings keys that were not there.
func (c Change) makesKeys() bool { return c.Act == policy.CreateKey || c.Act == policy.ImportKey }

// atProcess reports whether the change brings a key that will be in the process's memory.
func (c Change) atProcess() bool {
	return c.makesKeys() && c.Keys != nil &&
		slices.ContainsFunc(c.Keys.Keys, func(k KeyChange) bool { return k.Boundary == keyderive.BoundaryProcess })
}

func (c Catalogue) allowKeys(change Change, now time.Time) error {
	keys := change.Keys
	set := c.KeySet(keys.Set)
	if set == nil {
		return invalid("there is no key set %s", keys.Set)
	}
	if keys.Transport != "" && c.Transport(keys.Transport) == nil {
		return invalid("there is no transport key %s", keys.Transport)
	}
	if change.makesKeys() && !keys.WithoutBackup && c.Backup == nil {
		return invalid("there is no backup key, and the change does not say that no copy is kept")
	}
	for _, k := range keys.Keys {
		var err error
		if change.makesKeys() {
			err = c.allowNewKey(set, k)
		} else {
			err = set.allowKnownKey(change, k, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c Catalogue) allowNewKey(set *KeySet, k KeyChange) error {
	if set.Key(k.Name) != nil {
		return invalid("key set %s has key %v already: a version is used once", set.Name, k.Name)
	}
	if k.KCV == "" {
		return nil
	}
	return c.newMaster(set, CheckValue{Value: k.KCV, Algorithm: set.Algorithm.String()})
}

// newMaster refuses a check value that a key of the algorithm has, in any set and any state: a destroyed key comes back as little as a
// suspended one lives on under another version.
func (c Catalogue) newMaster(set *KeySet, v CheckValue) error {
	for _, other := range c.KeySets {
		for _, k := range other.Keys {
			if k.KCV == v {
				return invalid("%w: %s is key %s's", ErrSameKey, v.Value, Label(other.Name, k.Name))
			}
		}
	}
	return nil
}

func (s *KeySet) allowKnownKey(change Change, k KeyChange, now time.Time) error {
	known := s.Key(k.Name)
	if known == nil {
		return invalid("key set %s has no key %v", s.Name, k.Name)
	}
	if known.KCV.Value != k.KCV {
		return invalid("key %s has check value %s, not %s", Label(s.Name, k.Name), known.KCV.Value, k.KCV)
	}
	state := known.At(now)
	to, changes := becomes[change.Act]
	switch {
	case !changes: // key.export
		if state == Destroyed || state == Compromised {
			return invalid("key %s is %v", Label(s.Name, k.Name), state)
		}
		if known.Origin == fromBlock { // what is in a block of a purse master is exportability N, always
			return invalid("key %s came in a key block that says that it is not exportable", Label(s.Name, k.Name))
		}
		return nil
	case change.Act == policy.ActivateKey && state != PreActive, change.Act == policy.ResumeKey && state != Suspended, !state.MayBecome(to):
		return invalid("key %s is %v: %s does not apply", Label(s.Name, k.Name), state, change.Act)
	case change.Act == policy.DestroyKey && state == PreActive && !known.ActivateAt.IsZero():
		return invalid("key %s becomes active at %s: suspend it first, it could begin to sign while it is destroyed",
			Label(s.Name, k.Name), known.ActivateAt.Format(time.RFC3339))
	}
	return nil
}

func (c *Catalogue) carryOutState(change Change, now time.Time) {
	set := c.KeySet(change.Keys.Set)
	for _, k := range change.Keys.Keys {
		key := set.Key(k.Name)
		key.Changed = change.ID
		key.ActivateAt = time.Time{}
		if at := change.Keys.ActivateAt; change.Act == policy.ActivateKey && at.After(now) {
			key.ActivateAt = at
			continue
		}
		key.State = becomes[change.Act]
		if key.State == Destroyed {
			key.Wrapped = "" // or it could come back
		}
	}
}

// carryOutNewKeys adds the keys that were made. They must be exactly the ones that were asked for.
func (c *Catalogue) carryOutNewKeys(change Change, brought Made, now time.Time) error {
	keys, made := change.Keys, brought.Keys
	set := c.KeySet(keys.Set)
	if len(made) != len(keys.Keys) {
		return invalid("%d keys were made, expected %d", len(made), len(keys.Keys))
	}
	for i, k := range keys.Keys {
		m := made[i]
		switch {
		case m.Set != set.Name || m.Name != k.Name || m.Label != Label(set.Name, k.Name):
			return invalid("key %s was made as %q, expected %s", Label(m.Set, m.Name), m.Label, Label(set.Name, k.Name))
		case m.ID != AttemptID(change.ID, m.Label, brought.Attempt):
			return invalid("key %s has id %s, expected %s", m.Label, m.ID, AttemptID(change.ID, m.Label, brought.Attempt))
		case m.KCV.Algorithm != set.Algorithm.String() || !masterKCV.MatchString(m.KCV.Value):
			return invalid("key %s has check value %q by %q, expected 6 hex digits by %v", m.Label, m.KCV.Value, m.KCV.Algorithm, set.Algorithm)
		case k.KCV != "" && m.KCV.Value != k.KCV:
			return invalid("key %s has check value %s, expected %s", m.Label, m.KCV.Value, k.KCV)
		case keys.WithoutBackup != (m.Wrapped == "") || m.Wrapped != "" && !isHex(m.Wrapped):
			return invalid("key %s has the copy %q; the change keeps one: %v", m.Label, m.Wrapped, !keys.WithoutBackup)
		}
		if err := c.newMaster(set, m.KCV); err != nil {
			return err
		}
		set.Keys = append(set.Keys, Key{
			Name: k.Name, State: PreActive, Boundary: k.Boundary, KCV: m.KCV, Label: m.Label, ID: m.ID, Origin: change.origin(k),
			Created: now, ActivateAt: keys.ActivateAt, Due: keys.Due, Wrapped: m.Wrapped, Changed: change.ID,
		})
	}
	slices.SortFunc(set.Keys, func(a, b Key) int { return a.Name.compare(b.Name) })
	return nil
}

func (c Change) origin(k KeyChange) string {
	switch {
	case c.Act == policy.CreateKey:
		return "generated"
	case k.Components > 0:
		return "components"
	}
	return fromBlock
}

// fromBlock is the Origin of a key that came in a key block; a restore keeps it.
const fromBlock = "key-block"

func (n Name) compare(other Name) int {
	return cmp.Or(cmp.Compare(n.Kind, other.Kind), cmp.Compare(n.Version, other.Version))
}

func isHex(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) > 0
}
