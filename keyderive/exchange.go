package keyderive

import (
	"context"
	"errors"

	"github.com/pursekeeper/pursekeeper/crypto/pad"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Exchange is one online transaction as its MACs see it (EPURSE.md §5.1, §5.3, §5.4). Nothing of it is secret but, until it was
// compared, what MAC1 should be.
type Exchange struct {
	Card  Factor // the card's factor: derives its key from the key at the issuer levels
	In    Factor // the input IN of its session key (EPURSE.md §3)
	Proof []byte // what the card's MAC covers, not padded
	Got   MAC    // the MAC that the card sent over Proof
	Issue []byte // what the issued MAC covers, not padded
}

// Inputs are what derives the card key from the key at the issuer levels, and the session key from the card key, for engines.
func (x Exchange) Inputs(alg suite.Algorithm) (card, session [16]byte) {
	return x.Card.input(), sessionInput(alg, x.In)
}

// Padded is what an engine's CBC encryption of which the last block begins with the card's MAC and the issued one.
func (x Exchange) Padded(alg suite.Algorithm) (proof, issue []byte) {
	return pad.Always(x.Proof, alg.BlockSize()), pad.Always(x.Issue, alg.BlockSize())
}

// Exchanger is a Key that can answer an online transaction at once, where each step of a Lend costs a way into the engine.
//
// Exchange does what WithCard, Session and Answer do one after another, under the duties of Lend: it derives the two keys, compares
// Got in constant time, and only when it is right computes the issued MAC; a difference is ErrMismatch, and what was derived is
// destroyed before it returns. ErrUnsupported, before any MAC is issued, says that this key has no such way.
type Exchanger interface {
	Exchange(ctx context.Context, levels Path, x Exchange) (MAC, error)
}

// Exchange verifies the card's MAC and, only when it is right, returns the issued one: at once where the engine can (Exchanger), else
// step by step.
func (m Master) Exchange(ctx context.Context, x Exchange) (MAC, error) {
	if at, ok := m.key.(Exchanger); ok {
		if issued, err := at.Exchange(ctx, m.issuer, x); !errors.Is(err, ErrUnsupported) {
			return issued, err
		}
	}
	issued := new(MAC) // not a result variable: after an early return the loan may still write it
	err := m.WithCard(ctx, x.Card, func(card Card) error {
		session, err := card.Session(x.In)
		if err != nil {
			return err
		}
		*issued, err = session.Answer(x.Proof, x.Got, x.Issue)
		return err
	})
	if err != nil {
		return MAC{}, err
	}
	return *issued, nil
}
