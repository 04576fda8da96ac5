package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// patience is for what a loaded machine does late, never for what is not to happen.
const patience = time.Minute

// openOver opens a database over TCP, with the password.
func openOver(t testing.TB, server *pgtest.Server, url string) *store.Database {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url, Password: func(context.Context) ([]byte, error) {
		return []byte(server.Password), nil
	}})
	require.NoError(t, err)
	return s
}

// probe is a change that counts what becomes of it.
type probe struct{ decided, committed atomic.Int64 }

func (p *probe) change(name string) store.Change {
	c := change(purseEP, func(s *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.decided.Add(1)
		s.Highest++
		return entries(name), nil
	})
	c.Committed = func() { p.committed.Add(1) }
	return c
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, patience, 5*time.Millisecond, what)
}

// ask is one value from a database, as text.
func ask(t testing.TB, url, query string) (value string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.QueryRow(query).Scan(&value))
	return value
}

const resolverWaits = `SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`

// A connection that is lost in the middle of COMMIT, before the server saw it or after it committed: what became of the group is read, so that
// its changes are decided once where they are there, once more where they are not, and never recorded twice.
func TestPostgresLosesTheConnectionInCommit(t *testing.T) {
	server := pgtest.Start(t)
	for name, c := range map[string]struct {
		plan    plan
		decided int64
	}{
		"cut before the server saw it":       {cutBefore, 2},
		"cut after it committed":             {cutAfter, 1},
		"dark before the server saw it":      {darkBefore, 2},
		"dark after it committed":            {darkAfter, 1},
		"it arrives while it is asked about": {lateAfter, 1},
		"it never arrives, nor does its end": {neverAfter, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := server.Database(t)
			p, url := newProxy(t, server, database)
			s := openOver(t, server, url)
			start(t, s)
			done := p.next(c.plan)
			var lost, other probe
			answer := make(chan error, 1)
			go func() { answer <- s.Commit(context.Background(), lost.change(string(commitMark))) }()
			<-done
			switch c.plan {
			case darkBefore, darkAfter:
				eventually(t, "it is noticed", func() bool { // and everything else is refused at once, for nothing can be decided
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					err := s.Commit(ctx, other.change("other"))
					require.Error(t, err)
					return strings.Contains(err.Error(), store.ErrUnavailable.Error())
				})
				assert.Empty(t, answer, "the outcome is not guessed")
				assert.Zero(t, lost.committed.Load())
				p.light()
			case lateAfter:
				eventually(t, "the lock is waited for", func() bool { return ask(t, database, resolverWaits) == "true" })
				p.deliver()
			}
			require.NoError(t, <-answer)
			assert.Equal(t, c.decided, lost.decided.Load(), "decided")
			assert.EqualValues(t, 1, lost.committed.Load())
			assert.Zero(t, other.committed.Load())
			require.NoError(t, s.Commit(t.Context(), other.change("after")))
			assert.Equal(t, []string{"started", string(commitMark), "after"}, record(t, s))
			look(t, s, purseEP, func(p *store.Purse) { assert.Equal(t, 1, p.Highest) })
			assert.Len(t, s.RecentEntries(0, 3), 3, "what was committed is known, of the group that was lost too")
			require.NoError(t, s.Close())
		})
	}
}

// A caller whose time is over while its group's outcome is not known is told that, and the change's own hook runs when it is.
func TestPostgresCallersLeaveAnUnknownCommit(t *testing.T) {
	server := pgtest.Start(t)
	p, url := newProxy(t, server, server.Database(t))
	s := openOver(t, server, url)
	done := p.next(darkAfter)
	ctx, cancel := context.WithCancel(t.Context())
	var lost probe
	answer := make(chan error, 1)
	go func() { answer <- s.Commit(ctx, lost.change(string(commitMark))) }()
	<-done
	cancel()
	require.ErrorIs(t, <-answer, context.Canceled)
	assert.Zero(t, lost.committed.Load())
	p.light()
	eventually(t, "it is found out", func() bool { return lost.committed.Load() == 1 })
	require.NoError(t, s.Close())
}

// Close does not wait for ever for a server that is gone.
func TestPostgresClosesWhileTheOutcomeIsUnknown(t *testing.T) {
	server := pgtest.Start(t)
	p, url := newProxy(t, server, server.Database(t))
	s := openOver(t, server, url)
	done := p.next(darkAfter)
	answer := make(chan error, 1)
	go func() { answer <- s.Commit(context.Background(), new(probe).change(string(commitMark))) }()
	<-done
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-answer, store.ErrUnavailable)
}

// A group that arrives after its number was settled is refused by the database itself, whatever became of the locks.
func TestPostgresRefusesAGroupThatWasSettled(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	p, over := newProxy(t, server, url)
	s := openOver(t, server, over)
	require.NoError(t, s.Commit(t.Context(), new(probe).change("one")))
	done := p.next(cutBefore)
	require.NoError(t, s.Commit(t.Context(), new(probe).change(string(commitMark))))
	<-done
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer db.Close()
	for number, refused := range map[int]bool{4: true, 6: true, 8: false} {
		tx, err := db.Begin()
		require.NoError(t, err)
		_, err = tx.Exec(store.MarkGroup, ask(t, url, `SELECT instance FROM group_commits`), number, 0)
		if refused {
			require.ErrorContains(t, err, "23514", "group %d", number)
		} else {
			require.NoError(t, err, "group %d", number)
		}
		require.NoError(t, tx.Rollback())
	}
	require.NoError(t, s.Close())
	assert.Equal(t, "0", ask(t, url, `SELECT COUNT(*) FROM group_commits`), "a store that closes forgets its row")
}

