package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// childPlace, when set, makes the test binary a process that commits to that database until it is killed or its standard input
// ends, and writes a line for each change that Commit said is durable. childPause is how long each of its callers rests between two.
const (
	childPlace = "STORE_TEST_CHILD_PLACE"
	childPause = "STORE_TEST_CHILD_PAUSE"
	childRound = 80 // changes before it looks whether its input has ended
)

func TestMain(m *testing.M) {
	if place := os.Getenv(childPlace); place != "" {
		if err := commitAsChild(place); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func commitAsChild(place string) error {
	pause, err := time.ParseDuration(os.Getenv(childPause))
	if err != nil {
		return err
	}
	s, err := openPlace(context.Background(), place)
	if err != nil {
		return err
	}
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	for round := 0; !ended.Load(); round++ {
		name := fmt.Sprintf("child %d round %d", os.Getpid(), round)
		if err := countUp(s, name, childRound, pause, func(name string) { fmt.Println(name) }); err != nil {
			return err
		}
	}
	return s.Close()
}

// countUp commits the changes from eight callers, on purses that other processes count up too: each raises the
// highest counter of one of four purses by one, takes a serial number of its terminal, and replaces the catalogue with the first purse. It tells the name of each that is durable.
func countUp(s store.Store, process string, changes int64, pause time.Duration, durable func(name string)) error {
	var taken atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		all.Go(func() {
			for n := taken.Add(1); n <= changes; n = taken.Add(1) {
				name := fmt.Sprintf("%s: %d", process, n)
				at := store.PurseKey{KeySet: "demo", Card: fmt.Sprint(n % 4), Purse: "EP"}
				c := change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
					p.Highest++
					if n%4 == 0 { // and the catalogue with one of the four
						next(p)
					}
					if _, ok := p.Terminal().Next(); !ok {
						return nil, errRefused
					}
					return entries(name), nil
				})
				c.Terminal, c.Custody = terminalOf(at), n%4 == 0
				err := s.Commit(context.Background(), c)
				if err != nil {
					failed <- err
					return
				}
				durable(name)
				time.Sleep(pause) // leaves the lock to others
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

// counted returns how often the purses of countUp were counted up.
func counted(t testing.TB, s store.Store) (sum int) {
	t.Helper()
	for n := range 4 {
		at := store.PurseKey{KeySet: "demo", Card: fmt.Sprint(n), Purse: "EP"}
		c := change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			sum += p.Highest + 1
			assert.EqualValues(t, p.Highest+1, p.Terminal().Last, "as many serial numbers as changes")
			if n == 0 {
				assert.EqualValues(t, p.Highest+1, p.Custody().Revision, "as many revisions as changes")
				assert.Equal(t, fmt.Sprint("document ", p.Highest+1), string(p.Custody().Document))
			}
			return nil, nil
		})
		c.Terminal, c.Custody = terminalOf(at), n == 0
		require.NoError(t, s.Commit(t.Context(), c))
	}
	return sum
}

// terminalOf is the terminal whose serial numbers are taken with a purse of countUp.
func terminalOf(at store.PurseKey) store.TerminalKey {
	return store.TerminalKey{KeySet: at.KeySet, Terminal: at.Card}
}

// sound fails unless SQLite finds nothing wrong in the file.
func sound(t testing.TB, place string) {
	t.Helper()
	db, err := sql.Open("sqlite", place)
	require.NoError(t, err)
	defer db.Close()
	var verdict string
	require.NoError(t, db.QueryRow(`PRAGMA integrity_check`).Scan(&verdict))
	require.Equal(t, "ok", verdict)
}

// startChild starts a process that commits; it ends when its input is closed.
func startChild(t testing.TB, place string, pause time.Duration) (child *exec.Cmd, lines *bufio.Scanner, input io.Closer) {
	t.Helper()
	child = exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childPlace+"="+place, childPause+"="+pause.String())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	input, err = child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	return child, bufio.NewScanner(out), input
}

// openPlace opens a file, with a log so short that it is moved all the time, or a database at a URL.
func openPlace(ctx context.Context, place string) (store.Store, error) {
	if strings.HasPrefix(place, "postgresql://") {
		return store.OpenPostgres(ctx, store.Postgres{URL: place})
	}
	return store.OpenSQLiteLog(ctx, place, 40)
}

func TestKilled(t *testing.T) { killed(t, placeSQLite(t), openSQLite, 50, sound) }

func TestPostgresNodeKilled(t *testing.T) {
	killed(t, pgtest.Start(t).Database(t), openPostgres, 15, func(testing.TB, string) {})
}

// killed: whatever Commit said is durable is there after the process was killed at any moment, and the record has no gap.
func killed(t *testing.T, place string, open func(testing.TB, string) store.Store, times int, sound func(testing.TB, string)) {
	durable := map[string]bool{}
	for range times {
		child, lines, _ := startChild(t, place, 0)
		kill := rand.IntN(400)
		for n := 0; lines.Scan(); n++ {
			durable[lines.Text()] = true
			if n == kill {
				require.NoError(t, child.Process.Kill())
			}
		}
		var ended *exec.ExitError
		require.ErrorAs(t, child.Wait(), &ended)
		require.Equal(t, syscall.SIGKILL, ended.Sys().(syscall.WaitStatus).Signal())

		s := open(t, place)
		there := record(t, s)
		require.Equal(t, len(there), counted(t, s), "as many entries as changes")
		missing := len(durable)
		for _, name := range there {
			if durable[name] {
				missing--
			}
		}
		require.Zero(t, missing, "changes that were durable and are gone")
		require.NoError(t, s.Close())
		sound(t, place)
	}
}

func TestTwoProcesses(t *testing.T) { twoProcesses(t, placeSQLite(t), openSQLite, sound) }

func TestPostgresTwoProcesses(t *testing.T) {
	twoProcesses(t, pgtest.Start(t).Database(t), openPostgres, func(testing.TB, string) {})
}

// twoProcesses: two processes on one store wait for each other, decide on what the other left, and share one record.
func twoProcesses(t *testing.T, place string, open func(testing.TB, string) store.Store, sound func(testing.TB, string)) {
	s := open(t, place)
	child, lines, input := startChild(t, place, 5*time.Millisecond)
	var others atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			others.Add(1)
		}
	}()
	var own atomic.Int64
	for round := 0; turns(record(t, s)) <= 4; round++ { // however long the machine takes to let both run
		require.NoError(t, countUp(s, fmt.Sprintf("parent round %d", round), 40, 5*time.Millisecond, func(string) { own.Add(1) }))
	}
	require.NoError(t, input.Close())
	<-read
	require.NoError(t, child.Wait())
	there := record(t, s)
	assert.Len(t, there, int(own.Load()+others.Load()))
	assert.EqualValues(t, own.Load()+others.Load(), counted(t, s))
	require.NoError(t, s.Close())
	sound(t, place)
}

