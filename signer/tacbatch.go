package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// MaxTACs is the most that one VerifyTacs takes.
const MaxTACs = 10_000

// TACResult is what came of one item: a Verification, or the error that the request alone would have had.
type TACResult struct {
	Verification
	Err error
}

// TACBatch is the answer to VerifyTacs: a result for each item, in the order of the items.
type TACBatch struct {
	Results                      []TACResult
	AuditIndex                   uint64 // of the whole batch, and of each item that was verified
	Verified, Mismatched, Failed int    // Failed: malformed, not permitted, or without a key that may verify
}

// VerifyTacs verifies up to MaxTACs, each by itself: a malformed item, or one of a key set that the caller may not use, fails
// alone. Each key set is asked for once; when none of the batch's may be used, the request itself is denied. Errors of the token
// and the store are the request's: nothing is answered.
//
// The record has one entry for the batch, and after it one for each item that was not verified, but for those that were denied:
// their key set's denial is recorded before.
func (s *Signer) VerifyTacs(ctx context.Context, caller policy.Caller, items []TACRequest) (TACBatch, error) {
	return withKeys(ctx, s, func(s view) (TACBatch, error) {
		if len(items) < 1 || len(items) > MaxTACs {
			return TACBatch{}, &purse.FieldError{Field: "items", Problem: fmt.Sprintf("%d, expected 1 to %d", len(items), MaxTACs)}
		}
		sets, err := s.permitTACs(ctx, caller, items)
		if err != nil {
			return TACBatch{}, err
		}
		return s.verifyTACs(ctx, caller, sets, items)
	})
}

// permittedSet is what permit said of one key set.
type permittedSet struct {
	set   *keySet
	grant policy.Grant
	err   error // *NotFoundError or *policy.Denied
}

