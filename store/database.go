package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Database is the store in a database: SQLite in one file, for one node ([OpenSQLite]), or PostgreSQL, for several ([OpenPostgres]). Its
// writer is one connection used by one goroutine; reads have connections of their own and see the last commit.
type Database struct {
	dialect dialect
	readers *sql.DB
	lists   *sql.DB    // for pages of transactions
	writer  *sql.DB    // that the engine's connection is of; nil where the engine has its own
	log     *sqliteLog // nil of PostgreSQL
	hold    func(context.Context) (release func() error, err error)
	queue   chan *waiting
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer when its queue is empty
	failed  error         // what the writer met when it stopped; read after stopped
	closing sync.Once
	commits CommitStats
	recent  recent
}

// queueLength bounds the changes that wait for a commit; beyond it Commit waits with its context.
const queueLength = 1024

// begin starts the group commit of a database that is open.
func begin(s *Database, e engine) *Database {
	s.queue = make(chan *waiting, queueLength)
	s.stop, s.stopped = make(chan struct{}), make(chan struct{})
	go s.write(&writer{Database: s, engine: e, do: newStatements()})
	return s
}

// checkHead refuses a database whose audit entries were cut or added to behind the store's back: the next commit would
// leave a gap, or meet an index that is taken. So it does one whose catalogue is not the one that the head names.
func checkHead(ctx context.Context, db *sql.DB) error {
	var head, end, revision, catalogue int64
	err := db.QueryRowContext(ctx, `SELECT next, revision, (SELECT COALESCE(MAX(idx) + 1, 0) FROM audit_entries),
		(SELECT COALESCE(MAX(revision), 0) FROM custody) FROM audit_head WHERE one = 1`).Scan(&head, &revision, &end, &catalogue)
	switch {
	case err != nil:
		return fmt.Errorf("audit head: %w", err)
	case head != end:
		return fmt.Errorf("the audit record ends before entry %d, its head says %d", end, head)
	case revision != catalogue:
		return fmt.Errorf("the catalogue is at revision %d, the audit head says %d", catalogue, revision)
	}
	return nil
}

// Ready reports whether the store can commit, by a commit that changes nothing: a full disk is found here too.
func (s *Database) Ready(ctx context.Context) error {
	nothing := func(*Purse, uint64) ([]audit.Entry, error) { return nil, nil }
	return s.submit(&waiting{ctx: ctx, change: Change{Decide: nothing}, try: true, done: make(chan error, 1)})
}

// Close commits what waits, then closes the database. Readers go first: the last connection moves SQLite's log into the file.
func (s *Database) Close() error {
	s.closing.Do(func() { close(s.stop) })
	<-s.stopped
	err := errors.Join(s.failed, s.lists.Close(), s.readers.Close())
	if s.writer != nil {
		err = errors.Join(err, s.writer.Close())
	}
	return err
}
