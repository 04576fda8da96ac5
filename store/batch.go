package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// batch is the state of one group's transaction: what was read, what the decisions made of it, and what is to be written.
// A purse is read once and written once, however many changes of the group are on it.
type batch struct {
	ctx    context.Context
	do     *statements
	next   uint64 // the index of the next audit entry
	lines  [][]byte
	first  uint64
	purses map[PurseKey]*Purse
	cards  map[cardKey]Card
	read   map[PurseKey]*Purse // as read, to tell what changed
	held   map[cardKey]Card    // likewise
	order  []PurseKey          // in the order of their first change
}

type cardKey struct{ keySet, card string }

func (k PurseKey) cardKey() cardKey { return cardKey{k.KeySet, k.Card} }

func newBatch(ctx context.Context, do *statements) (*batch, error) {
	b := &batch{
		ctx: ctx, do: do,
		purses: map[PurseKey]*Purse{}, cards: map[cardKey]Card{}, read: map[PurseKey]*Purse{}, held: map[cardKey]Card{},
	}
	if err := do.head.QueryRowContext(ctx).Scan(&b.next); err != nil {
		return nil, fmt.Errorf("audit head: %w", err)
	}
	b.first = b.next
	return b, nil
}

// load returns the purse as the group has left it so far, with everything that c looks at.
func (b *batch) load(c Change) (*Purse, error) {
	p := b.purses[c.Purse]
	if p == nil {
		var err error
		if p, err = b.readPurse(c.Purse); err != nil {
			return nil, err
		}
		b.purses[c.Purse] = p
		b.read[c.Purse] = &Purse{
			Highest: p.Highest, pending: p.pending,
			settlements: map[string]*Settlement{}, attempts: map[AttemptKey]*Attempt{},
		}
		b.order = append(b.order, c.Purse)
	}
	p.Card = b.cards[c.Purse.cardKey()]
	for _, counter := range append([]int{p.Highest}, c.Counters...) {
		if err := b.loadCounter(p, counter); err != nil {
			return nil, err
		}
	}
	for _, id := range []string{p.pending, c.Settlement} {
		if err := b.loadSettlement(p, id); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (b *batch) readPurse(key PurseKey) (*Purse, error) {
	p := &Purse{
		Key: key, Highest: NoCounter,
		settlements: map[string]*Settlement{}, attempts: map[AttemptKey]*Attempt{}, loaded: map[int]bool{NoCounter: true},
	}
	var card Card
	err := b.do.purse.QueryRowContext(b.ctx, key.KeySet, key.Card, key.Purse).
		Scan(&p.Highest, &p.pending, &card.MAC1Failures, &card.Locked)
	if errors.Is(err, sql.ErrNoRows) {
		err = b.do.card.QueryRowContext(b.ctx, key.KeySet, key.Card).Scan(&card.MAC1Failures, &card.Locked)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read purse: %w", err)
	}
	if _, known := b.held[key.cardKey()]; !known {
		b.cards[key.cardKey()] = card
		b.held[key.cardKey()] = card
	}
	return p, nil
}

func (b *batch) loadCounter(p *Purse, counter int) error {
	if p.loaded[counter] {
		return nil
	}
	rows, err := b.do.attemptsAt.QueryContext(b.ctx, p.Key.KeySet, p.Key.Card, p.Key.Purse, counter)
	if err != nil {
		return fmt.Errorf("read attempts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		_, a, err := scanAttempt(rows)
		if err != nil {
			return err
		}
		p.attempts[a.AttemptKey] = &a
		read := a
		b.read[p.Key].attempts[a.AttemptKey] = &read
	}
	p.loaded[counter] = true
	return rows.Err()
}

func (b *batch) loadSettlement(p *Purse, id string) error {
	if id == "" || p.settlements[id] != nil {
		return nil
	}
	key, s, err := scanSettlement(b.do.settlement.QueryRowContext(b.ctx, id))
	if errors.Is(err, sql.ErrNoRows) || (err == nil && key != p.Key) {
		return nil // the decision sees that there is none
	}
	if err != nil {
		return fmt.Errorf("read settlement: %w", err)
	}
	p.settlements[id] = &s
	read := s
	b.read[p.Key].settlements[id] = &read
	return nil
}

// replace takes what a decision made of its purse.
func (b *batch) replace(after *Purse) {
	b.purses[after.Key] = after
	b.cards[after.Key.cardKey()] = after.Card
}

// flush writes every difference between what was read and what was decided, and the entries.
func (b *batch) flush() error {
	for _, key := range b.order {
		if err := b.flushPurse(b.purses[key], b.read[key]); err != nil {
			return fmt.Errorf("write purse: %w", err)
		}
	}
	for key, card := range b.cards {
		if card == b.held[key] {
			continue
		}
		if _, err := b.do.putCard.ExecContext(b.ctx, key.keySet, key.card, card.MAC1Failures, card.Locked); err != nil {
			return fmt.Errorf("write card: %w", err)
		}
	}
	for i, line := range b.lines {
		if _, err := b.do.putEntry.ExecContext(b.ctx, b.first+uint64(i), string(line)); err != nil {
			return fmt.Errorf("write audit entry: %w", err)
		}
	}
	if b.next == b.first {
		return nil
	}
	if _, err := b.do.putHead.ExecContext(b.ctx, b.next); err != nil {
		return fmt.Errorf("write audit head: %w", err)
	}
	return nil
}

func (b *batch) flushPurse(now, was *Purse) error {
	key := now.Key
	if now.Highest != was.Highest || now.pending != was.pending {
		if _, err := b.do.putPurse.ExecContext(b.ctx, key.KeySet, key.Card, key.Purse, now.Highest, now.pending); err != nil {
			return err
		}
	}
	for attemptKey, a := range now.attempts {
		before := was.attempts[attemptKey]
		switch {
		case before == nil:
			if err := b.insertAttempt(key, a); err != nil {
				return err
			}
		case !reflect.DeepEqual(before, a):
			if _, err := b.do.updateAttempt.ExecContext(b.ctx, string(a.State), string(a.Evidence), a.Contradicted, a.RightTAC,
				strings.Join(a.WrongTACs, ","), key.KeySet, key.Card, key.Purse, a.Counter, a.Random); err != nil {
				return err
			}
		}
	}
	for id, s := range now.settlements {
		if before := was.settlements[id]; before != nil && reflect.DeepEqual(before, s) {
			continue
		}
		if err := b.putSettlement(key, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) insertAttempt(key PurseKey, a *Attempt) error {
	_, err := b.do.insertAttempt.ExecContext(b.ctx, key.KeySet, key.Card, key.Purse, a.Counter, a.Random, a.ID, a.Operation,
		int64(a.Amount), int64(a.Balance), a.Terminal, a.Date, a.Time, a.IssuerID, a.KeyVersion, a.KCV, a.Boundary, a.MAC2,
		int64(a.AuditIndex), a.CreatedAt.UnixMicro(), string(a.State), string(a.Evidence), a.Contradicted, a.RightTAC,
		strings.Join(a.WrongTACs, ","))
	return err
}

func (b *batch) putSettlement(key PurseKey, s *Settlement) error {
	settled, err := json.Marshal(s.Settled)
	if err != nil {
		return err
	}
	_, err = b.do.putSettlement.ExecContext(b.ctx, s.ID, key.KeySet, key.Card, key.Purse, s.Terminal, s.IssuerID,
		s.ExpiresAt.UnixMicro(), string(s.State), s.Answer, s.Outcome, string(settled), s.KeyVersion, int64(s.AuditIndex))
	return err
}

// scanner is a row or rows.
type scanner interface{ Scan(into ...any) error }

func scanAttempt(row scanner) (PurseKey, Attempt, error) {
	var (
		key     PurseKey
		a       Attempt
		created int64
		wrong   string
	)
	err := row.Scan(&key.KeySet, &key.Card, &key.Purse, &a.Counter, &a.Random, &a.ID, &a.Operation, &a.Amount, &a.Balance,
		&a.Terminal, &a.Date, &a.Time, &a.IssuerID, &a.KeyVersion, &a.KCV, &a.Boundary, &a.MAC2, &a.AuditIndex, &created,
		&a.State, &a.Evidence, &a.Contradicted, &a.RightTAC, &wrong)
	if err != nil {
		return key, a, err
	}
	a.CreatedAt = time.UnixMicro(created).UTC()
	if wrong != "" {
		a.WrongTACs = strings.Split(wrong, ",")
	}
	return key, a, nil
}

func scanSettlement(row scanner) (PurseKey, Settlement, error) {
	var (
		key     PurseKey
		s       Settlement
		expires int64
		settled string
	)
	err := row.Scan(&s.ID, &key.KeySet, &key.Card, &key.Purse, &s.Terminal, &s.IssuerID, &expires, &s.State, &s.Answer,
		&s.Outcome, &settled, &s.KeyVersion, &s.AuditIndex)
	if err != nil {
		return key, s, err
	}
	s.ExpiresAt = time.UnixMicro(expires).UTC()
	return key, s, json.Unmarshal([]byte(settled), &s.Settled)
}
