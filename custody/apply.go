package custody

import (
	"errors"
	"time"
)

// Made is what the token made for one key of a change, or its ceremony brought.
type Made struct {
	Name
	KCV     CheckValue
	Label   string
	ID      string // CKA_ID, hex
	Wrapped string // under the backup key, hex
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
)

var errNotBuilt = errors.New("not built")

// Propose completes a change: it checks that it can be applied now, and fills Base. The id, the author and the times are the caller's.
func (c Catalogue) Propose(change Change, now time.Time) (Change, error) {
	return Change{}, errNotBuilt
}

// Base is the digest of what a change is about: of the key set, of officers and quorum, of the transport keys, or of the backup key.
func (c Catalogue) Base(change Change) (string, error) { return "", errNotBuilt }

// Apply is the catalogue after the change, at the next revision. made is what the token made, in the order of the change's keys.
func (c Catalogue) Apply(change Change, made []Made, now time.Time) (Catalogue, error) {
	return Catalogue{}, errNotBuilt
}
