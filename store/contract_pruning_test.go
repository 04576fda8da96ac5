package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// pruning is what pruning asks of a store.
type pruning interface {
	sealing
	Pruned(ctx context.Context) (uint64, error)
	MarkPruned(ctx context.Context, before uint64) error
	DeletePruned(ctx context.Context, limit int) (int, error)
}

// Entries go when they are sealed and marked, a few at a time; the last stay, and the record goes on at its index.
func contractPruning(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place).(pruning)
	ctx := t.Context()
	indexes := func() (all []uint64) {
		require.NoError(t, s.Entries(ctx, 0, func(index uint64, _ []byte) bool { all = append(all, index); return true }))
		return all
	}
	recordStarts(t, s, 10)
	require.ErrorIs(t, s.MarkPruned(ctx, 1), store.ErrNotPrunable, "nothing is sealed")
	lease, err := s.TakeSealing(ctx, audit.Lease{Holder: "a"}, time.Now(), term)
	require.NoError(t, err)
	require.NoError(t, s.MarkSealed(ctx, lease, audit.Sealed{Size: 10, Checkpoint: "ten"}))
	deleted, err := s.DeletePruned(ctx, 100)
	require.NoError(t, err)
	assert.Zero(t, deleted, "nothing is marked")
	require.ErrorIs(t, s.MarkPruned(ctx, 10), store.ErrNotPrunable, "the last stays")
	require.ErrorIs(t, s.MarkPruned(ctx, 11), store.ErrNotPrunable)

	require.NoError(t, s.MarkPruned(ctx, 6))
	require.NoError(t, s.MarkPruned(ctx, 3), "it stays where it is")
	before, err := s.Pruned(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 6, before)
	assert.Len(t, indexes(), 10)
	for _, want := range []int{4, 2, 0} {
		deleted, err := s.DeletePruned(ctx, 4)
		require.NoError(t, err)
		assert.Equal(t, want, deleted)
	}
	assert.Equal(t, []uint64{6, 7, 8, 9}, indexes())
	require.NoError(t, s.Close())

	s = e.open(t, place).(pruning)
	before, err = s.Pruned(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 6, before)
	recordStarts(t, s, 1)
	assert.Equal(t, []uint64{6, 7, 8, 9, 10}, indexes())
}
