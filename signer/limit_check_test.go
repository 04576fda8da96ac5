package signer

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// busyLimits are the limits of the tests here: low enough that few cards reach all of them.
const busyLimits = `limits:
  - {name: one, per: transaction, maxFen: 1400}
  - {name: card-day, per: card, period: day, maxFen: 6000, alarmFen: 5000}
  - {name: card-hour, per: card, period: hour, maxCount: 4}
  - {name: client-day, per: client, period: day, maxFen: 15000}
  - {name: terminal-day, per: terminal, period: day, maxFen: 14000, maxCount: 30}
`

// bound is one of busyLimits as the checker of the record knows it, by itself: whose total an entry is added to, and the maxima.
type bound struct {
	of         func(e audit.Entry) string
	fen, count int64
}

var busyBounds = map[string]bound{
	"card-day":     {func(e audit.Entry) string { return e.Card + localTime(e, "20060102") }, 6000, math.MaxInt64},
	"card-hour":    {func(e audit.Entry) string { return e.Card + localTime(e, "2006010215") }, math.MaxInt64, 4},
	"client-day":   {func(e audit.Entry) string { return e.Client + localTime(e, "20060102") }, 15000, math.MaxInt64},
	"terminal-day": {func(e audit.Entry) string { return e.Inputs.Terminal + localTime(e, "20060102") }, 14000, 30},
}

// localTime is an entry's time where the test key sets are, eight hours before Greenwich.
func localTime(e audit.Entry, layout string) string {
	return e.Time.UTC().Add(8 * 3600e9).Format(layout)
}

// replayed is what the record says of every approved load, in the order of commit.
type replayed struct {
	loads      []audit.Entry
	notApplied map[string]bool
}

// total is what a bound's total of an entry is of the record so far, with further entries added.
func (r *replayed) total(b bound, e audit.Entry, further ...audit.Entry) (fen, count int64) {
	largest := map[string]int64{}
	for _, load := range append(r.loads[:len(r.loads):len(r.loads)], further...) {
		if b.of(load) == b.of(e) && !r.notApplied[load.Transaction] {
			counter := load.Transaction[:strings.LastIndex(load.Transaction, "/")]
			largest[counter] = max(largest[counter], int64(load.Inputs.AmountFen)) //nolint:gosec // four bytes
		}
	}
	for _, amount := range largest {
		fen += amount
	}
	return fen, int64(len(largest))
}

// checkLimits replays the record: after each entry no total is above its limit by a fen, and each load that a limit refused would have been.
func checkLimits(t testing.TB, entries []audit.Entry, bounds map[string]bound) (approved, refused int) {
	t.Helper()
	r := replayed{notApplied: map[string]bool{}}
	for i, e := range entries {
		if e.Event == audit.Event(policy.AuthorizeLoad) {
			switch ledger.Outcome(e.Outcome) {
			case ledger.Approved:
				approved++
				require.LessOrEqual(t, e.Inputs.AmountFen, uint64(1400), "entry %d", i)
				r.loads = append(r.loads, e)
			case ledger.LimitExceeded:
				refused++
				name, _, ok := strings.Cut(strings.TrimPrefix(e.Detail, "limit "), ":")
				require.True(t, ok, e.Detail)
				if name == "one" {
					require.Greater(t, e.Inputs.AmountFen, uint64(1400))
					continue
				}
				fen, count := r.total(bounds[name], e, e)
				require.True(t, fen > bounds[name].fen || count > bounds[name].count, "entry %d: %s: with it %d fen, %d", i, e.Detail, fen, count)
			}
		}
		for _, s := range e.Settled {
			if store.State(s.Outcome) == store.NotApplied {
				r.notApplied[s.Transaction] = true
			}
		}
		for name, b := range bounds {
			fen, count := r.total(b, e)
			require.True(t, fen <= b.fen && count <= b.count, "entry %d: limit %s: %d fen, %d", i, name, fen, count)
		}
	}
	return approved, refused
}

// checkTotals compares every total in the store with what all attempts say.
func checkTotals(t testing.TB, s store.Store) (buckets int) {
	t.Helper()
	all, err := s.List(t.Context(), store.Filter{Limit: math.MaxInt32})
	require.NoError(t, err)
	want := map[string]map[string]int64{} // bucket, counter, largest amount
	for _, l := range all {
		for _, bucket := range l.Attempt.Buckets {
			if want[bucket] == nil {
				want[bucket] = map[string]int64{}
			}
			if l.Attempt.State != store.NotApplied || l.Attempt.Contradicted {
				at := fmt.Sprint(l.Purse, l.Attempt.Epoch, l.Attempt.Counter)
				want[bucket][at] = max(want[bucket][at], int64(l.Attempt.Amount))
			}
		}
	}
	var named []store.Bucket
	for bucket := range want {
		named = append(named, store.Bucket{Name: bucket})
	}
	require.NoError(t, s.Commit(t.Context(), store.Change{Totals: named, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		for bucket, counters := range want {
			var fen int64
			for _, amount := range counters {
				fen += amount
			}
			got := p.Total(bucket)
			require.Equal(t, []int64{fen, int64(len(counters))}, []int64{got.Fen, got.Count}, bucket)
		}
		return nil, nil
	}}))
	return len(want)
}