// turns is how often the record passes from one process to the other.
func turns(record []string) (n int) {
	for i := 1; i < len(record); i++ {
		if record[i-1][:5] != record[i][:5] {
			n++
		}
	}
	return n
}

// limitFiles lets this process write no file beyond so many bytes, as a full disk would, until it is called again.
func limitFiles(t testing.TB, bytes uint64) {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	limit.Cur = min(bytes, limit.Max)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}

const noLimit = 1<<64 - 1

// TestDiskFull: a commit that the disk does not take fails for all of its group and leaves nothing, and the store works again
// when there is room.
func TestDiskFull(t *testing.T) {
	place := placeSQLite(t)
	s := openSQLite(t, place)
	var kept []string
	commit := func(round string, callers int) (failed int) {
		var all sync.WaitGroup
		var mu sync.Mutex
		for n := range callers {
			all.Go(func() {
				name := fmt.Sprintf("%s: %d", round, n)
				at := store.PurseKey{KeySet: "demo", Card: fmt.Sprintf("%s-%d", round, n%(callers/2)), Purse: "EP"}
				err := s.Commit(t.Context(), change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
					p.Highest++
					return entries(name), nil
				}))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					kept = append(kept, name)
					return
				}
				assert.ErrorIs(t, err, store.ErrUnavailable)
				failed++
			})
		}
		all.Wait()
		return failed
	}
	require.Zero(t, commit("before", 64))
	t.Cleanup(func() { limitFiles(t, noLimit) })
	for round := range 3 {
		limitFiles(t, 200_000)
		failed := 0
		for n := 0; failed == 0; n++ {
			require.Less(t, n, 100, "the disk is never full")
			failed = commit(fmt.Sprintf("full %d %d", round, n), 64)
		}
		limitFiles(t, 1)
		require.ErrorIs(t, s.Ready(t.Context()), store.ErrUnavailable, "a store that cannot write is not ready")
		require.ElementsMatch(t, kept, record(t, s), "nothing more than what Commit said")
		limitFiles(t, noLimit)
		require.NoError(t, s.Ready(t.Context()))
		require.Zero(t, commit(fmt.Sprintf("room %d", round), 64))
	}
	require.NoError(t, s.Close())
	sound(t, place)
	s = openSQLite(t, place)
	assert.ElementsMatch(t, kept, record(t, s))
	require.NoError(t, s.Close())
}

