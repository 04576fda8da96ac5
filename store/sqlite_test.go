package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/pursekeeper/pursekeeper/store"
)

func openSQLite(t testing.TB, place string) store.Store {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), place)
	require.NoError(t, err)
	return s
}

func placeSQLite(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

func TestSQLite(t *testing.T) {
	contract(t, engine{place: placeSQLite, open: openSQLite})
}

// edit changes a closed database behind the store's back.
func edit(t testing.TB, place, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", place)
	require.NoError(t, err)
	_, err = db.Exec(text)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// used makes a database with some state in it, and closes it.
func used(t testing.TB) string {
	t.Helper()
	place := placeSQLite(t)
	s := openSQLite(t, place)
	runCallers(t, s, 8, 200, freshLoads())
	require.NoError(t, s.Close())
	return place
}

func TestSQLiteFiles(t *testing.T) {
	for _, name := range []string{"state.db", "a b%20c?d#e&mode=memory.db", "钱包.db"} {
		t.Run(name, func(t *testing.T) {
			place := filepath.Join(t.TempDir(), name)
			s := openSQLite(t, place)
			require.NoError(t, s.Commit(t.Context(), adding(purseEP, store.AttemptKey{Counter: 1, Random: "00000001"})))
			for _, file := range []string{place, place + "-wal", place + "-shm"} {
				info, err := os.Stat(file)
				require.NoError(t, err)
				assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
			}
			require.NoError(t, s.Close())
			left, err := os.ReadDir(filepath.Dir(place))
			require.NoError(t, err)
			require.Len(t, left, 1, "the log is in the file after Close")
			assert.Equal(t, name, left[0].Name())
		})
	}
}

// TestSQLiteRefuses: what Open says of a file that it must not use.
func TestSQLiteRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, place string)
		says  string
	}{
		"a newer schema": {func(t *testing.T, place string) {
			edit(t, place, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)`)
		}, "written by a newer one"},
		"a record without its last entry": {func(t *testing.T, place string) {
			edit(t, place, `DELETE FROM audit_entries WHERE idx = 199`)
		}, "the audit record ends before entry 199, its head says 200"},
		"a record with a foreign entry": {func(t *testing.T, place string) {
			edit(t, place, `INSERT INTO audit_entries VALUES (200, '{}')`)
		}, "the audit record ends before entry 201, its head says 200"},
		"a catalogue that was set back": {func(t *testing.T, place string) {
			edit(t, place, `UPDATE custody SET revision = 3`)
		}, "the catalogue is at revision 3, the audit head says 0"},
		"a file that is no database": {func(t *testing.T, place string) {
			require.NoError(t, os.WriteFile(place, []byte("this was written by somebody else, and is long enough to be looked at: "+
				"a database begins with a header of one hundred bytes"), 0o600))
		}, "file is not a database"},
		"a file cut short": {func(t *testing.T, place string) {
			require.NoError(t, os.Truncate(place, 8192))
		}, "malformed"},
		"a schema overwritten": {func(t *testing.T, place string) {
			f, err := os.OpenFile(place, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt(make([]byte, 3996), 100)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, "malformed"},
		"a folder": {func(t *testing.T, place string) {
			require.NoError(t, os.Remove(place))
			require.NoError(t, os.Mkdir(place, 0o700))
		}, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			place := used(t)
			c.spoil(t, place)
			_, err := store.OpenSQLite(t.Context(), place)
			require.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, place, "the error names the file")
		})
	}
	_, err := store.OpenSQLite(t.Context(), "")
	require.ErrorContains(t, err, "path is empty")
}

// TestSQLiteOpensAgain: bringing the schema up to date a second time changes nothing.
func TestSQLiteOpensAgain(t *testing.T) {
	place := used(t)
	before, err := os.ReadFile(place)
	require.NoError(t, err)
	for range 3 {
		s := openSQLite(t, place)
		assert.Len(t, record(t, s), 200)
		require.NoError(t, s.Close())
	}
	after, err := os.ReadFile(place)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// Many callers share commits, one caller never waits for company.
func TestGroupsGrowWithTheCallers(t *testing.T) {
	for callers, groupsOf := range map[int]func(perCommit float64) bool{
		1:  func(perCommit float64) bool { return perCommit == 1 },
		64: func(perCommit float64) bool { return perCommit >= 8 },
	} {
		s, err := store.OpenSQLite(t.Context(), placeSQLite(t))
		require.NoError(t, err)
		runCallers(t, s, callers, 30*callers, freshLoads())
		stats := s.Stats()
		perCommit := float64(stats.Changes.Load()) / float64(stats.Groups.Load())
		assert.True(t, groupsOf(perCommit), "%d callers: %.1f changes in a commit", callers, perCommit)
		require.NoError(t, s.Close())
	}
}

// Another process that has the database's lock nearly all the time, as one that commits group after group, keeps nobody out.
func TestSQLiteBesideABusyWriter(t *testing.T) {
	place := placeSQLite(t)
	s := openSQLite(t, place)
	other, err := sql.Open("sqlite", place+"?_txlock=immediate&_pragma=busy_timeout(60000)")
	require.NoError(t, err)
	other.SetMaxOpenConns(1)
	held, stop, stopped := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			tx, err := other.Begin()
			if err != nil {
				stopped <- err
				return
			}
			select {
			case held <- struct{}{}:
			default:
			}
			time.Sleep(49 * time.Millisecond)
			if err := tx.Commit(); err != nil {
				stopped <- err
				return
			}
			select {
			case <-stop:
				stopped <- nil
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	for i := range 20 {
		<-held
		key := store.AttemptKey{Counter: 1, Random: fmt.Sprintf("%08X", i)}
		require.NoError(t, s.Commit(t.Context(), adding(purseEP, key)), i)
	}
	close(stop)
	require.NoError(t, <-stopped)
	require.NoError(t, other.Close())
	require.NoError(t, s.Close())
}
