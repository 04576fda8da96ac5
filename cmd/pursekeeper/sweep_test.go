package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// Totals go three days after their hour or day, however many there are, and none goes sooner.
func TestTotalsAreSwept(t *testing.T) {
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	defer s.Close()
	now := time.Date(2024, 1, 31, 12, 0, 0, 0, time.UTC)
	var totals []store.Bucket
	for i := range 2*sweptAtOnce + 1 {
		totals = append(totals, store.Bucket{Name: fmt.Sprint("old ", i), Until: now.Add(-keptTotals - time.Second)})
	}
	totals = append(totals, store.Bucket{Name: "kept", Until: now.Add(-keptTotals)}, store.Bucket{Name: "today", Until: now.Add(time.Hour)})
	require.NoError(t, s.Commit(t.Context(), store.Change{Totals: totals, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		for _, bucket := range totals {
			p.Count(bucket.Name, 1)
		}
		return nil, nil
	}}))
	swept, err := sweepTotals(t.Context(), s, now)
	require.NoError(t, err)
	assert.Equal(t, 2*sweptAtOnce+1, swept)
	swept, err = sweepTotals(t.Context(), s, now.Add(24*365*time.Hour))
	require.NoError(t, err)
	assert.Equal(t, 2, swept)
}
