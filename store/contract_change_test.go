package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// bugs are decisions that fail though they do not mean to, and what Commit says of them.
var bugs = map[string]struct {
	decide func(p *store.Purse, index uint64) ([]audit.Entry, error)
	says   string
}{
	"an entry that cannot be encoded": {func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Highest = 5
		return []audit.Entry{entry("right"), {}}, nil
	}, "audit entry"},
	"a panic": {func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Highest, p.Card.Locked = 5, true
		panic("met a bug")
	}, "met a bug"},
	"no decision": {nil, "bug"},
	"a counter that was not named": {func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.At(10)
		return nil, nil
	}, "did not name"},
	"an attempt at a counter that was not named": {func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Attempt(store.AttemptKey{Counter: 10, Random: "00000000"})
		return nil, nil
	}, "did not name"},
	"an attempt added twice": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 7
		for range 2 {
			a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "00000000"})
			a.AuditIndex = index
			p.Add(a)
		}
		return entries("twice"), nil
	}, "twice"},
	"a settlement begun twice": {func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Begin(&store.Settlement{ID: "one"})
		p.Begin(&store.Settlement{ID: "one"})
		return nil, nil
	}, "twice"},
	"two attempts of one index": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 7
		for _, random := range []string{"00000000", "00000001"} {
			a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: random})
			a.AuditIndex = index
			p.Add(a)
		}
		return entries("one", "two"), nil
	}, "audit index"},
	"an attempt with another's index": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 7
		a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "00000000"})
		a.AuditIndex = index + 1
		p.Add(a)
		return entries("one"), nil
	}, "audit index"},
	"an attempt without an entry": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 7
		a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "00000000"})
		a.AuditIndex = index
		p.Add(a)
		return nil, nil
	}, "audit index"},
	"an attempt above the highest counter": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 6
		a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "00000000"})
		a.AuditIndex = index
		p.Add(a)
		return entries("above"), nil
	}, "above the highest"},
	"an attempt without a state": {func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.Highest = 7
		a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "00000000"})
		a.AuditIndex, a.State = index, ""
		p.Add(a)
		return entries("no state"), nil
	}, "no state"},
}

// untouched fails unless the purse is as before any change.
func untouched(t testing.TB, s store.Store, at store.PurseKey) {
	t.Helper()
	look(t, s, at, func(p *store.Purse) {
		assert.Equal(t, store.NoCounter, p.Highest)
		assert.Equal(t, store.Card{}, p.Card)
		assert.Nil(t, p.Pending())
		for counter := range 10 {
			assert.Empty(t, p.At(counter))
		}
	})
}

func contractChanges(t *testing.T, e engine) {
	t.Run("an error leaves nothing", func(t *testing.T) {
		s := e.fresh(t)
		err := s.Commit(t.Context(), change(purseEP, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			p.Highest, p.Card = 7, store.Card{MAC1Failures: 3, Locked: true}
			a := newAttempt(purseEP, store.AttemptKey{Counter: 7, Random: "A1B2C3D4"})
			a.AuditIndex = index
			p.Add(a)
			p.Begin(&store.Settlement{ID: "one"})
			return entries("refused"), errRefused
		}))
		assert.Same(t, errRefused, err, "the decision's error, as it is")
		untouched(t, s, purseEP)
		assert.Empty(t, record(t, s))
		_, _, err = s.Settlement(t.Context(), "one")
		assert.ErrorIs(t, err, store.ErrNotFound)
	})
	for name, bug := range bugs {
		t.Run(name+" fails alone", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := e.fresh(t)
				outcomes := together(t, s, adding(purseED, store.AttemptKey{Counter: 1, Random: "00000001"}),
					change(purseEP, bug.decide), adding(purseED, store.AttemptKey{Counter: 1, Random: "00000002"}))
				require.NoError(t, outcomes[0])
				require.ErrorContains(t, outcomes[1], bug.says)
				assert.NotErrorIs(t, outcomes[1], store.ErrUnavailable, "the store is well")
				require.NoError(t, outcomes[2])
				untouched(t, s, purseEP)
				assert.Len(t, record(t, s), 2)
			})
		})
	}
	t.Run("what a failed decision changed is not seen by the next", func(t *testing.T) {
		s := e.fresh(t)
		key := store.AttemptKey{Counter: 7, Random: "A1B2C3D4"}
		require.NoError(t, s.Commit(t.Context(), adding(purseEP, key)))
		assert.ErrorIs(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			a := p.Attempt(key)
			a.State, a.WrongTACs, a.Amount = store.Verified, append(a.WrongTACs, "11111111"), 1
			return nil, errRefused
		})), errRefused)
		look(t, s, purseEP, func(p *store.Purse) {
			want := newAttempt(purseEP, key)
			assert.Equal(t, want, p.Attempt(key))
		})
	})
}

