package custody

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
)

// allow is what the rules of an act say of a change, before anything is made for it.
func (c Catalogue) allow(change Change, now time.Time) error {
	switch {
	case change.Officer != nil:
		return c.allowOfficer(change)
	case change.Quorum != nil:
		return change.Quorum.Validate()
	case change.KeySet != nil:
		return c.allowKeySet(change)
	case change.Keys != nil:
		return c.allowKeys(change, now)
	case change.Transport != nil:
		return c.allowTransport(change)
	case change.Backup != nil:
		return c.allowBackup(change)
	case change.Client != nil:
		return c.allowClient(change)
	case change.Policy != nil:
		return c.allowPolicy(*change.Policy)
	case change.Purse != nil && c.KeySet(change.Purse.KeySet) == nil:
		return invalid("there is no key set %s", change.Purse.KeySet)
	}
	return nil
}

func (c Catalogue) allowOfficer(change Change) error {
	_, there := c.Officer(change.Officer.Name)
	switch adds := change.Act == policy.AddOfficer; {
	case adds && there:
		return invalid("officer %s is there already", change.Officer.Name)
	case !adds && !there:
		return invalid("%w: %s", ErrNotAnOfficer, change.Officer.Name)
	}
	for _, o := range c.Officers {
		if o.Key == change.Officer.Key {
			return invalid("the key is officer %s's already", o.Name)
		}
	}
	return nil
}

func (c *Catalogue) carryOutOfficer(change Change, now time.Time) {
	name := change.Officer.Name
	c.Officers = slices.DeleteFunc(c.Officers, func(o Officer) bool { return o.Name == name })
	if change.Act == policy.RemoveOfficer {
		return
	}
	c.Officers = append(c.Officers, Officer{Name: name, Key: change.Officer.Key, Recipient: change.Officer.Recipient, Since: now})
	slices.SortFunc(c.Officers, func(a, b Officer) int { return cmp.Compare(a.Name, b.Name) })
}

func (c Catalogue) allowKeySet(change Change) error {
	set, def := c.KeySet(change.KeySet.Name), change.KeySet
	switch creates := change.Act == policy.CreateKeySet; {
	case creates && set != nil:
		return invalid("key set %s is there already", def.Name)
	case creates:
		return nil
	case set == nil:
		return invalid("there is no key set %s", def.Name)
	case len(set.Keys) == 0:
		return nil
	case def.Algorithm != set.Algorithm:
		return invalid("key set %s has keys of %v", def.Name, set.Algorithm)
	case def.Issuer != set.Issuer || !slices.Equal(def.Factors, set.Factors):
		return invalid("key set %s has keys: other issuer factors would derive other card keys", def.Name)
	}
	return nil
}

func (c Catalogue) allowTransport(change Change) error {
	t, there := change.Transport, c.Transport(change.Transport.Name)
	switch imports := change.Act == policy.ImportTransport; {
	case imports && there != nil:
		return invalid("transport key %s is there already", t.Name)
	case imports:
		return nil
	case there == nil:
		return invalid("there is no transport key %s", t.Name)
	case t.KCV != there.KCV.Value:
		return invalid("transport key %s has check value %s, not %s", t.Name, there.KCV.Value, t.KCV)
	}
	return nil
}

