package custody

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
)

// Made is what the token made for a change, or its ceremony brought.
type Made struct {
	// Keys, of key.create and key.import, are in the order of the change's keys. Of backup.create they are the copies of masters under the
	// new backup key: every key that had a copy, and any others.
	Keys []MadeKey
	// Attempt is the claim by which keys were made (see AttemptID); 0 is the first, and a ceremony's.
	Attempt   int
	Transport *MadeTransport // of transport.import
	Backup    *Backup        // of backup.create; Created and Changed are filled by Apply
}

// MadeKey is one key that was made, or of which a copy was made.
type MadeKey struct {
	Set string
	Name
	KCV     CheckValue
	Label   string
	ID      string // CKA_ID, hex
	Wrapped string // under the backup key, hex
}

// MadeTransport is a transport key that was entered.
type MadeTransport struct {
	KCV   CheckValue
	Label string
}

// Reasons for which a change is refused, for errors.Is; each is wrapped with what exactly is wrong.
var (
	ErrExpired       = errors.New("the change has expired")
	ErrBaseChanged   = errors.New("what the change is about was changed since it was proposed")
	ErrNotAnOfficer  = errors.New("no officer of that name")
	ErrOwnChange     = errors.New("nobody approves a change of their own")
	ErrApprovedTwice = errors.New("the officer has approved this change already")
	ErrWrongChange   = errors.New("the signature is over another change")
	ErrSignature     = errors.New("the signature does not verify")
	ErrNotOpen       = errors.New("the change is not open")
	ErrNoQuorum      = errors.New("too few approvals")
	ErrBusy          = errors.New("another change is at work on the key set")
	ErrSameKey       = errors.New("two keys of one algorithm have one check value")
	ErrInvalid       = errors.New("the change cannot be applied") // by the rules of its act
	ErrOfficersFew   = errors.New("too few officers for the quorum")
	ErrNotAuthor     = errors.New("only its author cancels a change")
	ErrOwnRemoval    = errors.New("nobody rejects the removal or replacement of themselves")
	ErrUnknown       = errors.New("there is no such change")
	ErrMalformed     = errors.New("the change is malformed")
	ErrToken         = errors.New("the token did not do it")
)

// invalid is an ErrInvalid with its reason.
func invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, arguments...))
}

// NeedsCeremony reports whether an act is executed by a ceremony, which brings what it made, rather than by the last approval.
func NeedsCeremony(act policy.Act) bool {
	return slices.Contains([]policy.Act{policy.ImportKey, policy.ExportKey, policy.ImportTransport, policy.CreateBackup}, act)
}

// NeedsToken reports whether the last approval of an act sets the token to work.
func NeedsToken(act policy.Act) bool {
	return slices.Contains([]policy.Act{policy.CreateKey, policy.DestroyKey, policy.DestroyTransport}, act)
}

// ObjectID is the CKA_ID of a key that a change makes: the first 16 bytes of SHA-256 over the change's id and the key's label, in hex.
// It is known before the token is touched, so that after a power cut what was made is found, and nothing else is.
func ObjectID(changeID, label string) string {
	sum := sha256.Sum256([]byte(changeID + "\n" + label))
	return hex.EncodeToString(sum[:16])
}

// AttemptID is the CKA_ID of a key that a claim makes: of the first, ObjectID. Each claim has ids of its own, so that one which was taken over
// can destroy nothing but what it made itself.
func AttemptID(changeID, label string, attempt int) string {
	if attempt <= 1 {
		return ObjectID(changeID, label)
	}
	return ObjectID(changeID, fmt.Sprintf("%s\n%d", label, attempt))
}

// Label is the CKA_LABEL of a key of a set: SET/KIND/VERSION.
func Label(set string, name Name) string {
	return fmt.Sprintf("%s/%v/%d", set, name.Kind, name.Version)
}

// Propose completes a change: it checks that it can be applied now, and fills Base. The id, the author and the times are the caller's;
// times are cut to whole seconds of UTC.
func (c Catalogue) Propose(change Change, now time.Time) (Change, error) {
	change.Format = changeFormat
	change.Proposed, change.Expires = wholeSecond(change.Proposed), wholeSecond(change.Expires)
	if change.Keys != nil {
		keys := *change.Keys
		keys.ActivateAt, keys.Due = wholeSecond(keys.ActivateAt), wholeSecond(keys.Due)
		change.Keys = &keys
	}
	change = c.completed(change)
	var err error
	if change.Base, err = c.Base(change); err != nil {
		return Change{}, err
	}
	if err := change.check(); err != nil {
		return Change{}, err
	}
	if err := c.Allows(change, now); err != nil {
		return Change{}, err
	}
	if NeedsCeremony(change.Act) || change.Act == policy.CreateKey {
		return change, nil // what it makes is not known yet
	}
	_, err = c.Apply(change, Made{}, now)
	return change, err
}

func wholeSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Base is the digest of what a change is about: of officers and quorum, of the key set, of the transport key or of the backup key, and
// of what else the change's result rests on.
func (c Catalogue) Base(change Change) (string, error) {
	var about struct {
		Officers  []Officer      `json:"officers,omitempty"`
		Quorum    *policy.Quorum `json:"quorum,omitempty"`
		KeySet    *KeySet        `json:"keySet,omitempty"`
		Transport *Transport     `json:"transport,omitempty"`
		Backup    *Backup        `json:"backup,omitempty"`
		Client    *policy.Client `json:"client,omitempty"`
		Rules     *policy.Rules  `json:"rules,omitempty"`
	}
	set := func(name string) {
		if found := c.KeySet(name); found != nil {
			idle := *found
			idle.Changing = ""
			about.KeySet = &idle
		}
	}
	switch {
	case change.Officer != nil, change.Quorum != nil:
		about.Officers, about.Quorum = c.Officers, &c.Quorum
	case change.KeySet != nil:
		set(change.KeySet.Name)
	case change.Keys != nil:
		set(change.Keys.Set)
		about.Transport = c.Transport(change.Keys.Transport)
		if change.makesKeys() && !change.Keys.WithoutBackup {
			about.Backup = c.Backup
		}
	case change.Transport != nil:
		about.Transport = c.Transport(change.Transport.Name)
	case change.Backup != nil:
		about.Backup = c.Backup
		for _, holder := range change.Backup.Holders {
			if o, ok := c.Officer(holder); ok {
				about.Officers = append(about.Officers, o)
			}
		}
	case change.Purse != nil:
		set(change.Purse.KeySet)
	case change.Client != nil: // what it may do is in the documents
		about.Client = c.Client(change.Client.Name)
		about.Rules = &policy.Rules{Policies: c.Rules.Policies, Limits: c.Rules.Limits}
	case change.Policy != nil:
		about.Rules = &policy.Rules{Policies: c.Rules.Policies, Limits: c.Rules.Limits}
	}
	line, err := json.Marshal(about)
	if err != nil {
		return "", fmt.Errorf("change: base: %w", err)
	}
	return digest(line), nil
}

// Allows refuses a change whose base is another, or that the rules of its act do not let through, before anything is made for it.
func (c Catalogue) Allows(change Change, now time.Time) error {
	base, err := c.Base(change)
	switch {
	case err != nil:
		return err
	case base != change.Base:
		return ErrBaseChanged
	}
	if set := c.KeySet(change.set()); set != nil && set.Changing != "" && set.Changing != change.ID {
		return fmt.Errorf("%w: key set %s, change %s", ErrBusy, set.Name, set.Changing)
	}
	return c.allow(change, now)
}

// set is the key set that a change is about, or "".
func (c Change) set() string {
	switch {
	case c.Keys != nil:
		return c.Keys.Set
	case c.KeySet != nil:
		return c.KeySet.Name
	}
	return ""
}

// Apply is the catalogue after the change, at the next revision. It changes nothing of c.
func (c Catalogue) Apply(change Change, made Made, now time.Time) (Catalogue, error) {
	if err := change.check(); err != nil {
		return Catalogue{}, err
	}
	if err := c.Allows(change, now); err != nil {
		return Catalogue{}, err
	}
	next := c.clone()
	if err := next.carryOut(change, made, wholeSecond(now)); err != nil {
		return Catalogue{}, err
	}
	next.Revision++
	if set := next.KeySet(change.set()); set != nil {
		set.Changing = ""
	}
	if err := next.checkButRules(); err != nil {
		return Catalogue{}, err
	}
	if change.Client != nil || change.Policy != nil {
		if err := checkRules(next.Rules); err != nil {
			return Catalogue{}, err
		}
		if err := c.checkNames(next.Rules); err != nil {
			return Catalogue{}, err
		}
	}
	return next.clone(), nil // that shares nothing with the change
}

// Begin is the catalogue, at the next revision, while a node is at work in the token for the change: no other change of its key set is
// applied until it is. End takes that back.
func (c Catalogue) Begin(change Change, now time.Time) (Catalogue, error) {
	if err := c.Allows(change, now); err != nil {
		return Catalogue{}, err
	}
	return c.marked(change, change.ID), nil
}

// End is the catalogue, at the next revision, after work in the token that came to nothing.
func (c Catalogue) End(change Change) Catalogue { return c.marked(change, "") }

func (c Catalogue) marked(change Change, id string) Catalogue {
	next := c.clone()
	next.Revision++
	if set := next.KeySet(change.set()); set != nil {
		set.Changing = id
	}
	return next
}

// carryOut makes c what a change that is allowed makes of it.
func (c *Catalogue) carryOut(change Change, made Made, now time.Time) error {
	switch change.Act {
	case policy.AddOfficer, policy.RemoveOfficer, policy.ReplaceOfficer:
		c.carryOutOfficer(change, now)
	case policy.SetQuorum:
		c.Quorum = *change.Quorum
	case policy.CreateKeySet:
		c.KeySets = append(c.KeySets, KeySet{Definition: *change.KeySet})
		slices.SortFunc(c.KeySets, func(a, b KeySet) int { return cmp.Compare(a.Name, b.Name) })
	case policy.UpdateKeySet:
		c.KeySet(change.KeySet.Name).Definition = *change.KeySet
	case policy.CreateKey, policy.ImportKey:
		return c.carryOutNewKeys(change, made, now)
	case policy.ImportTransport, policy.DestroyTransport:
		return c.carryOutTransport(change, made.Transport, now)
	case policy.CreateBackup:
		return c.carryOutBackup(change, made, now)
	case policy.ActivateKey, policy.SuspendKey, policy.ResumeKey, policy.DeactivateKey, policy.CompromiseKey, policy.DestroyKey:
		c.carryOutState(change, now)
	case policy.AddClient, policy.ReplaceClient, policy.RemoveClient, policy.SuspendClient, policy.ResumeClient, policy.SetPolicy:
		c.Rules = RulesAfter(c.Rules, change)
	case policy.ExportKey, policy.ResetPurse: // nothing of it is in the catalogue, but its revision
	default:
		return invalid("act %q", change.Act)
	}
	return nil
}
