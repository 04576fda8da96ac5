// Package keyderive is the key schedule of the purse as types: master → issuer levels → card → session (EPURSE.md §2, §3).
//
// A session key cannot be asked of a master key, nor an ECB block of a load key: the wrong order does not compile. The
// package computes with no key itself. It says what to derive and in which order, and an engine that implements [Key] does
// it: a token (package hsm), or bytes in locked memory ([InMemory]). Both engines pass the same vectors.
//
//	Master ──WithCard──▶ Card ──Session──▶ Session    MAC1, MAC2, MAC3
//	                       ├────TAC──────▶ TAC        transaction certificate
//	                       └────Messaging▶ Messaging  secure messaging, cryptograms
package keyderive

import (
	"context"
	"errors"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Key is a 16-byte master key inside an engine.
//
// An implementer owes three duties: everything derived during a Lend is destroyed before Lend returns; the key's bytes are
// in no error; and a call whose outcome is not certain is an error, never a value.
type Key interface {
	// Algorithm is the suite of the key, which no caller can change.
	Algorithm() suite.Algorithm

	// Lend diversifies the master by levels, root first (§2), and lends the resulting key to use: the master itself when
	// levels is empty. The engine may keep the key at levels between calls, so levels are the issuer's, never a card's.
	// use runs at most once, perhaps on another goroutine, and may still be running when Lend returns early because ctx
	// ended: use must hand results over only through memory that the caller leaves alone after an error.
	Lend(ctx context.Context, levels Path, use func(Unit) error) error
}

// ManyLender is a Key that can make the keys of many cards at once. LendCards lends them to use one after another, in order, on
// one goroutine, under the duties of Lend; ErrUnsupported, before any use, says that this key has no such way. use may keep
// nothing of a card.
type ManyLender interface {
	LendCards(ctx context.Context, levels Path, cards []Factor, use func(i int, card Card) error) error
}

// Unit is a key on loan, valid until the function that it was lent to returns, and used by one goroutine.
type Unit interface {
	// Derive makes the 16-byte key whose value is the ECB encryption of data under this key: two blocks of 3DES, one of
	// SM4. purpose is all that the new key may do.
	Derive(data [16]byte, purpose Purpose) (Unit, error)

	// FoldHalves makes the single-DES key "left half XOR right half" (§4, TAC and RELOAD PIN of the 3DES suite), or fails
	// with ErrUnsupported where the engine cannot do so without showing a half.
	FoldHalves() (Unit, error)

	// CBC encrypts a positive whole number of blocks from iv (nil is zeros) and returns the last block alone.
	CBC(iv, padded []byte) ([]byte, error)

	// ECB encrypts a positive whole number of blocks and returns them all.
	ECB(blocks []byte) ([]byte, error)
}

// Purpose is what a derived key is for; an engine gives it no other right. The zero value is invalid.
type Purpose uint8

// The purposes.
const (
	ToDerive  Purpose = iota + 1 // parent of further keys, computes nothing
	ToEncrypt                    // CBC-MAC and encryption, parent of none
	ToFold                       // FoldHalves, nothing else
)

// ErrUnsupported says that an engine's device lacks a mechanism; the boundary of the key must be another (DESIGN, §2).
var ErrUnsupported = errors.New("the token lacks the mechanism")
