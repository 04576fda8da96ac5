package store_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store"
)

const (
	smallLog = 100                                    // pages at which the log of these tests is full
	frame    = 4096 + 24                              // bytes of a page in the log
	mostLog  = (store.LogMost*smallLog + 400) * frame // where the writer waits, and a group beyond
)

func openSmallLog(t testing.TB, place string) *store.Database {
	t.Helper()
	s, err := store.OpenSQLiteLog(t.Context(), place, smallLog)
	require.NoError(t, err)
	return s
}

func sizeOf(t testing.TB, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	require.NoError(t, err)
	return info.Size()
}

// The log begins anew while many callers commit without a pause, and all is in the file after Close.
func TestSQLiteLogIsBounded(t *testing.T) {
	place := placeSQLite(t)
	s := openSmallLog(t, place)
	const changes = 4000 // some 10,000 pages
	runCallers(t, s, 64, changes, freshLoads())
	assert.Less(t, sizeOf(t, place+"-wal"), int64(mostLog))
	require.NoError(t, s.LogFailure())
	require.NoError(t, s.Close())
	left, err := os.ReadDir(filepath.Dir(place))
	require.NoError(t, err)
	require.Len(t, left, 1, "the log is in the file after Close")
	sound(t, place)
	again := openSQLite(t, place)
	assert.Len(t, record(t, again), changes)
	require.NoError(t, again.Close())
}

// A full log is moved though nothing more is committed: not by the writer.
func TestSQLiteLogIsMovedBesideCommits(t *testing.T) {
	place := placeSQLite(t)
	s := openSmallLog(t, place)
	require.EqualValues(t, 4096, sizeOf(t, place), "nothing is moved yet")
	runCallers(t, s, 16, 200, freshLoads())
	require.Eventually(t, func() bool { return sizeOf(t, place) > smallLog*4096/2 }, time.Minute, time.Millisecond)
	require.NoError(t, s.Close())
}

// A reader sees one state for as long as it looks, however much is committed meanwhile. The log waits for it, and for no longer.
func TestSQLiteLogWaitsForAReader(t *testing.T) {
	place := placeSQLite(t)
	s := openSmallLog(t, place)
	run := func() { runCallers(t, s, 16, 1000, freshLoads()) }
	run()
	other, err := sql.Open("sqlite", place)
	require.NoError(t, err)
	reader, err := other.Begin()
	require.NoError(t, err)
	seen := func() (n int) {
		require.NoError(t, reader.QueryRow(`SELECT COUNT(*) FROM audit_entries`).Scan(&n))
		return n
	}
	require.Equal(t, 1000, seen())
	run()
	require.Equal(t, 1000, seen(), "what it saw at first")
	kept := sizeOf(t, place+"-wal")
	require.Greater(t, kept, int64(mostLog), "what is committed meanwhile is in the log")
	require.NoError(t, reader.Rollback())
	for range 4 {
		run()
	}
	assert.Less(t, sizeOf(t, place+"-wal"), kept+mostLog, "it begins anew when the reader has gone")
	require.NoError(t, s.LogFailure())
	require.NoError(t, other.Close())
	require.NoError(t, s.Close())
	sound(t, place)
}

// A log that cannot be moved is told of, and fails no commit; it is moved when there is room.
func TestSQLiteLogIsNotMoved(t *testing.T) {
	place := placeSQLite(t)
	first := openSQLite(t, place)
	const before = 3000 // the database is larger than the log ever is
	runCallers(t, first, 16, before, freshLoads())
	require.NoError(t, first.Close())
	s := openSmallLog(t, place)
	t.Cleanup(func() { limitFiles(t, noLimit) })
	limitFiles(t, uint64(sizeOf(t, place)))
	next, committed := freshLoads(), before
	until := func(failing bool) {
		for deadline := time.Now().Add(time.Minute); (s.LogFailure() != nil) != failing; committed++ {
			require.True(t, time.Now().Before(deadline), "failing: %v expected", failing)
			require.NoError(t, s.Commit(t.Context(), next(committed)))
		}
	}
	until(true)
	require.ErrorContains(t, s.LogFailure(), "move the log into the database")
	require.NoError(t, s.Ready(t.Context()), "commits are durable in the log")
	limitFiles(t, noLimit)
	until(false)
	require.NoError(t, s.Close())
	sound(t, place)
	again := openSQLite(t, place)
	assert.Len(t, record(t, again), committed)
	require.NoError(t, again.Close())
}
