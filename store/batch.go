package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/audit"
)

// batch is one group's transaction: everything its changes look at is read together, each change decides in turn on what
// those before it left, and the sum is written at once. A purse is read once and written once, however many changes are
// on it.
type batch struct {
	on     connection
	do     *statements
	purses map[PurseKey]*heldPurse
	cards  map[cardKey]*heldCard
	// The same in the order of their first change, in which they are written.
	purseOrder []*heldPurse
	cardOrder  []*heldCard
	beside     beside
	first      uint64 // the index of the group's first audit entry
	lines      [][]byte
}

// heldPurse is a purse as it was read and as the group has made it. The first is never written to.
type heldPurse struct{ read, now *Purse }

type cardKey struct{ keySet, card string }

func (k PurseKey) cardKey() cardKey { return cardKey{k.KeySet, k.Card} }

type heldCard struct {
	key       cardKey
	read, now Card
}

// read begins a batch: it loads what the changes look at.
func (do *statements) read(on connection, changes []Change) (*batch, error) {
	b := &batch{on: on, do: do, purses: map[PurseKey]*heldPurse{}, cards: map[cardKey]*heldCard{}}
	if err := do.readHead(on, &b.first, &b.beside.custody.revision); err != nil {
		return nil, fmt.Errorf("read audit head: %w", err)
	}
	for _, c := range changes {
		b.hold(c.Purse)
		b.beside.hold(c)
	}
	if err := b.readPurses(); err != nil {
		return nil, fmt.Errorf("read purses: %w", err)
	}
	if err := b.beside.read(on, &do.beside); err != nil {
		return nil, fmt.Errorf("read what is beside the purses: %w", err)
	}
	if err := on.answered(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	b.beside.custody.revisionRead = b.beside.custody.revision
	// What follows depends on what the purses are.
	if err := b.readAttempts(changes); err != nil {
		return nil, fmt.Errorf("read attempts: %w", err)
	}
	if err := b.readSettlements(changes); err != nil {
		return nil, fmt.Errorf("read settlements: %w", err)
	}
	if err := on.answered(); err != nil {
		return nil, fmt.Errorf("read attempts and settlements: %w", err)
	}
	b.sortAttempts()
	for _, p := range b.purseOrder {
		p.now = p.read
	}
	return b, nil
}

func (b *batch) hold(key PurseKey) {
	if b.purses[key] != nil {
		return
	}
	p := &heldPurse{read: &Purse{Key: key, Highest: NoCounter}}
	b.purses[key] = p
	b.purseOrder = append(b.purseOrder, p)
	if card := key.cardKey(); b.cards[card] == nil {
		c := &heldCard{key: card}
		b.cards[card] = c
		b.cardOrder = append(b.cardOrder, c)
	}
}

func (b *batch) readPurses() error {
	asked := make([]any, 0, len(b.purseOrder)*b.do.purses.width())
	for n, p := range b.purseOrder {
		asked = append(asked, n, p.read.Key.KeySet, p.read.Key.Card, p.read.Key.Purse)
	}
	return b.do.purses.read(b.on, asked, func(row scanner) error {
		var n int
		var purse purseRow
		if err := row.Scan(&n, &purse.highest, &purse.pending, &purse.epoch, &purse.mac1Failures, &purse.locked); err != nil {
			return err
		}
		p := b.purseOrder[n]
		purse.into(p.read, b.cards[p.read.Key.cardKey()])
		return nil
	})
}

// readAttempts loads the attempts at every purse's highest counter and at the counters that the changes name. Above the
// highest there are none (see checkAdded), so that a purse never seen costs no query.
func (b *batch) readAttempts(changes []Change) error {
	type place struct {
		purse   *heldPurse
		counter int
	}
	var asked []any
	known := map[place]bool{}
	order := map[*heldPurse]int{}
	for n, p := range b.purseOrder {
		order[p] = n
	}
	ask := func(p *heldPurse, counter int) {
		if counter < 0 || counter > p.read.Highest || known[place{p, counter}] {
			return
		}
		known[place{p, counter}] = true
		key := p.read.Key
		asked = append(asked, order[p], key.KeySet, key.Card, key.Purse, counter)
	}
	for _, c := range changes {
		p := b.purses[c.Purse]
		ask(p, p.read.Highest)
		for _, counter := range c.Counters {
			ask(p, counter)
		}
	}
	return b.do.attempts.read(b.on, asked, func(row scanner) error {
		var n int
		_, a, err := scanAttempt(row, &n)
		if err != nil {
			return err
		}
		if p := b.purseOrder[n].read; a.Epoch == p.epoch { // an earlier card's are history
			p.attempts = append(p.attempts, &a)
		}
		return nil
	})
}

// sortAttempts puts what was read in the order of commit.
func (b *batch) sortAttempts() {
	for _, p := range b.purseOrder {
		slices.SortFunc(p.read.attempts, func(a, b *Attempt) int { return cmp.Compare(a.AuditIndex, b.AuditIndex) })
	}
}

// readSettlements loads the pending settlements and those that the changes name. A name of another purse finds nothing.
func (b *batch) readSettlements(changes []Change) error {
	var asked []any
	ask := func(id string) {
		if id != "" && !slices.Contains(asked, any(id)) {
			asked = append(asked, id)
		}
	}
	for _, p := range b.purseOrder {
		ask(p.read.pending)
	}
	for _, c := range changes {
		ask(c.Settlement)
	}
	return b.do.settlements.read(b.on, asked, func(row scanner) error {
		key, s, err := scanSettlement(row)
		if err != nil {
			return err
		}
		if p := b.purses[key]; p != nil {
			p.read.settlements = append(p.read.settlements, &s)
		}
		return nil
	})
}

// decide runs one change on a copy of its purse, and takes the copy for the purse when all is well. An error is that change's
// own, and leaves nothing of it.
func (b *batch) decide(c Change) error {
	if now := b.beside.custody.revision; c.Revision != 0 && c.Revision != now {
		return fmt.Errorf("%w: %d, expected %d", ErrRevision, now, c.Revision)
	}
	p, card := b.purses[c.Purse], b.cards[c.Purse.cardKey()]
	next := b.first + uint64(len(b.lines))
	decided := p.now.forDecision(c, card.now)
	if err := b.beside.lend(decided, c); err != nil {
		return err
	}
	entries, err := protect(c.Decide, decided, next)
	if err != nil {
		return err
	}
	lines, err := encode(entries)
	if err != nil {
		return err
	}
	known := len(p.now.attempts)
	if err := checkAdded(decided, c, known, next, len(lines)); err != nil {
		return err
	}
	if err := b.beside.check(decided, c, next, len(lines)); err != nil {
		return err
	}
	for i, a := range decided.attempts[:known] {
		a.restore(p.now.attempts[i])
	}
	charged := chargedAnew(p.now.attempts, decided.attempts)
	if err := b.beside.totals.check(charged); err != nil {
		return err
	}
	b.beside.take(decided, c)
	b.beside.totals.take(decided, charged)
	p.now, card.now = decided, decided.Card
	b.lines = append(b.lines, lines...)
	return nil
}

// protect makes a panic of one decision that decision's failure: a bug met by one request must not stop all others.
func protect(decide func(*Purse, uint64) ([]audit.Entry, error), p *Purse, index uint64) (entries []audit.Entry, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			entries, err = nil, fmt.Errorf("bug: a decision panicked: %v", bug)
		}
	}()
	return decide(p, index)
}

