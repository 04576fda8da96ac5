package store

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// heldTotals are the totals that the changes of a group named, and what the group gives back to others without a look at them.
type heldTotals struct {
	shelf[string, Total]
	until map[string]time.Time
	blind map[string]charge
}

func (h *heldTotals) hold(c Change) {
	for _, bucket := range c.Totals {
		h.shelf.hold(bucket.Name)
		if h.until == nil {
			h.until = map[string]time.Time{}
		}
		if bucket.Until.After(h.until[bucket.Name]) {
			h.until[bucket.Name] = bucket.Until
		}
	}
}

// lend gives a purse that is about to be decided the totals that its change named. A total below zero is a bug or somebody's work in the
// database: nothing is decided on it.
func (h *heldTotals) lend(p *Purse, c Change) error {
	p.totals = nil
	for i, bucket := range c.Totals {
		if slices.ContainsFunc(c.Totals[:i], func(b Bucket) bool { return b.Name == bucket.Name }) {
			continue // one total is lent once
		}
		now := h.all[bucket.Name].now
		if now.Fen < 0 || now.Count < 0 {
			return fmt.Errorf("bug: the total of bucket %s is %d fen in %d transactions, expected none below zero", bucket.Name, now.Fen, now.Count)
		}
		p.totals = append(p.totals, namedTotal{bucket.Name, now})
	}
	return nil
}

// check refuses what no total can hold.
func (h *heldTotals) check(charged []charge) error {
	for _, c := range charged {
		if one := h.all[c.bucket]; one != nil && c.fen > 0 && one.now.Fen > math.MaxInt64-c.fen {
			return fmt.Errorf("bucket %s holds %d fen and takes no %d more", c.bucket, one.now.Fen, c.fen)
		}
	}
	return nil
}

// take keeps what a decision counted, and what it changed of its purse's charges.
func (h *heldTotals) take(p *Purse, charged []charge) {
	for _, t := range p.totals {
		h.all[t.bucket].now = t.Total
	}
	p.totals = nil
	for _, c := range charged {
		if one := h.all[c.bucket]; one != nil {
			one.now.Fen += c.fen
			one.now.Count += c.count
			continue
		}
		if h.blind == nil {
			h.blind = map[string]charge{}
		}
		b := h.blind[c.bucket]
		h.blind[c.bucket] = charge{c.bucket, b.fen + c.fen, b.count + c.count}
	}
}

func (b *beside) changedTotals() (rows []any, err error) {
	for _, t := range b.totals.order {
		if t.now != t.read {
			rows = append(rows, t.key, t.now.Fen, t.now.Count, t.now.AlarmedFen, t.now.AlarmedCount, b.totals.until[t.key].UnixMicro())
		}
	}
	return rows, nil
}

func (b *beside) chargedBlindly() (rows []any, err error) {
	for _, bucket := range slices.Sorted(maps.Keys(b.totals.blind)) {
		if c := b.totals.blind[bucket]; c.fen != 0 || c.count != 0 {
			rows = append(rows, c.bucket, c.fen, c.count)
		}
	}
	return rows, nil
}

// totalStatements are what a group commit runs for running totals.
type totalStatements struct{ totals, putTotals, chargeTotals statement }

func newTotalStatements() totalStatements {
	return totalStatements{
		totals: statement{
			text: `WITH asked (asked_bucket) AS (VALUES %s) SELECT bucket, fen, count, alarmed_fen, alarmed_count FROM asked
				CROSS JOIN totals ON bucket = asked_bucket`,
			kinds: "t",
		},
		putTotals: statement{
			text: `INSERT INTO totals (bucket, fen, count, alarmed_fen, alarmed_count, until) VALUES %s
				ON CONFLICT (bucket) DO UPDATE SET fen = excluded.fen, count = excluded.count,
					alarmed_fen = excluded.alarmed_fen, alarmed_count = excluded.alarmed_count`,
			kinds: "tiiiii",
		},
		chargeTotals: statement{
			text: `WITH charged (b, f, n) AS (VALUES %s)
				UPDATE totals SET fen = fen + f, count = count + n FROM charged WHERE bucket = b`,
			kinds: "tii",
		},
	}
}
