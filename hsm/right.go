package hsm

import (
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Depths of a unit on loan.
const (
	depthLent    = iota // what Lend lends: the master, or its key at the issuer levels
	depthCard           // the card key, or its left half twice
	depthSession        // the session key, or the folded key
)

// errRight says that a unit was asked for what its kind never does: a bug of the caller, stopped here as well as in the token.
var errRight = errors.New("the key has no such right")

// mayBecome says what a derived key may be for (EPURSE.md §1, DESIGN §2): the card key of a deriving kind derives session
// keys and answers no block; that of a folding kind is folded in the 3DES suite; the others are used directly.
func mayBecome(spec *KeySpec, depth int, purpose keyderive.Purpose) error {
	var want keyderive.Purpose
	switch {
	case depth == depthSession && spec.Kind.Derives():
		want = keyderive.ToEncrypt
	case depth != depthCard:
		return fmt.Errorf("derive from a %v key at depth %d: %w", spec.Kind, depth, errRight)
	case spec.Kind.Derives():
		want = keyderive.ToDerive
	case spec.Kind.Folds() && spec.Algorithm == suite.TDES:
		want = keyderive.ToFold
	default:
		want = keyderive.ToEncrypt
	}
	if purpose != want {
		return fmt.Errorf("derive a %v key for purpose %d: %w", spec.Kind, purpose, errRight)
	}
	return nil
}

// mayLeave says which derived keys may leave as bytes, for WRITE KEY: a card's or a reader's own key, one step below the issuer
// levels, of a master whose boundary lets card keys into the process. No key at another depth, and none of a TOKEN master.
func mayLeave(spec *KeySpec, depth int) error {
	if depth != depthCard || !spec.Kind.Valid() {
		return fmt.Errorf("issue a %v key at depth %d: %w", spec.Kind, depth, errRight)
	}
	if spec.Boundary != keyderive.BoundaryCard && spec.Boundary != keyderive.BoundaryProcess {
		return fmt.Errorf("issue a %v key, boundary %v: %w", spec.Kind, spec.Boundary, keyderive.ErrStays)
	}
	return nil
}

// checkBlocks refuses what is not a positive whole number of blocks, before the token is asked.
func checkBlocks(alg suite.Algorithm, iv, data []byte) error {
	size := alg.BlockSize()
	if len(data) == 0 || len(data)%size != 0 {
		return fmt.Errorf("cipher input: %d bytes, expected a positive multiple of %d", len(data), size)
	}
	if iv != nil && len(iv) != size {
		return fmt.Errorf("cipher iv: %d bytes, expected %d", len(iv), size)
	}
	return nil
}
