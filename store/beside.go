package store

import (
	"bytes"
	"fmt"
)

// beside is what the changes of a group named beside their purses, as it was read and as the group has made it.
type beside struct {
	terminals shelf[TerminalKey, Terminal]
	purchases shelf[purchaseKey, *Purchase]
	sessions  shelf[string, *ReaderSession]
	requests  shelf[string, *ChangeRequest]
	custody   heldCustody
	totals    heldTotals
}

// shelf holds things of one kind in the order of their first change, in which they are written.
type shelf[K comparable, V any] struct {
	all   map[K]*kept[K, V]
	order []*kept[K, V]
}

// kept is one thing. What was read is never written to.
type kept[K comparable, V any] struct {
	key       K
	read, now V
}

func (s *shelf[K, V]) hold(key K) {
	if s.all[key] != nil {
		return
	}
	if s.all == nil {
		s.all = map[K]*kept[K, V]{}
	}
	one := &kept[K, V]{key: key}
	s.all[key] = one
	s.order = append(s.order, one)
}

// found puts what was read of a key.
func (s *shelf[K, V]) found(key K, value V) {
	if one := s.all[key]; one != nil {
		one.read, one.now = value, value
	}
}

func (c Change) purchase() purchaseKey { return purchaseKey{c.Purse, *c.Purchase} }

func (b *beside) hold(c Change) {
	if c.Terminal != (TerminalKey{}) {
		b.terminals.hold(c.Terminal)
	}
	if c.Purchase != nil {
		b.purchases.hold(c.purchase())
	}
	if c.Session != "" {
		b.sessions.hold(c.Session)
	}
	if c.Request != "" {
		b.requests.hold(c.Request)
	}
	b.custody.named = b.custody.named || c.Custody
	b.totals.hold(c)
}

// read asks for all that is held.
func (b *beside) read(on connection, do *besideStatements) error {
	var asked []any
	for _, t := range b.terminals.order {
		asked = append(asked, t.key.KeySet, t.key.Terminal)
	}
	if err := do.terminals.read(on, asked, func(row scanner) error {
		var key TerminalKey
		var t Terminal
		err := row.Scan(&key.KeySet, &key.Terminal, &t.Last)
		b.terminals.found(key, t)
		return err
	}); err != nil {
		return err
	}
	asked = nil
	for _, p := range b.purchases.order {
		asked = append(asked, p.key.purse.KeySet, p.key.purse.Card, p.key.purse.Purse, p.key.key.Counter, p.key.key.Random)
	}
	if err := do.purchases.read(on, asked, func(row scanner) error {
		key, p, err := scanPurchase(row)
		b.purchases.found(purchaseKey{key, p.AttemptKey}, &p)
		return err
	}); err != nil {
		return err
	}
	asked = nil
	for _, s := range b.sessions.order {
		asked = append(asked, s.key)
	}
	if err := do.sessions.read(on, asked, func(row scanner) error {
		s, err := scanSession(row)
		b.sessions.found(s.ID, &s)
		return err
	}); err != nil {
		return err
	}
	asked = nil
	for _, t := range b.totals.order {
		asked = append(asked, t.key)
	}
	if err := do.totals.read(on, asked, func(row scanner) error {
		var bucket string
		var t Total
		err := row.Scan(&bucket, &t.Fen, &t.Count, &t.AlarmedFen, &t.AlarmedCount)
		b.totals.found(bucket, t)
		return err
	}); err != nil {
		return err
	}
	return b.readCustody(on, do)
}

func (b *beside) readCustody(on connection, do *besideStatements) error {
	var asked []any
	for _, r := range b.requests.order {
		asked = append(asked, r.key)
	}
	if err := do.requests.read(on, asked, func(row scanner) error {
		r, err := scanRequest(row)
		b.requests.found(r.ID, &r)
		return err
	}); err != nil || !b.custody.named {
		return err
	}
	return do.custody.read(on, nil, func(row scanner) error {
		var revision uint64
		if err := row.Scan(&revision, &b.custody.document); err != nil {
			return err
		}
		if revision != b.custody.revision {
			return fmt.Errorf("the catalogue is at revision %d, the audit head says %d", revision, b.custody.revision)
		}
		return nil
	})
}

