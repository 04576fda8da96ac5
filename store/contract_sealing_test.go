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

// sealing is what a sealer asks of a store.
type sealing interface {
	store.Store
	Sealing(ctx context.Context) (audit.Sealed, uint64, error)
	TakeSealing(ctx context.Context, lease audit.Lease, now time.Time, term time.Duration) (audit.Lease, error)
	MarkSealed(ctx context.Context, lease audit.Lease, sealed audit.Sealed) error
}

const term = 5 * time.Second

func recordStarts(t *testing.T, s store.Store, entries int) {
	t.Helper()
	for range entries {
		require.NoError(t, s.Commit(t.Context(), store.Change{Purse: purseEP, Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
			return []audit.Entry{{Time: time.Now(), Event: audit.Started, Outcome: "OK"}}, nil
		}}))
	}
}

// One sealer at a time, and after it the next: the lease, as every store keeps it.
func contractSealing(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place).(sealing)
	ctx, now := t.Context(), time.Now()
	a, b := audit.Lease{Holder: "a"}, audit.Lease{Holder: "b"}
	sealed, entries, err := s.Sealing(ctx)
	require.NoError(t, err)
	assert.Zero(t, sealed)
	assert.Zero(t, entries)
	recordStarts(t, s, 5)

	first, err := s.TakeSealing(ctx, a, now, term)
	require.NoError(t, err)
	assert.Equal(t, audit.Lease{Holder: "a", Fence: 1}, first)
	_, err = s.TakeSealing(ctx, b, now.Add(term-time.Millisecond), term)
	require.ErrorIs(t, err, audit.ErrLeaseHeld)
	require.ErrorContains(t, err, "a")
	renewed, err := s.TakeSealing(ctx, first, now.Add(2*term), term)
	require.NoError(t, err)
	assert.Equal(t, first, renewed, "even after its end, when nobody took it")
	require.NoError(t, s.MarkSealed(ctx, first, audit.Sealed{Size: 3, Checkpoint: "three"}))

	again, err := s.TakeSealing(ctx, a, now.Add(2*term), term)
	require.NoError(t, err, "a holder that was started again need not wait for its own lease")
	assert.Equal(t, uint64(2), again.Fence)
	require.ErrorIs(t, s.MarkSealed(ctx, first, audit.Sealed{Size: 4, Checkpoint: "four"}), audit.ErrFenced, "of its earlier life")

	other, err := s.TakeSealing(ctx, b, now.Add(3*term), term)
	require.NoError(t, err)
	assert.Equal(t, audit.Lease{Holder: "b", Fence: 3}, other)
	require.ErrorIs(t, s.MarkSealed(ctx, again, audit.Sealed{Size: 4, Checkpoint: "four"}), audit.ErrFenced)
	_, err = s.TakeSealing(ctx, again, now.Add(3*term), term)
	require.ErrorIs(t, err, audit.ErrLeaseHeld)
	for _, size := range []uint64{2, 3, 6} {
		require.ErrorIs(t, s.MarkSealed(ctx, other, audit.Sealed{Size: size}), audit.ErrFenced, "a mark goes forward, to entries that are there")
	}
	require.NoError(t, s.MarkSealed(ctx, other, audit.Sealed{Size: 5, Checkpoint: "five"}))

	// Given back, or dated by a clock that was years ahead: free.
	_, err = s.TakeSealing(ctx, other, now.Add(3*term), 0)
	require.NoError(t, err)
	ahead, err := s.TakeSealing(ctx, a, now.AddDate(3, 0, 0), term)
	require.NoError(t, err)
	_, err = s.TakeSealing(ctx, b, now, term)
	require.NoError(t, err)
	require.ErrorIs(t, s.MarkSealed(ctx, ahead, audit.Sealed{Size: 5}), audit.ErrFenced)

	require.NoError(t, s.Close())
	s = e.open(t, place).(sealing)
	defer func() { require.NoError(t, s.Close()) }()
	sealed, entries, err = s.Sealing(ctx)
	require.NoError(t, err)
	assert.Equal(t, audit.Sealed{Size: 5, Checkpoint: "five"}, sealed)
	assert.Equal(t, uint64(5), entries)
}
