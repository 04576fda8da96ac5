package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/pursekeeper/pursekeeper/audit"
)

//go:embed migrations/*.sql
var migrations embed.FS

// SQLite is the store in one file, for one node. Its writer is one connection used by one goroutine; reads have
// connections of their own and see the last commit.
type SQLite struct {
	readers *sql.DB
	lists   *sql.DB // for pages of transactions
	writer  *sql.DB
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

// OpenSQLite opens or makes the database at path, brings its schema up to date, and starts the group commit. The journal is
// a write-ahead log, and every commit is synchronised to the disk (synchronous=FULL). It refuses a schema that is newer than
// this program's, and a record whose last entry is not the one that its head says.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	writer, err := open(path, "_txlock=immediate"+writerPragmas)
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	for _, step := range []func(context.Context, *sql.DB) error{migrate, checkHead} {
		if err := step(ctx, writer); err != nil {
			return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), writer.Close())
		}
	}
	readers, err := open(path, "mode=ro")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	readers.SetMaxOpenConns(4)
	lists, err := open(path, "mode=ro")
	if err != nil {
		return nil, errors.Join(err, readers.Close(), writer.Close())
	}
	lists.SetMaxOpenConns(2)
	s := &SQLite{
		readers: readers,
		lists:   lists,
		writer:  writer,
		queue:   make(chan *waiting, queueLength),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	w, err := newWriter(ctx, writer, &s.commits, &s.recent)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), lists.Close(), readers.Close(), writer.Close())
	}
	go s.write(w)
	return s, nil
}

// private makes the file readable by its owner alone before SQLite makes it by the process's umask.
func private(path string) error {
	if path == "" {
		return errors.New("database: path is empty")
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return f.Close()
}

// A connection waits two seconds for a lock that another process holds. The writer has a page cache of 16 MB, keeps what a
// statement would need to be undone in memory rather than in a file, and moves the log into the database every 4,000 pages:
// rarely enough that a page changed often is moved once, often enough that the move holds up a commit by milliseconds.
const (
	pragmas       = "&_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	writerPragmas = "&_pragma=cache_size(-16000)&_pragma=temp_store(MEMORY)&_pragma=wal_autocheckpoint(4000)"
)

func open(path, options string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+options+pragmas)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	has, knows, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if has > knows {
		return fmt.Errorf("its schema is version %d, this program knows up to %d: it was written by a newer one", has, knows)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
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
func (s *SQLite) Ready(ctx context.Context) error {
	nothing := func(*Purse, uint64) ([]audit.Entry, error) { return nil, nil }
	return s.submit(&waiting{ctx: ctx, change: Change{Decide: nothing}, try: true, done: make(chan error, 1)})
}

// Close commits what waits, then closes the database. Readers go first: the last connection moves the log into the file.
func (s *SQLite) Close() error {
	s.closing.Do(func() { close(s.stop) })
	<-s.stopped
	return errors.Join(s.failed, s.lists.Close(), s.readers.Close(), s.writer.Close())
}
