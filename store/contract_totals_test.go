package store_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

var untilTomorrow = time.Date(2024, 2, 1, 16, 0, 0, 0, time.UTC)

// named adds buckets to a change.
func named(c store.Change, names ...string) store.Change {
	for _, name := range names {
		c.Totals = append(c.Totals, store.Bucket{Name: name, Until: untilTomorrow})
	}
	return c
}

// charging records an attempt of an amount that is charged to the buckets.
func charging(at store.PurseKey, key store.AttemptKey, amount uint32, buckets ...string) store.Change {
	return named(change(at, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		a := newAttempt(at, key)
		a.AuditIndex, a.Amount, a.Buckets = index, amount, buckets
		p.Highest = max(p.Highest, key.Counter)
		p.Add(a)
		return entries(a.ID), nil
	}), buckets...)
}

// judging makes another state of an attempt.
func judging(at store.PurseKey, key store.AttemptKey, state store.State) store.Change {
	return change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Attempt(key).State = state
		return entries("judged"), nil
	})
}

// total is what a bucket holds.
func total(t require.TestingT, s store.Store, bucket string) (found store.Total) {
	require.NoError(t, s.Commit(context.Background(), named(change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		found = p.Total(bucket)
		return nil, nil
	}), bucket)))
	return found
}

func attemptKey(counter, random int) store.AttemptKey {
	return store.AttemptKey{Counter: counter, Random: fmt.Sprintf("%08X", random)}
}

// contractTotals: a counter is charged once at its largest amount, in each bucket; totals are named, seen as those before left them, and kept.
func contractTotals(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	start(t, s)
	assert.Zero(t, total(t, s, "day"))
	require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(7, 1), 100, "day", "hour")))
	require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(7, 2), 250, "day")))
	require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(7, 3), 30, "day", "hour")))
	require.NoError(t, s.Commit(t.Context(), charging(purseED, attemptKey(7, 1), 1000, "day")))
	require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(8, 1), 1, "hour")))
	assert.Equal(t, store.Total{Fen: 1250, Count: 2}, total(t, s, "day"))
	assert.Equal(t, store.Total{Fen: 101, Count: 2}, total(t, s, "hour"))
	look(t, s, purseEP, func(p *store.Purse) {
		fen, charged := p.Charge(7, "day")
		assert.Equal(t, []any{int64(250), true}, []any{fen, charged})
		fen, charged = p.Charge(8, "day")
		assert.Equal(t, []any{int64(0), false}, []any{fen, charged})
	})

	refused := charging(purseEP, attemptKey(9, 1), 5, "day")
	decide := refused.Decide
	refused.Decide = func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Count("day", 3)
		_, err := decide(p, index)
		require.NoError(t, err)
		return nil, errRefused
	}
	require.ErrorIs(t, s.Commit(t.Context(), refused), errRefused)
	assert.Equal(t, store.Total{Fen: 1250, Count: 2}, total(t, s, "day"), "a decision that failed charged nothing")

	for name, wrong := range map[string]store.Change{
		"a total that was not named": change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Total("day")
			return nil, nil
		}),
		"a count that was not named": named(change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Count("hour", 1)
			return nil, nil
		}), "day"),
		"counting backwards": named(change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Count("day", -1)
			return nil, nil
		}), "day"),
		"a charge that was not named": func() store.Change {
			c := charging(purseEP, attemptKey(9, 1), 5, "day")
			c.Totals = nil
			return c
		}(),
		"a charge made twice": charging(purseEP, attemptKey(9, 1), 5, "day", "day"),
		"a comma":             charging(purseEP, attemptKey(9, 1), 5, "a,b"),
	} {
		require.ErrorContains(t, s.Commit(t.Context(), wrong), "bug: ", name)
	}
	require.NoError(t, s.Commit(t.Context(), named(change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		assert.Equal(t, store.Total{Count: 2}, p.Count("signal", 2))
		assert.Equal(t, store.Total{Count: 5}, p.Count("signal", 3))
		p.Alarmed("signal", 0, 5)
		p.Alarmed("signal", 7, 4)
		return nil, nil
	}), "signal")))
	require.NoError(t, s.Close())

	s = e.open(t, place)
	defer s.Close()
	assert.Equal(t, store.Total{Count: 5, AlarmedFen: 7, AlarmedCount: 5}, total(t, s, "signal"))
	assert.Equal(t, store.Total{Fen: 1250, Count: 2}, total(t, s, "day"))
}