func (c *Catalogue) carryOutTransport(change Change, made *MadeTransport, now time.Time) error {
	t := change.Transport
	if change.Act == policy.DestroyTransport {
		c.Transports = slices.DeleteFunc(c.Transports, func(one Transport) bool { return one.Name == t.Name })
		return nil
	}
	switch {
	case made == nil || made.Label == "":
		return invalid("transport key %s: it was not entered", t.Name)
	case made.KCV != t.checkValue():
		return invalid("transport key %s has check value %s (%s), expected %s", t.Name, made.KCV.Value, made.KCV.Algorithm, t.KCV)
	}
	c.Transports = append(c.Transports, Transport{
		Name: t.Name, Bits: t.Bits, KCV: made.KCV, Label: made.Label, Created: now, Changed: change.ID,
	})
	slices.SortFunc(c.Transports, func(a, b Transport) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (c Catalogue) allowBackup(change Change) error {
	for _, holder := range change.Backup.Holders {
		o, there := c.Officer(holder)
		switch {
		case !there:
			return invalid("%w: %s", ErrNotAnOfficer, holder)
		case !o.takesShares():
			return invalid("officer %s has no recipient, and nothing can be encrypted to a key of its kind", holder)
		}
	}
	return nil
}

// carryOutBackup puts the new backup key in place of the old. Every key that had a copy under the old one must have one under the new.
func (c *Catalogue) carryOutBackup(change Change, made Made, now time.Time) error {
	b := made.Backup
	if b == nil || b.Label == "" || b.KCV.Value == "" {
		return invalid("no backup key was made")
	}
	var holders []string
	for _, s := range b.Shares {
		if s.Ciphertext == "" {
			return invalid("the share of %s is empty", s.Holder)
		}
		holders = append(holders, s.Holder)
	}
	expected := change.Backup.Holders
	if change.Backup.Vault != "" {
		expected = []string{VaultHolder}
	}
	if !slices.Equal(holders, expected) || b.Threshold != change.Backup.Threshold {
		return invalid("the backup key was split %d of %v, expected %d of %v", b.Threshold, holders, change.Backup.Threshold, expected)
	}
	if err := c.replaceCopies(made.Keys); err != nil {
		return err
	}
	replaced := *b
	replaced.Created, replaced.Changed = now, change.ID
	c.Backup = &replaced
	return nil
}

// replaceCopies puts copies under a new backup key in place of those under the old.
func (c *Catalogue) replaceCopies(keys []MadeKey) error {
	copies := map[string]string{}
	for _, k := range keys {
		copies[Label(k.Set, k.Name)] = k.Wrapped
	}
	for i := range c.KeySets {
		set := &c.KeySets[i]
		for j := range set.Keys {
			k := &set.Keys[j]
			label := Label(set.Name, k.Name)
			copied := copies[label]
			delete(copies, label)
			switch {
			case k.State == Destroyed && copied != "":
				return invalid("key %s is destroyed, and a copy of it was made", label)
			case k.Wrapped != "" && copied == "":
				return invalid("key %s has a copy under the old backup key and none under the new", label)
			case copied != "" && !isHex(copied):
				return invalid("the copy of key %s is no hex", label)
			}
			k.Wrapped = copied
		}
	}
	if len(copies) > 0 {
		return invalid("there are no keys %v, of which copies were made", slices.Sorted(maps.Keys(copies)))
	}
	return nil
}

// VaultHolder is the holder of the only share when Vault's transit engine has it.
const VaultHolder = "vault"

// Transport finds a transport key by name; nil when there is none.
func (c *Catalogue) Transport(name string) *Transport {
	i := slices.IndexFunc(c.Transports, func(t Transport) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Transports[i]
}

// checkValue is the check value that the transport key must have: of AES by CMAC, of 3DES E(0).
func (t TransportChange) checkValue() CheckValue {
	if t.isAES() {
		return CheckValue{Value: t.KCV, Algorithm: "AES-CMAC"}
	}
	return CheckValue{Value: t.KCV, Algorithm: "3DES"}
}

// QuorumFor is how many officers other than its author must approve a change under the catalogue. A key that will be in the process's
// memory needs what its act needs and what policy.AtProcess needs. Whoever may lower a quorum, or make officers of his own, has it: so
// quorum.set, officer.add and officer.replace need as many as the act that needs most, and so does a certificate that lets somebody propose as an
// officer: whoever has it approves his own change. What takes an officer's client away takes the officer out of office, and needs as many as
// officer.remove.
func (c Catalogue) QuorumFor(change Change) (int, error) {
	n, ok := c.Quorum.Needs(change.Act)
	if ok && change.atProcess() {
		var more int
		more, ok = c.Quorum.Needs(policy.AtProcess)
		n = max(n, more)
	}
	if slices.Contains([]policy.Act{policy.SetQuorum, policy.AddOfficer, policy.ReplaceOfficer}, change.Act) || change.makesOfficersClient() {
		n = max(n, c.Quorum.Most())
	}
	if out, named := c.Quorum.Needs(policy.RemoveOfficer); named && change.takesOfficersClient() {
		n = max(n, out)
	}
	if !ok {
		return 0, fmt.Errorf("%w: there is no quorum for %s: no officers are registered", ErrNoQuorum, change.Act)
	}
	return n, nil
}
