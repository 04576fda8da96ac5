package hsm

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// LendCards lends many cards of one key, one after another and in order, and has the token make their keys in as few calls as
// there are hundreds: the bulk path of a key at the CARD boundary, and at PROCESS with one unsealing for hundreds. Where the token derives no issuer-level key, that key is in locked
// memory (as it is for Lend), and so the cards' keys are made there too. Cards are used on the caller's goroutine; several callers may
// share the work. use may keep nothing of a card.
func (k *Key) LendCards(ctx context.Context, path keyderive.Path, cards []keyderive.Factor, use func(i int, card keyderive.Card) error) error {
	g, err := k.token.generation()
	if err != nil {
		return err
	}
	e, err := g.borrow(k.spec)
	if err != nil {
		return err
	}
	defer e.drop()
	switch {
	case e.sealed != nil:
		return g.lendManySealed(ctx, e, path, cards, use)
	case e.spec.Boundary != keyderive.BoundaryCard:
		return fmt.Errorf("key %q: many cards at once: boundary %v: %w", e.spec.Label, e.spec.Boundary, keyderive.ErrUnsupported)
	}
	if err := e.checkLevels(path); err != nil {
		return err
	}
	if path.Len() > 0 && e.right == mayEncrypt {
		return g.lendManyWithoutDerivation(ctx, e, path, cards, use)
	}
	p, err := g.parent(ctx, e, path)
	if err != nil {
		return err
	}
	defer g.drop(p)
	for from := 0; from < len(cards); from += maxBatch {
		some := cards[from:min(from+maxBatch, len(cards))]
		if err := g.lendSome(ctx, e, p, some, func(i int, card keyderive.Card) error { return use(from+i, card) }); err != nil {
			return err
		}
	}
	return nil
}

// lendSome is LendCards for what one call of the token makes.
func (g *generation) lendSome(ctx context.Context, e *entry, p *parent, cards []keyderive.Factor, use func(i int, card keyderive.Card) error) error {
	var keys secret.Bytes // the card keys, in locked memory until the end of this function
	j := newJob(func(s *session) (_, fault error) {
		keys, fault = s.manyCardKeys(e, p, cards)
		return nil, fault
	})
	g.hold(p)
	j.released = func() { g.drop(p) }
	j.discard = func() { keys.Wipe() }
	if err := g.do(ctx, g.jobs, j); err != nil {
		return err
	}
	defer keys.Wipe()
	value := keys.Reveal("to lend card keys one by one")
	for i := range cards {
		if err := e.lendOne(value[i*suite.KeySize:][:suite.KeySize], func(card keyderive.Card) error { return use(i, card) }); err != nil {
			return err
		}
	}
	return nil
}

// lendManyWithoutDerivation is LendCards on a token that does not derive. The token makes the issuer-level key once for some hundreds of
// cards, whose keys are in locked memory until those are done.
func (g *generation) lendManyWithoutDerivation(ctx context.Context, e *entry, path keyderive.Path, cards []keyderive.Factor,
	use func(i int, card keyderive.Card) error,
) error {
	for from := 0; from < len(cards); from += maxBatch {
		some := cards[from:min(from+maxBatch, len(cards))]
		err := g.lendWithoutDerivation(ctx, e, path, func(issuer keyderive.Unit) error {
			return keyderive.EachCard(e.spec.Algorithm, issuer, some, func(i int, card keyderive.Card) error { return use(from+i, card) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *entry) lendOne(value []byte, use func(keyderive.Card) error) error {
	key := secret.Copy(value) // to the end of this function
	defer key.Wipe()
	loan := &memoryLoan{spec: &e.spec}
	defer loan.end()
	whole, left, err := loan.card(key)
	if err != nil {
		return err
	}
	return use(keyderive.CardOf(e.spec.Algorithm, whole, left))
}
