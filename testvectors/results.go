package testvectors

import (
	"context"
	"crypto/subtle"
	"errors"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Outcome is what became of one value. The zero value is invalid.
type Outcome uint8

// The outcomes.
const (
	Compared Outcome = iota + 1 // shown, and right
	ByEffect                    // not shown; what it produces is right
	Refused                     // wrong, and refused as the vector expects
	Failed
)

// check is the outcome of one value; got and problem are those of a failed one.
type check struct {
	value   Value
	outcome Outcome
	got     []byte // nil when the engine did not show it
	problem string
}

// results collects the checks of one vector on one engine. sight is what the current loan shows, nil for nothing.
type results struct {
	checks []check
	sight  *sight
}

// macer is a key that makes and verifies MACs: a session or TAC key of package keyderive.
type macer interface {
	MAC(data []byte) (keyderive.MAC, error)
	Verify(data []byte, got keyderive.MAC) error
}

func (r *results) add(value Value, outcome Outcome) {
	r.checks = append(r.checks, check{value: value, outcome: outcome})
}

func (r *results) fail(value Value, problem string, got []byte) {
	r.checks = append(r.checks, check{value, Failed, got, problem})
}

// The ways to fail.
const (
	problemDiffers   = "differs"
	problemAccepted  = "accepted, expected to be refused"
	problemEffect    = "differs by its effect"
	problemDerived   = "is encrypted right, but the key derived from it computes otherwise"
	problemUnchecked = "was not compared"
)

// verify has the engine's own verification judge a MAC that the card makes.
func (r *results) verify(key macer, value Value, data []byte, values outputs) error {
	return r.verdict(key, value, data, key.Verify(data, keyderive.MAC(values.out[value])), values)
}

// verdict notes what verification said of a value, and for a refusal that nobody expected, what it should have been. An
// error other than a mismatch is returned.
func (r *results) verdict(key macer, value Value, data []byte, err error, values outputs) error {
	expectRefusal := values.refused == value
	switch {
	case err == nil && expectRefusal:
		r.fail(value, problemAccepted, values.out[value])
	case err == nil:
		r.add(value, Compared)
	case !errors.Is(err, keyderive.ErrMismatch):
		return err
	case expectRefusal:
		r.add(value, Refused)
	default:
		got, err := key.MAC(data)
		if err != nil {
			return err
		}
		r.fail(value, problemDiffers, got[:])
	}
	return nil
}

// compareMAC compares a MAC that the host makes; to refuse a wrong one is to find it different.
func (r *results) compareMAC(value Value, got keyderive.MAC, values outputs) {
	same := cbcmac.Equal(got, keyderive.MAC(values.out[value]))
	switch expectRefusal := values.refused == value; {
	case same && expectRefusal:
		r.fail(value, problemAccepted, got[:])
	case same:
		r.add(value, Compared)
	case expectRefusal:
		r.add(value, Refused)
	default:
		r.fail(value, problemDiffers, got[:])
	}
}

// compare compares bytes that are sent.
func (r *results) compare(value Value, got []byte, values outputs) {
	if subtle.ConstantTimeCompare(got, values.out[value]) != 1 {
		r.fail(value, problemDiffers, got)
		return
	}
	r.add(value, Compared)
}

// sessionKey compares a session key that was derived just now.
func (r *results) sessionKey(session keyderive.Session, values outputs) error {
	want := values.out[SessionKeyValue]
	effect, err := probeSession(session, values.alg, want)
	if err != nil {
		return err
	}
	var shown []byte
	if r.sight != nil {
		if shown = r.sight.last(); values.alg == suite.TDES && len(shown) == suite.KeySize {
			shown = shown[:suite.KeySize/2] // K of K‖K
		}
	}
	r.compareKey(SessionKeyValue, want, shown, effect, values)
	return nil
}

// cardKey compares a card key that was diversified by factor.
func (r *results) cardKey(ctx context.Context, kind keyderive.Kind, card keyderive.Card, factor keyderive.Factor, values outputs) error {
	want := values.out[CardKeyValue]
	effect, err := probeCard(ctx, kind, card, values.alg, want)
	if err != nil {
		return err
	}
	var shown []byte
	if r.sight != nil {
		shown = r.sight.card(factor)
	}
	r.compareKey(CardKeyValue, want, shown, effect, values)
	return nil
}

// compareKey judges a key by its value, where the engine shows it, and always by its effect.
func (r *results) compareKey(value Value, want, shown []byte, effect bool, values outputs) {
	switch {
	case shown == nil && effect:
		r.add(value, ByEffect)
	case shown == nil:
		r.fail(value, problemEffect, nil)
	case !sameKey(values.alg, want, shown):
		r.fail(value, problemDiffers, shown)
	case !effect:
		r.fail(value, problemDerived, shown)
	default:
		r.add(value, Compared)
	}
}
