package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	driver "modernc.org/sqlite"
)

// How long SQLite's write-ahead log becomes, in pages of 4,096 bytes. A page that is changed often is moved into the database once in so many,
// and the writer waits for the disk once in so many (see finish).
const (
	logFull = 16_000 // at which it is moved, beside the commits: 64 MB
	logMost = 2      // so many times logFull: here the writer waits for the move, whatever is left of it
	logRest = 200    // pages that came during a move and are few enough for the writer to wait for
	logRuns = 4      // of one move, each over what came during the one before
)

// sqliteLog moves the log into the database beside the commits. A commit that did it, as SQLite's own wal_autocheckpoint would, holds up all
// callers for as long as the disk takes for thousands of pages.
//
// SQLite lets a commit write to the log while another connection moves what was committed before (a passive checkpoint), and begins the log
// anew when a transaction begins while all of it is moved and no reader looks at it. While commits follow each other that moment never comes
// by itself: so when nearly all is moved the writer, between two groups, moves the few pages that are left. A reader that holds an old
// state, or another process that moves at this time, puts that off to the next move.
//
// A move that fails loses nothing: the log keeps what it has, each commit is durable there, and the move is tried again when the log has grown
// as much again. So it fails no commit, and takes no node away that can commit; a disk that does not take the log either fails the commit.
// [Database.LogFailure] tells of it before.
type sqliteLog struct {
	db     *sql.DB // one connection
	full   int64   // pages
	wanted chan struct{}
	ended  chan struct{}
	moving sync.Mutex   // held while a checkpoint of this process runs
	grown  atomic.Int64 // pages since the writer finished a move
	ripe   atomic.Bool  // the writer is to finish the move
	failed atomic.Pointer[error]
}

// newSQLiteLog starts the moves, each over a connection of db, of a log that is full at so many pages.
func newSQLiteLog(ctx context.Context, db *sql.DB, full int64) *sqliteLog {
	db.SetMaxOpenConns(1)
	l := &sqliteLog{db: db, full: full, wanted: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for range l.wanted {
			l.move(ctx)
		}
	}()
	return l
}

// close ends the moves. What is left in the log is moved by the last connection that closes.
func (l *sqliteLog) close() error {
	close(l.wanted)
	<-l.ended
	return l.db.Close()
}

// written tells of pages that a commit wrote. Only the writer calls it.
func (l *sqliteLog) written(pages int) {
	if l.grown.Add(int64(pages)) >= l.full && !l.ripe.Load() {
		select {
		case l.wanted <- struct{}{}:
		default: // it is moving
		}
	}
}

// move moves what is in the log, until little comes meanwhile.
func (l *sqliteLog) move(ctx context.Context) {
	l.moving.Lock()
	defer l.moving.Unlock()
	if l.ripe.Load() || l.grown.Load() < l.full { // asked for while the one before ran
		return
	}
	for range logRuns {
		before := l.grown.Load()
		if !l.checkpoint(ctx, l.db) {
			l.grown.Store(0)
			return
		}
		if l.grown.Load()-before <= logRest {
			break
		}
	}
	l.ripe.Store(true)
}

// finish moves the rest over the writer's connection, where it is time to. The writer calls it between two transactions.
func (l *sqliteLog) finish(ctx context.Context, conn *sql.Conn) {
	if !l.ripe.Load() && l.grown.Load() < logMost*l.full {
		return
	}
	l.moving.Lock()
	defer l.moving.Unlock()
	l.checkpoint(ctx, conn)
	l.grown.Store(0)
	l.ripe.Store(false)
}

// checkpoint moves what no reader keeps it from moving, and reports whether that went well.
func (l *sqliteLog) checkpoint(ctx context.Context, over interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) bool {
	var busy, pages, moved int // nothing here is done about another process that moves, or a reader that keeps pages: see sqliteLog
	err := over.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &moved)
	if err != nil {
		err = fmt.Errorf("move the log into the database: %w", err)
		l.failed.Store(&err)
		return false
	}
	l.failed.Store(nil)
	return true
}

// LogFailure is the error of the last try to move SQLite's log into the database; nil when it went well, and of PostgreSQL.
func (s *Database) LogFailure() error {
	if s.log != nil {
		if err := s.log.failed.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// pagesWritten is how many pages the connection has written since it was last asked.
func pagesWritten(conn *sql.Conn) (pages int, err error) {
	err = conn.Raw(func(connection any) error {
		counts, ok := connection.(driver.DBStatus)
		if !ok {
			return errors.New("bug: the driver counts no pages")
		}
		pages, _, err = counts.Status(driver.DBStatusCacheWrite, true)
		return err
	})
	return pages, err
}
