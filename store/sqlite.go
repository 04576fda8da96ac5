package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

// OpenSQLite opens or makes the database at path, brings its schema up to date, and starts the group commit. The journal is
// a write-ahead log, and every commit is synchronised to the disk (synchronous=FULL). It refuses a schema that is newer than
// this program's, and a record whose last entry is not the one that its head says.
func OpenSQLite(ctx context.Context, path string) (*Database, error) {
	return openSQLite(ctx, path, logFull)
}

// openSQLite opens a database whose log is full at so many pages.
func openSQLite(ctx context.Context, path string, full int64) (*Database, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	writer, err := open(path, "_txlock=immediate"+writerPragmas)
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	for _, step := range []func(context.Context, *sql.DB) error{migrateSQLite, checkHead} {
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
	mover, err := open(path, "mode=rw")
	if err != nil {
		return nil, errors.Join(err, lists.Close(), readers.Close(), writer.Close())
	}
	log := newSQLiteLog(context.WithoutCancel(ctx), mover, full)
	e, err := newSQLiteEngine(ctx, writer, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), log.close(), lists.Close(), readers.Close(), writer.Close())
	}
	hold := func(context.Context) (func() error, error) { return holdFile(path + ".ceremony") }
	return begin(&Database{dialect: sqlite, readers: readers, lists: lists, writer: writer, log: log, hold: hold}, e), nil
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

// A connection waits two seconds for a lock that another process holds; a group waits as its engine's begin says. The writer has a page cache
// of 16 MB, keeps what a statement would need to be undone in memory rather than in a file, and never moves the log into the database in a
// commit (see sqliteLog); a log that a reader has kept from beginning anew is cut to 128 MB when it does.
const (
	pragmas       = "&_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	writerPragmas = "&_pragma=cache_size(-16000)&_pragma=temp_store(MEMORY)&_pragma=wal_autocheckpoint(0)&_pragma=journal_size_limit(134217728)"
)

func open(path, options string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+options+pragmas)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return db, nil
}
