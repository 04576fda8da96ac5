package hsm

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// use of a card key by its kind: the one purpose that mayBecome allows.
func (s *KeySpec) cardPurpose() keyderive.Purpose {
	switch {
	case s.Kind.Derives():
		return keyderive.ToDerive
	case s.Kind.Folds() && s.Algorithm == suite.TDES:
		return keyderive.ToFold
	}
	return keyderive.ToEncrypt
}

// ScratchCard is a card key that a vector gives directly, with no master.
type ScratchCard struct {
	scratch *Scratch
	whole   pkcs11.ObjectHandle // TOKEN: the card key, or L‖L of one to fold
	other   pkcs11.ObjectHandle // TOKEN: R‖R of one to fold, L‖L of one used directly
	memory  secret.Bytes        // CARD and PROCESS: the card key itself, in locked memory until Close
}

// ScratchCard takes a card key of 16 bytes for a replay. At the TOKEN boundary it becomes objects of the session with the right
// of its kind; at the others a card key is in locked memory anyway, and the token has no part. key stays the caller's, who wipes
// it.
func (t *Token) ScratchCard(ctx context.Context, spec KeySpec, key secret.Bytes) (*ScratchCard, error) {
	card := &ScratchCard{}
	var err error
	card.scratch, err = t.scratch(ctx, spec, key, func(g *generation, s *session, sc *Scratch, key secret.Bytes) error {
		if spec.Boundary != keyderive.BoundaryToken {
			card.memory = secret.Copy(key.Reveal("to keep the card key until Close"))
			return nil
		}
		return card.fill(g, s, sc, key)
	})
	if err != nil {
		return nil, err
	}
	return card, nil
}

// fill makes the objects that a card key of the kind needs in the token.
func (c *ScratchCard) fill(g *generation, s *session, sc *Scratch, key secret.Bytes) (err error) {
	value := key.Reveal("to write its halves as keys")
	twice := func(half []byte) (pkcs11.ObjectHandle, error) {
		both := secret.New(suite.KeySize) // a half twice, until it is in the token
		defer both.Wipe()
		b := both.Reveal("to write a half twice")
		copy(b, half)
		copy(b[8:], half)
		may := mayEncrypt
		if sc.entry.spec.Kind.Folds() {
			may = mayDerive
		}
		return sc.create(s, both, may)
	}
	switch purpose := sc.entry.spec.cardPurpose(); {
	case purpose == keyderive.ToDerive:
		c.whole, err = sc.create(s, key, mayDerive)
	case purpose == keyderive.ToFold && g.token.config.Profile.XORKeys == 0:
		err = fmt.Errorf("fold key halves: %w", keyderive.ErrUnsupported)
	case purpose == keyderive.ToFold:
		if c.whole, err = twice(value[:8]); err == nil {
			c.other, err = twice(value[8:])
		}
	default:
		c.whole, err = sc.create(s, key, mayEncrypt)
		if err == nil && sc.Algorithm() == suite.TDES {
			c.other, err = twice(value[:8])
		}
	}
	return err
}

// Lend lends the card key and L‖L of its left half, for keyderive.CardOf, under the duties of keyderive.Key.
func (c *ScratchCard) Lend(ctx context.Context, use func(whole, left keyderive.Unit) error) error {
	if err := c.scratch.begin(); err != nil {
		return err
	}
	defer c.scratch.entry.drop()
	g, e := c.scratch.generation, c.scratch.entry
	if c.memory.Len() != 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		loan := &memoryLoan{spec: &e.spec}
		defer loan.end()
		whole, left, err := loan.card(c.memory)
		if err != nil {
			return err
		}
		return use(whole, left)
	}
	j := g.loanJob(e, func(l *loan) error {
		purpose := e.spec.cardPurpose()
		whole := &tokenUnit{loan: l, key: c.whole, other: c.other, depth: depthCard, purpose: purpose}
		left := &tokenUnit{loan: l, key: c.other, depth: depthCard} // of no purpose, unless the kind has use for it
		if purpose == keyderive.ToEncrypt {
			left.purpose = purpose
		}
		return use(whole, left)
	})
	e.hold()
	j.released = e.drop
	return g.do(ctx, g.jobs, j)
}

// Close destroys the card key, as Scratch.Close does.
func (c *ScratchCard) Close() error {
	c.memory.Wipe()
	return c.scratch.Close()
}

// card makes the units of a card key in locked memory, which stays the caller's.
func (l *memoryLoan) card(key secret.Bytes) (whole, left keyderive.Unit, err error) {
	purpose := l.spec.cardPurpose()
	if whole, err = l.lend(key, depthCard, purpose); err != nil {
		return nil, nil, err
	}
	if purpose != keyderive.ToEncrypt || l.spec.Algorithm != suite.TDES {
		return whole, &memoryUnit{loan: l}, nil // of no purpose: the kind has no use for it
	}
	both := secret.New(suite.KeySize) // L‖L, wiped with the loan
	l.keys = append(l.keys, both)
	b := both.Reveal("to write the left half twice")
	half := key.Reveal("to take its left half")[:8]
	copy(b, half)
	copy(b[8:], half)
	left, err = l.lend(both, depthCard, purpose)
	return whole, left, err
}