// contractOrder: the index that Decide is told is the one its entry gets, gapless and in the order of commit, whatever
// fails in between.
func contractOrder(t *testing.T, e engine) {
	const callers, each = 64, 20
	s := e.fresh(t)
	var told sync.Map // index → the entry that was told it
	var all sync.WaitGroup
	var refused, panicked atomic.Int64
	for caller := range callers {
		all.Go(func() {
			at := store.PurseKey{KeySet: "demo", Card: fmt.Sprintf("%016d", caller%8), Purse: "EP"}
			for n := range each {
				name := fmt.Sprintf("%d/%d", caller, n)
				err := s.Commit(context.Background(), change(at, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
					switch (caller + n) % 4 {
					case 0:
						p.Highest += 100
						return entries("lost"), errRefused
					case 1:
						p.Highest += 100
						panic("as it does")
					}
					p.Highest++
					told.Store(index, name)
					told.Store(index+1, name+" too")
					return entries(name, name+" too"), nil
				}))
				switch {
				case errors.Is(err, errRefused):
					refused.Add(1)
				case err != nil:
					assert.ErrorContains(t, err, "as it does")
					panicked.Add(1)
				}
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, callers*each/4, refused.Load())
	assert.EqualValues(t, callers*each/4, panicked.Load())
	details := record(t, s)
	require.Len(t, details, callers*each/2*2)
	for index, detail := range details {
		name, _ := told.Load(uint64(index))
		require.Equal(t, name, detail, "entry %d", index)
	}
	sum := 0
	for card := range 8 {
		look(t, s, store.PurseKey{KeySet: "demo", Card: fmt.Sprintf("%016d", card), Purse: "EP"}, func(p *store.Purse) { sum += p.Highest + 1 })
	}
	assert.Equal(t, callers*each/2, sum, "every change that was kept was decided on what the one before it left")
}

func contractEndings(t *testing.T, e engine) {
	t.Run("a caller who left before is not decided", func(t *testing.T) {
		s := e.fresh(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.Commit(ctx, change(purseEP, func(*store.Purse, uint64) ([]audit.Entry, error) {
			t.Error("decided for a caller who left")
			return entries("late"), nil
		}))
		require.ErrorIs(t, err, context.Canceled)
		assert.Empty(t, record(t, s))
	})
	t.Run("a caller who leaves the queue is not decided", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := e.fresh(t)
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error, 1)
			outcomes := together(t, s, change(purseEP, func(*store.Purse, uint64) ([]audit.Entry, error) {
				go func() {
					left <- s.Commit(ctx, change(purseEP, func(*store.Purse, uint64) ([]audit.Entry, error) {
						t.Error("decided for a caller who left")
						return entries("late"), nil
					}))
				}()
				cancel() // while this group holds the writer
				return entries("first"), nil
			}))
			require.NoError(t, outcomes[0])
			require.ErrorIs(t, <-left, context.Canceled)
			assert.Equal(t, []string{"first"}, record(t, s))
		})
	})
	t.Run("Close commits what waits, and nothing after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			place := e.place(t)
			s := e.open(t, place)
			closed := make(chan error, 1)
			closing := change(purseEP, func(*store.Purse, uint64) ([]audit.Entry, error) {
				go func() { closed <- s.Close() }()
				return entries("first"), nil
			})
			outcomes := together(t, s, closing, adding(purseEP, store.AttemptKey{Counter: 1, Random: "00000001"}))
			require.Equal(t, []error{nil, nil}, outcomes)
			require.NoError(t, <-closed)
			require.ErrorIs(t, s.Commit(t.Context(), adding(purseEP, store.AttemptKey{Counter: 2, Random: "00000002"})), store.ErrUnavailable)
			require.ErrorIs(t, s.Ready(t.Context()), store.ErrUnavailable)
			require.NoError(t, s.Close(), "closed twice")
			again := e.open(t, place)
			defer again.Close()
			require.NoError(t, again.Ready(t.Context()))
			assert.Equal(t, []string{"first", "demo/3105228000001117/EP/LOAD/0001/00000001"}, record(t, again))
		})
	})
}
