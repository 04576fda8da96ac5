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
)

//go:embed migrations/*.sql
var migrations embed.FS

// SQLite is the store in one file, for one node. Its writer is one connection used by one goroutine; reads have
// connections of their own and see the last commit.
type SQLite struct {
	readers *sql.DB
	writer  *sql.DB
	queue   chan *waiting
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer when its queue is empty
	closing sync.Once
	commits CommitStats
}

// queueLength bounds the changes that wait for a commit; beyond it Commit waits with its context.
const queueLength = 1024

// OpenSQLite opens or makes the database at path, brings its schema up to date, and starts the group commit. The journal is
// a write-ahead log, and every commit is synchronised to the disk (synchronous=FULL).
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	writer, err := open(path, "_txlock=immediate")
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), writer.Close())
	}
	readers, err := open(path, "mode=ro")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	readers.SetMaxOpenConns(4)
	s := &SQLite{
		readers: readers,
		writer:  writer,
		queue:   make(chan *waiting, queueLength),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	w, err := newWriter(ctx, writer, &s.commits)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), readers.Close(), writer.Close())
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

func open(path, option string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + option +
		"&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)"
	db, err := sql.Open("sqlite", dsn)
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
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

// Ready reports whether the database answers.
func (s *SQLite) Ready(ctx context.Context) error {
	select {
	case <-s.stop:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	default:
	}
	var next int64
	if err := s.readers.QueryRowContext(ctx, `SELECT next FROM audit_head WHERE one = 1`).Scan(&next); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// Close commits what waits, then closes the database.
func (s *SQLite) Close() error {
	s.closing.Do(func() { close(s.stop) })
	<-s.stopped
	return errors.Join(s.readers.Close(), s.writer.Close())
}
