package audit

import "errors"

// Sealed is how far the record is sealed: the newest checkpoint, as it is signed. The zero value: nothing is.
type Sealed struct {
	Size       uint64 // entries 0 to Size-1
	Checkpoint string
}

// Lease is the right to seal. Of two that hold one, by a clock that was wrong or a pause, the database takes the word of the one
// with the higher fence alone.
type Lease struct {
	Holder string
	Fence  uint64 // 0: none
}

// Errors of leases.
var (
	// ErrLeaseHeld: another node seals.
	ErrLeaseHeld = errors.New("another node holds the sealing lease")
	// ErrFenced: another node took the lease; what this one would have marked is not marked.
	ErrFenced = errors.New("the sealing lease was taken by another node")
)