func encode(entries []audit.Entry) ([][]byte, error) {
	lines := make([][]byte, len(entries))
	for i, e := range entries {
		line, err := e.Encode()
		if err != nil {
			return nil, err
		}
		lines[i] = line
	}
	return lines, nil
}

// checkAdded refuses what the database would refuse later, for the whole group, and what the next read relies on: a new
// attempt has a state and the index of one of its own change's entries, and stands at most at the purse's highest counter.
func checkAdded(p *Purse, c Change, known int, first uint64, entries int) error {
	next := first
	for _, a := range p.attempts[known:] {
		switch {
		case a.AuditIndex < next || a.AuditIndex >= first+uint64(entries):
			return fmt.Errorf("bug: a new attempt has audit index %d, expected %d to %d", a.AuditIndex, next, first+uint64(entries)-1)
		case a.Counter > p.Highest:
			return fmt.Errorf("bug: a new attempt has counter %d, above the highest, %d", a.Counter, p.Highest)
		case a.State == "":
			return errors.New("bug: a new attempt has no state")
		case !isText(a.Client):
			return fmt.Errorf("bug: a new attempt is of client %q, which is no text", a.Client)
		}
		if err := checkBuckets(a, c); err != nil {
			return err
		}
		next = a.AuditIndex + 1
	}
	return nil
}
