package ledger_test

import (
	"context"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// countedLimits keep a running total of each card, and refuse nothing: what a refusal is, is no matter of the rules of a counter.
const countedLimits = "limits:\n  - {name: card-day, per: card, period: day, alarmFen: 1000000000000000}\n"

// checkCharged compares the running totals of the play's cards with what its attempts come to.
func (p *play) checkCharged(listed []store.Listed) {
	type place struct {
		purse          store.PurseKey
		epoch, counter int
	}
	wanted := map[string]map[place]int64{}
	var named []store.Bucket
	for _, l := range listed {
		a := l.Attempt
		if a.Operation == ledger.Unload {
			continue // the play puts it there itself, charged to nothing
		}
		if len(a.Buckets) != 1 {
			broke(countsOnce, "%s is charged to %d totals", a.ID, len(a.Buckets))
		}
		bucket := a.Buckets[0]
		if wanted[bucket] == nil {
			wanted[bucket], named = map[place]int64{}, append(named, store.Bucket{Name: bucket})
		}
		if at := (place{l.Purse, a.Epoch, a.Counter}); a.State != store.NotApplied {
			wanted[bucket][at] = max(wanted[bucket][at], int64(a.Amount))
		}
	}
	if len(named) == 0 {
		return
	}
	held := map[string]store.Total{}
	must(p.store.Commit(context.Background(), store.Change{Totals: named, Decide: func(purse *store.Purse, _ uint64) ([]audit.Entry, error) {
		for _, bucket := range named {
			held[bucket.Name] = purse.Total(bucket.Name)
		}
		return nil, nil
	}}))
	for bucket, counters := range wanted {
		var fen int64
		for _, amount := range counters {
			fen += amount
		}
		if got := held[bucket]; got.Fen != fen || got.Count != int64(len(counters)) {
			broke(countsOnce, "%s holds %d fen of %d counters, its attempts come to %d of %d", bucket, got.Fen, got.Count, fen, len(counters))
		}
	}
}
