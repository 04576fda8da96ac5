package store_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// bubble runs one test of a group on a new database, both in a bubble of synctest.
func (e engine) bubble(t *testing.T, name string, run func(t *testing.T, s store.Store)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, e.fresh(t)) })
	})
}

func contractGroups(t *testing.T, e engine) {
	key := store.AttemptKey{Counter: 3, Random: "A1B2C3D4"}
	e.bubble(t, "changes of one purse see each other", func(t *testing.T, s store.Store) {
		outcomes := together(t, s, adding(purseEP, key),
			change(purseEP, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				assert.Equal(t, uint64(1), index)
				assert.Equal(t, 3, p.Highest)
				require.NotNil(t, p.Attempt(key))
				p.Attempt(key).State = store.Verified
				p.Begin(&store.Settlement{ID: "one"})
				p.Highest = 4
				return entries("second"), nil
			}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Highest = 9
				p.Cancel()
				return nil, errRefused
			}),
			change(purseEP, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				assert.Equal(t, uint64(2), index)
				assert.Equal(t, 4, p.Highest)
				assert.Equal(t, store.Verified, p.Attempt(key).State)
				assert.Equal(t, "one", p.Pending().ID)
				return entries("third"), nil
			}))
		require.Equal(t, []error{nil, nil, errRefused, nil}, outcomes)
		look(t, s, purseEP, func(p *store.Purse) {
			assert.Equal(t, 4, p.Highest)
			assert.Equal(t, store.Verified, p.Attempt(key).State)
			assert.Equal(t, "one", p.Pending().ID)
		})
	})
	e.bubble(t, "two purses of one card share it", func(t *testing.T, s store.Store) {
		outcomes := together(t, s,
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Card.MAC1Failures++
				return nil, nil
			}),
			change(purseED, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Equal(t, 1, p.Card.MAC1Failures)
				p.Card = store.Card{MAC1Failures: 2, Locked: true}
				return nil, nil
			}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Equal(t, store.Card{MAC1Failures: 2, Locked: true}, p.Card)
				return nil, nil
			}))
		require.Equal(t, []error{nil, nil, nil}, outcomes)
		look(t, s, purseED, func(p *store.Purse) { assert.Equal(t, store.Card{MAC1Failures: 2, Locked: true}, p.Card) })
		other := purseEP
		other.KeySet = "demo-sm4"
		untouched(t, s, other)
	})
}

// contractCopies: a decision works on a copy, and only what it may change is taken from it.
func contractCopies(t *testing.T, e engine) {
	key := store.AttemptKey{Counter: 3, Random: "A1B2C3D4"}
	e.bubble(t, "a change that fails has written nothing into what the next one sees", func(t *testing.T, s store.Store) {
		want := newAttempt(purseEP, key)
		want.WrongTACs = []string{"11111111"}
		settled := []store.Proved{{ID: "first", State: store.Applied, Evidence: store.ByCounter}}
		outcomes := together(t, s, adding(purseEP, key),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Attempt(key).WrongTACs = []string{"11111111"}
				p.Begin(&store.Settlement{ID: "one", Settled: slices.Clone(settled)})
				return nil, nil
			}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Attempt(key).WrongTACs[0] = "22222222"
				p.Pending().Settled[0].ID = "another"
				return nil, errRefused
			}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Equal(t, want, p.Attempt(key))
				assert.Equal(t, settled, p.Pending().Settled)
				return nil, nil
			}))
		require.Equal(t, []error{nil, nil, errRefused, nil}, outcomes)
	})
	e.bubble(t, "what is fixed when an attempt is made stays, for the next change too", func(t *testing.T, s store.Store) {
		outcomes := together(t, s, adding(purseEP, key),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Attempt(key).MAC2, p.Attempt(key).State = "FFFFFFFF", store.Applied
				return nil, nil
			}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				want := newAttempt(purseEP, key)
				want.State = store.Applied
				assert.Equal(t, want, p.Attempt(key))
				return nil, nil
			}))
		require.Equal(t, []error{nil, nil, nil}, outcomes)
	})
}

// contractSight: what a change sees is what it named, in the order of commit, whoever shares its group.
func contractSight(t *testing.T, e engine) {
	e.bubble(t, "attempts at a counter are in the order of commit", func(t *testing.T, s store.Store) {
		randoms := func(p *store.Purse) (all []string) {
			for _, a := range p.At(3) {
				all = append(all, a.Random)
			}
			return all
		}
		want := []string{"00000002", "00000003", "00000001"}
		for _, random := range want {
			require.NoError(t, s.Commit(t.Context(), adding(purseEP, store.AttemptKey{Counter: 3, Random: random})))
		}
		outcomes := together(t, s, adding(purseEP, store.AttemptKey{Counter: 3, Random: "00000000"}),
			change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Equal(t, append(want, "00000000"), randoms(p))
				return nil, nil
			}))
		require.Equal(t, []error{nil, nil}, outcomes)
	})
	e.bubble(t, "a change sees no counter and no settlement that only another named", func(t *testing.T, s store.Store) {
		require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Begin(&store.Settlement{ID: "one"})
			p.Cancel()
			p.Highest = 9
			return nil, nil
		})))
		naming := change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.NotNil(t, p.Settlement("one"))
			return nil, nil
		})
		naming.Settlement = "one"
		outcomes := together(t, s, naming, store.Change{Purse: purseEP, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Nil(t, p.Settlement("one"))
			assert.Empty(t, p.At(9), "the highest is named without saying")
			p.At(8)
			return nil, nil
		}})
		require.NoError(t, outcomes[0])
		require.ErrorContains(t, outcomes[1], "did not name")
	})
}