// TestLocked: a commit waits for a lock held for a moment by another process, and fails when it is held on.
func TestLocked(t *testing.T) {
	place := placeSQLite(t)
	s := openSQLite(t, place)
	other, err := sql.Open("sqlite", place)
	require.NoError(t, err)
	other.SetMaxOpenConns(1)
	lock := func() { _, err := other.Exec(`BEGIN IMMEDIATE`); require.NoError(t, err) }
	unlock := func() { _, err := other.Exec(`ROLLBACK`); assert.NoError(t, err) }
	commit := func(random string) error {
		return s.Commit(t.Context(), adding(purseEP, store.AttemptKey{Counter: 1, Random: random}))
	}

	lock()
	time.AfterFunc(100*time.Millisecond, unlock)
	require.NoError(t, commit("00000001"))

	lock()
	before := time.Now()
	require.ErrorIs(t, commit("00000002"), store.ErrUnavailable)
	assert.Less(t, time.Since(before), 4*time.Second)
	_, err = s.Attempt(t.Context(), purseEP, store.AttemptKey{Counter: 1, Random: "00000001"})
	require.NoError(t, err, "a reader does not wait for a writer")
	unlock()
	require.NoError(t, commit("00000003"))
	assert.Len(t, record(t, s), 2)
	require.NoError(t, other.Close())
	require.NoError(t, s.Close())
}

func TestForeignEntry(t *testing.T) {
	place := placeSQLite(t)
	foreignEntry(t, openSQLite(t, place), func(text string) { edit(t, place, text) })
}

func TestPostgresForeignEntry(t *testing.T) {
	server := pgtest.Start(t)
	place := server.Database(t)
	foreignEntry(t, openPostgres(t, place), func(text string) { server.Exec(t, place, text) })
}

// foreignEntry: an entry that another hand put where the next one goes fails the commit, and only until it is gone.
func foreignEntry(t *testing.T, s store.Store, edit func(text string)) {
	start(t, s)
	edit(`INSERT INTO audit_entries VALUES (1, '{}')`)
	key := store.AttemptKey{Counter: 1, Random: "00000001"}
	require.ErrorIs(t, s.Commit(t.Context(), adding(purseEP, key)), store.ErrUnavailable)
	_, err := s.Attempt(t.Context(), purseEP, key)
	require.ErrorIs(t, err, store.ErrNotFound, "nothing of the failed commit is left")
	edit(`DELETE FROM audit_entries WHERE idx = 1`)
	require.NoError(t, s.Commit(t.Context(), adding(purseEP, key)))
	assert.Len(t, record(t, s), 2)
	require.NoError(t, s.Close())
}
