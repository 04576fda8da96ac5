package store_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// contractResets: after a reset a purse knows no counter, no pending settlement and no attempt; what was judged in the same decision is kept,
// the old attempts are there as history, and the same counter and random may be recorded once more.
func contractResets(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	start(t, s)
	old := store.AttemptKey{Counter: 7, Random: "A1B2C3D4"}
	require.NoError(t, s.Commit(t.Context(), adding(purseEP, old)))
	require.NoError(t, s.Commit(t.Context(), adding(purseED, old)))
	require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Begin(&store.Settlement{ID: "settlement"})
		return entries("begun"), nil
	})))
	require.ErrorIs(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Reset()
		return nil, errRefused
	})), errRefused)
	look(t, s, purseEP, func(p *store.Purse) { assert.Equal(t, 7, p.Highest, "a decision that failed reset nothing") })

	reset := change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Attempt(old).State = store.Undetermined
		p.Reset()
		assert.Nil(t, p.Attempt(old), "in the same decision")
		return entries("reset"), nil
	})
	require.NoError(t, s.Commit(t.Context(), reset))
	forgotten := func(p *store.Purse) {
		assert.Equal(t, store.NoCounter, p.Highest)
		assert.Nil(t, p.Pending())
		assert.Empty(t, p.At(7))
		assert.Nil(t, p.Attempt(old))
	}
	look(t, s, purseEP, forgotten)
	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	look(t, s, purseEP, forgotten)
	look(t, s, purseED, func(p *store.Purse) { assert.NotNil(t, p.Attempt(old), "the other purse is as it was") })
	_, settlement, err := s.Settlement(t.Context(), "settlement")
	require.NoError(t, err)
	assert.Equal(t, store.SettlementCancelled, settlement.State)
	was, err := s.Attempt(t.Context(), purseEP, old)
	require.NoError(t, err)
	assert.Equal(t, []any{store.Undetermined, 0}, []any{was.State, was.Epoch})

	require.NoError(t, s.Commit(t.Context(), adding(purseEP, old)))
	again, err := s.Attempt(t.Context(), purseEP, old)
	require.NoError(t, err)
	assert.Equal(t, 1, again.Epoch)
	assert.Greater(t, again.AuditIndex, was.AuditIndex)
	look(t, s, purseEP, func(p *store.Purse) {
		assert.Equal(t, []*store.Attempt{&again}, p.At(7), "the later one alone")
	})
	listed, err := s.List(t.Context(), store.Filter{KeySet: purseEP.KeySet, Purse: purseEP.Purse, Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, []store.Listed{{Purse: purseEP, Attempt: was}, {Purse: purseEP, Attempt: again}}, listed, "both are there to be listed")
}