// lend gives a purse that is about to be decided copies of what its change named.
func (b *beside) lend(p *Purse, c Change) error {
	p.terminal, p.purchase, p.session, p.custody, p.request = nil, nil, nil, nil, nil
	if t := b.terminals.all[c.Terminal]; t != nil {
		copied := t.now
		p.terminal = &copied
	}
	if c.Purchase != nil {
		p.purchase = b.purchases.all[c.purchase()].now.copied()
	}
	if c.Session != "" {
		p.session = b.sessions.all[c.Session].now.copied()
	}
	if c.Request != "" {
		p.request = b.requests.all[c.Request].now.copied()
	}
	if c.Custody {
		p.custody = &Custody{b.custody.revision, bytes.Clone(b.custody.document)}
	}
	return b.totals.lend(p, c)
}

// check refuses what a decision made wrong; see checkAdded.
func (b *beside) check(p *Purse, c Change, first uint64, entries int) error {
	if c.Purchase != nil && p.purchase != nil && b.purchases.all[c.purchase()].now == nil {
		if err := p.purchase.check(first, entries); err != nil {
			return err
		}
	}
	if p.session != nil {
		if err := p.session.check(); err != nil {
			return err
		}
	}
	if p.request != nil {
		if err := p.request.check(b.requests.all[c.Request].now, first, entries); err != nil {
			return err
		}
	}
	if p.custody != nil {
		return b.custody.check(p.custody, entries, c.Restores)
	}
	return nil
}

// take keeps what a decision made of what it was lent.
func (b *beside) take(p *Purse, c Change) {
	if t := b.terminals.all[c.Terminal]; t != nil && p.terminal.Last > t.now.Last { // it only rises
		t.now = *p.terminal
	}
	if c.Purchase != nil && p.purchase != nil {
		one := b.purchases.all[c.purchase()]
		if one.now != nil {
			p.purchase.restore(one.now)
		}
		one.now = p.purchase
	}
	if c.Session != "" && p.session != nil {
		one := b.sessions.all[c.Session]
		if one.now != nil {
			p.session.restore(one.now)
		}
		one.now = p.session
	}
	if c.Request != "" && p.request != nil {
		one := b.requests.all[c.Request]
		if one.now != nil {
			p.request.restore(one.now)
		}
		one.now = p.request
	}
	if p.custody != nil {
		b.custody.revision, b.custody.document = p.custody.Revision, p.custody.Document
	}
	p.terminal, p.purchase, p.session, p.custody, p.request = nil, nil, nil, nil, nil
}

func (b *beside) changedTerminals() (rows []any, err error) {
	for _, t := range b.terminals.order {
		if t.now != t.read {
			rows = append(rows, t.key.KeySet, t.key.Terminal, int64(t.now.Last))
		}
	}
	return rows, nil
}

func (b *beside) newPurchases() (rows []any, err error) {
	for _, p := range b.purchases.order {
		if p.read == nil && p.now != nil {
			rows = appendPurchase(rows, p.key.purse, p.now)
		}
	}
	return rows, nil
}

func (b *beside) judgedPurchases() (rows []any, err error) {
	for _, p := range b.purchases.order {
		if p.read != nil && !p.now.judgedAs(p.read) {
			rows = appendPurchaseJudgement(append(rows, int64(p.now.AuditIndex)), p.now)
		}
	}
	return rows, nil
}

func (b *beside) changedSessions() (rows []any, err error) {
	for _, s := range b.sessions.order {
		if s.now != nil && (s.read == nil || *s.now != *s.read) {
			rows = appendSession(rows, s.now)
		}
	}
	return rows, nil
}

func (b *beside) changedRequests() (rows []any, err error) {
	for _, r := range b.requests.order {
		if r.now != nil && (r.read == nil || !r.now.same(r.read)) {
			if rows, err = appendRequest(rows, r.now); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

func (b *beside) changedCustody() (row []any, err error) {
	if b.custody.revision != b.custody.revisionRead {
		row = []any{int64(b.custody.revision), string(b.custody.document)}
	}
	return row, nil
}