// contractGivenBack: what was not applied is given back, to a bucket that the change did not name, too, and to no more than there was; within a
// group each sees what those before it left.
func contractGivenBack(t *testing.T, e engine) {
	synctest.Test(t, func(t *testing.T) {
		s := e.fresh(t)
		start(t, s)
		require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(7, 1), 100, "day")))
		require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(7, 2), 250, "day")))
		require.NoError(t, s.Commit(t.Context(), judging(purseEP, attemptKey(7, 2), store.NotApplied)))
		assert.Equal(t, store.Total{Fen: 100, Count: 1}, total(t, s, "day"), "the next largest")
		require.NoError(t, s.Commit(t.Context(), judging(purseEP, attemptKey(7, 2), store.NotApplied)))
		assert.Equal(t, store.Total{Fen: 100, Count: 1}, total(t, s, "day"), "once")

		// Its card says by a right TAC that it took it after all.
		require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Attempt(attemptKey(7, 2)).Contradicted = true
			return nil, nil
		})))
		assert.Equal(t, store.Total{Fen: 250, Count: 1}, total(t, s, "day"))

		// In one group: a total is named by the last change alone, after two that gave back and charged.
		var seen []store.Total
		see := named(change(purseED, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			seen = append(seen, p.Total("day"))
			return nil, nil
		}), "day")
		for _, err := range together(t, s,
			see,
			charging(purseED, attemptKey(3, 1), 40, "day"), see,
			judging(purseED, attemptKey(3, 1), store.NotApplied), see,
			charging(purseED, attemptKey(3, 2), 7, "day"), see,
		) {
			require.NoError(t, err)
		}
		assert.Equal(t, []store.Total{{Fen: 250, Count: 1}, {Fen: 290, Count: 2}, {Fen: 250, Count: 1}, {Fen: 257, Count: 2}}, seen)

		// A total that no change of the group names: what is given back is added up and written once.
		for _, err := range together(t, s,
			judging(purseED, attemptKey(3, 2), store.NotApplied),
			judging(purseEP, attemptKey(7, 1), store.NotApplied),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Attempt(attemptKey(7, 2)).Contradicted = false
				return nil, nil
			}),
		) {
			require.NoError(t, err)
		}
		assert.Equal(t, store.Total{}, total(t, s, "day"))
	})
}

// contractTotalsOfAll: after any changes, each total is what can be computed anew from all attempts.
func contractTotalsOfAll(t *testing.T, e engine) {
	s := e.fresh(t)
	start(t, s)
	purses := []store.PurseKey{purseEP, purseED, {KeySet: "demo", Card: "3105228000001118", Purse: "EP"}}
	buckets := []string{"a", "b", "c"}
	states := []store.State{store.Open, store.Verified, store.Applied, store.NotApplied, store.Undetermined}
	random := 0
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			at := rapid.SampledFrom(purses).Draw(t, "purse")
			counter := rapid.IntRange(0, 9).Draw(t, "counter")
			charged := rapid.SliceOfNDistinct(rapid.SampledFrom(buckets), 0, 3, rapid.ID).Draw(t, "buckets")
			state := rapid.SampledFrom(states).Draw(t, "state")
			contradicted := rapid.Bool().Draw(t, "contradicted")
			amount := rapid.Uint32().Draw(t, "amount")
			random++
			err := s.Commit(context.Background(), named(change(at, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				for _, a := range p.At(counter) {
					a.State, a.Contradicted = state, contradicted
				}
				if amount%50 == 0 {
					p.Reset()
					return entries("reset"), nil
				}
				a := newAttempt(at, attemptKey(counter, random))
				a.AuditIndex, a.Amount, a.Buckets = index, amount, charged
				p.Highest = max(p.Highest, counter)
				p.Add(a)
				return entries(a.ID), nil
			}), charged...))
			require.NoError(t, err)
		}
		all, err := s.List(context.Background(), store.Filter{Limit: math.MaxInt32})
		require.NoError(t, err)
		for _, bucket := range buckets {
			require.Equal(t, recomputed(all, bucket), total(t, s, bucket), "bucket %s", bucket)
		}
	})
}

// recomputed is what a bucket must hold of all attempts: each counter of each card of each purse once, at the largest amount.
func recomputed(all []store.Listed, bucket string) (sum store.Total) {
	type place struct {
		purse          store.PurseKey
		epoch, counter int
	}
	largest := map[place]int64{}
	for _, l := range all {
		for _, b := range l.Attempt.Buckets {
			if b == bucket && (l.Attempt.State != store.NotApplied || l.Attempt.Contradicted) {
				at := place{l.Purse, l.Attempt.Epoch, l.Attempt.Counter}
				largest[at] = max(largest[at], int64(l.Attempt.Amount))
			}
		}
	}
	for _, fen := range largest {
		sum.Fen += fen
		sum.Count++
	}
	return sum
}

// contractSweeping: what was over before a time goes, a few at a time, and what is given back to it later is given to none; a total below
// zero is none to decide on.
func contractSweeping(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place).(interface {
		store.Store
		SweepTotals(ctx context.Context, before time.Time, limit int) (int, error)
	})
	defer s.Close()
	start(t, s)
	for i, name := range []string{"one", "two", "three", "later"} {
		c := charging(purseEP, attemptKey(i, 1), 100, name)
		if name == "later" {
			c.Totals[0].Until = untilTomorrow.Add(time.Hour)
		}
		require.NoError(t, s.Commit(t.Context(), c))
	}
	for _, want := range []int{2, 1, 0} {
		swept, err := s.SweepTotals(t.Context(), untilTomorrow.Add(time.Second), 2)
		require.NoError(t, err)
		assert.Equal(t, want, swept)
	}
	require.NoError(t, s.Commit(t.Context(), judging(purseEP, attemptKey(0, 1), store.NotApplied)))
	assert.Zero(t, total(t, s, "one"))
	assert.Equal(t, store.Total{Fen: 100, Count: 1}, total(t, s, "later"))

	// A clock that was set back charges a bucket that was swept, and an attempt of before gives back: the total is not believed.
	require.NoError(t, s.Commit(t.Context(), charging(purseEP, attemptKey(5, 1), 30, "two")))
	require.NoError(t, s.Commit(t.Context(), judging(purseEP, attemptKey(1, 1), store.NotApplied)), "a settlement is not held up")
	err := s.Commit(t.Context(), charging(purseEP, attemptKey(6, 1), 30, "two"))
	require.ErrorContains(t, err, "expected none below zero")
}