// load commits from eight callers until stopped, and tells which changes Commit said are durable and which it said are not.
type load struct {
	stop       atomic.Bool
	all        sync.WaitGroup
	mu         sync.Mutex
	kept, lost []string
}

func begin(s store.Store, name string) *load {
	l := &load{}
	for caller := range 8 {
		l.all.Go(func() {
			for n := 0; !l.stop.Load(); n++ {
				one := fmt.Sprintf("%s %d: %d", name, caller, n)
				at := store.PurseKey{KeySet: "demo", Card: fmt.Sprint(caller % 4), Purse: "EP"}
				c := change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
					p.Highest++
					_, _ = p.Terminal().Next()
					if caller == 0 {
						next(p)
					}
					return entries(one), nil
				})
				c.Terminal, c.Custody = terminalOf(at), caller == 0
				err := s.Commit(context.Background(), c)
				l.mu.Lock()
				if err == nil {
					l.kept = append(l.kept, one)
				} else {
					l.lost = append(l.lost, one)
				}
				l.mu.Unlock()
				if err != nil {
					time.Sleep(time.Millisecond) // it is refused at once; the others are to run too
				}
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop.Store(true)
	l.all.Wait()
}

func (l *load) sofar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kept)
}

// The server is killed under load and started again: what Commit said is durable is there, what it said is not is not, and the record has no gap.
func TestPostgresKilled(t *testing.T) {
	server := pgtest.Start(t)
	s := openOver(t, server, server.TCP(server.Database(t)))
	l := begin(s, "load")
	for range 5 {
		before := l.sofar()
		eventually(t, "it commits", func() bool { return l.sofar() > before+200 })
		server.Kill(t)
		server.Launch(t)
	}
	before := l.sofar()
	eventually(t, "it commits again", func() bool { return l.sofar() > before+200 })
	l.end()
	there := record(t, s)
	assert.ElementsMatch(t, l.kept, there)
	sum := 0
	for n := range 4 {
		at := store.PurseKey{KeySet: "demo", Card: fmt.Sprint(n), Purse: "EP"}
		look(t, s, at, func(p *store.Purse) { sum += p.Highest + 1 })
	}
	assert.Equal(t, len(there), sum, "as many entries as changes")
	t.Logf("%d changes are durable, %d were refused", len(l.kept), len(l.lost))
	require.NoError(t, s.Close())
}

// A server that is stopped is away, and that is said at once; when it is there again nobody needs to be told.
func TestPostgresAway(t *testing.T) {
	server := pgtest.Start(t)
	s := openOver(t, server, server.TCP(server.Database(t)))
	require.NoError(t, s.Ready(t.Context()))
	server.Stop(t)
	for range 100 {
		before := time.Now()
		require.ErrorIs(t, s.Commit(t.Context(), new(probe).change("away")), store.ErrUnavailable)
		require.Less(t, time.Since(before), 2*time.Second)
	}
	require.ErrorIs(t, s.Ready(t.Context()), store.ErrUnavailable)
	_, err := s.Custody(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	server.Launch(t)
	eventually(t, "it is there again", func() bool { return s.Ready(t.Context()) == nil })
	require.NoError(t, s.Commit(t.Context(), new(probe).change("there")))
	assert.Equal(t, []string{"there"}, record(t, s))
	require.NoError(t, s.Close())
}

// A server that waits for a copy which never comes has committed nothing that could be relied on: no caller is told so, not even when an
// operator ends the wait, which the server itself takes for success.
func TestPostgresWaitsForItsCopies(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	server.Exec(t, url, `ALTER ROLE postgres SET synchronous_commit = off`) // the store's own sessions wait all the same
	s := openOver(t, server, server.TCP(url))
	require.NoError(t, s.Commit(t.Context(), new(probe).change("before")))
	server.Exec(t, url, `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`, `SELECT pg_reload_conf()`)
	eventually(t, "the server knows", func() bool { return ask(t, url, `SHOW synchronous_standby_names`) == "nobody" })
	var slow probe
	answer := make(chan error, 1)
	go func() { answer <- s.Commit(context.Background(), slow.change("slow")) }()
	const waits = `FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
	eventually(t, "it waits", func() bool { return ask(t, url, `SELECT COUNT(*) `+waits) == "1" })
	ask(t, url, `SELECT pg_cancel_backend(pid) `+waits)
	eventually(t, "the next waits", func() bool { return ask(t, url, `SELECT COUNT(*) `+waits) == "1" }) // it reads what became of it
	assert.Empty(t, answer)
	assert.Zero(t, slow.committed.Load())
	server.Exec(t, url, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`)
	require.NoError(t, <-answer)
	assert.EqualValues(t, 1, slow.decided.Load())
	assert.EqualValues(t, 1, slow.committed.Load())
	assert.Equal(t, []string{"before", "slow"}, record(t, s))
	require.NoError(t, s.Close())
}