func (s view) permitTACs(ctx context.Context, caller policy.Caller, items []TACRequest) (map[string]permittedSet, error) {
	sets := map[string]permittedSet{}
	var denied error
	granted := false
	for i := range items {
		name := items[i].KeySet
		if _, asked := sets[name]; asked {
			continue
		}
		var p permittedSet
		p.set, p.grant, p.err = s.permit(ctx, caller, policy.VerifyTacs, name, audit.Entry{KeySet: name}, policy.Context{})
		var refusal *policy.Denied
		var unknown *NotFoundError
		switch {
		case p.err == nil:
			granted = true
		case errors.As(p.err, &refusal):
			denied = firstError(denied, p.err)
		case !errors.As(p.err, &unknown):
			return nil, p.err
		}
		sets[name] = p
	}
	if !granted && denied != nil {
		return nil, denied
	}
	return sets, nil
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// verifyTACs is the operation behind the permissions.
func (s view) verifyTACs(
	ctx context.Context, caller policy.Caller, sets map[string]permittedSet, items []TACRequest,
) (TACBatch, error) {
	for _, p := range sets {
		if p.err == nil && !p.grant.Allows(policy.VerifyTacs, p.set.Name) {
			return TACBatch{}, errNoGrant
		}
	}
	b := &tacBatch{sets: sets, items: items, tacs: make([]tac, len(items)), results: make([]TACResult, len(items))}
	err := spread(len(items), leastSpread, func(from, to int) error {
		return s.inTurn(ctx, caller, func() error {
			b.read(from, to)
			return nil
		})
	})
	if err != nil {
		return TACBatch{}, err
	}
	b.group()
	inTurn := func(part func() error) error { return s.inTurn(ctx, caller, part) }
	if err := b.verify(ctx, inTurn); err != nil {
		return TACBatch{}, err
	}
	return s.commitTACs(ctx, caller, b)
}

// tacBatch is a batch at work. Goroutines share it by index: an item is one goroutine's alone at any time.
type tacBatch struct {
	sets    map[string]permittedSet
	items   []TACRequest
	tacs    []tac // of the items that were read
	results []TACResult

	groups []*tacGroup
	next   []int32 // of each item: the next of the same card and key, or noItem
}

// tacGroup is the items of one key: one version of one key set at one issuer's level.
type tacGroup struct {
	set    *keySet
	key    Version
	used   KeyUsed
	master keyderive.Master
	cards  []keyderive.Factor // each card once
	first  []int32            // of each card: its first item
	last   []int32
	items  int
}

const noItem = -1

// read reads some items, each of which may fail.
func (b *tacBatch) read(from, to int) {
	for i := from; i < to; i++ {
		r := &b.results[i]
		r.Ref = b.items[i].Ref
		p := b.sets[b.items[i].KeySet]
		if r.Err = p.err; r.Err == nil {
			b.tacs[i], r.Err = p.set.readTAC(&b.items[i])
		}
	}
}

// group finds the items that one key, and of one key those that one card key, will verify.
func (b *tacBatch) group() {
	type keyOf struct {
		set    *keySet
		number int
		issuer keyderive.Factor
	}
	type cardOf struct {
		group int32
		card  keyderive.Factor
	}
	groups := map[keyOf]int32{}
	cards := make(map[cardOf]int32, len(b.items))
	b.next = make([]int32, len(b.items))
	for i := range b.items {
		if b.results[i].Err != nil {
			continue
		}
		set, t := b.sets[b.items[i].KeySet].set, &b.tacs[i]
		k := keyOf{set, set.tacNumber(t.kver), t.card.issuer}
		at, known := groups[k]
		if !known {
			at = int32(len(b.groups))
			groups[k] = at
			b.groups = append(b.groups, newTACGroup(set, k.number, t.card))
		}
		g := b.groups[at]
		g.items++
		b.results[i].Key = g.used
		b.next[i] = noItem
		c := cardOf{at, t.card.factor}
		if place, known := cards[c]; known {
			b.next[g.last[place]] = int32(i)
			g.last[place] = int32(i)
			continue
		}
		cards[c] = int32(len(g.cards))
		g.cards, g.first, g.last = append(g.cards, c.card), append(g.first, int32(i)), append(g.last, int32(i))
	}
}

func newTACGroup(set *keySet, number int, c card) *tacGroup {
	g := &tacGroup{set: set, key: set.version(keyderive.KindTAC, number), used: set.refusedKey(keyderive.KindTAC, number)}
	if g.key.For(policy.VerifyTacs).Verifies() {
		g.master = set.master(g.key, c)
	}
	return g
}

// A share of work is at least leastSpread items, or leastCards cards, so that a small batch costs no goroutine; and at most
// mostCards, which is what one call of a token makes.
const (
	leastSpread = 512
	leastCards  = 64
	mostCards   = 512
)

// share is some cards of a group, for one goroutine.
type share struct {
	group    *tacGroup
	from, to int
}

// verify verifies what was read, on as many goroutines as there are processors, each share in its turn.
func (b *tacBatch) verify(ctx context.Context, inTurn func(part func() error) error) error {
	var shares []share
	for _, g := range b.groups {
		if !g.key.For(policy.VerifyTacs).Verifies() {
			b.refuse(g)
			continue
		}
		size := min(max((len(g.cards)+hsm.Processors()-1)/hsm.Processors(), leastCards), mostCards)
		for from := 0; from < len(g.cards); from += size {
			shares = append(shares, share{g, from, min(from+size, len(g.cards))})
		}
	}
	return spread(len(shares), 1, func(from, to int) error {
		for _, s := range shares[from:to] {
			if err := inTurn(func() error { return b.verifyShare(ctx, s) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// refuse is the outcome of items whose key may not verify.
func (b *tacBatch) refuse(g *tacGroup) {
	for _, first := range g.first {
		for i := first; i != noItem; i = b.next[i] {
			b.results[i].Outcome, b.results[i].Detail = ledger.KeyNotActive, detailNoTACKey
		}
	}
}

// verifyShare computes the TACs of some cards and compares each in constant time. The loans of a share that ended with an error
// may still write results: the whole batch is dropped then, and nobody reads them.
func (b *tacBatch) verifyShare(ctx context.Context, s share) error {
	g := s.group
	return g.master.WithCards(ctx, g.cards[s.from:s.to], func(n int, c keyderive.Card) error {
		k, err := c.TAC()
		if err != nil {
			return err
		}
		for i := g.first[s.from+n]; i != noItem; i = b.next[i] {
			err := k.Verify(b.tacs[i].data, b.tacs[i].value)
			if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
				return err
			}
			b.results[i].Outcome, b.results[i].Detail = judgeTAC(g.key, err == nil)
		}
		return nil
	})
}
