package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteEngine runs each statement when it is asked to: there is no way to the database that would be worth saving.
type sqliteEngine struct {
	ctx      context.Context // no caller's: a group outlives them
	conn     *sql.Conn
	log      *sqliteLog
	prepared map[prepared]*sql.Stmt
}

// prepared is a text over so many rows. Each text is prepared for a number of rows when first needed: a group costs one statement a table, and
// they are as many as groups have sizes.
type prepared struct {
	text string
	rows int
}

// mostRows is the most rows of one statement.
const mostRows = 64

func newSQLiteEngine(ctx context.Context, db *sql.DB, log *sqliteLog) (*sqliteEngine, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{context.WithoutCancel(ctx), conn, log, map[prepared]*sql.Stmt{}}
	if _, err := conn.ExecContext(ctx, `PRAGMA busy_timeout = 0`); err != nil { // begin waits
		return nil, errors.Join(err, conn.Close())
	}
	return e, nil
}

// How long begin waits for the lock of the database, and how often it looks.
const (
	lockTime = 3 * time.Second
	lockLook = 500 * time.Microsecond
)

// begin takes the lock of the database, which another process may have. SQLite would look ever less often, down to ten times a second, and
// come away with nothing beside a process that commits one group after the other: begin looks at the same pace to the end.
func (e *sqliteEngine) begin() (connection, error) {
	e.log.finish(e.ctx, e.conn)
	deadline := time.Now().Add(lockTime)
	for {
		err := e.run(`BEGIN IMMEDIATE`)
		var failed *driver.Error
		if !errors.As(err, &failed) || failed.Code()&0xFF != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return e, err
		}
		time.Sleep(lockLook)
	}
}

func (e *sqliteEngine) commit() error {
	err := e.run(`COMMIT`)
	if err == nil {
		if pages, counted := pagesWritten(e.conn); counted == nil { // SQLite refuses no count that it knows
			e.log.written(pages)
		}
	}
	return err
}

// SQLite may have rolled back by itself, and this then fails; the error before it says what went wrong.
func (e *sqliteEngine) rollback() { _ = e.run(`ROLLBACK`) }

func (e *sqliteEngine) connections() int { return 0 }   // of one file
func (e *sqliteEngine) reach() error     { return nil } // it is never away

func (e *sqliteEngine) resolve() (bool, error) {
	return false, errors.New("bug: a commit of SQLite has an outcome")
}

// close finalises every statement; the connection would stay open behind one that was left.
func (e *sqliteEngine) close() (err error) {
	err = e.log.close()
	for _, stmt := range e.prepared {
		err = errors.Join(err, stmt.Close())
	}
	return errors.Join(err, e.conn.Close())
}

func (e *sqliteEngine) run(text string) error {
	stmt, err := e.prepare(&statement{text: text}, 1)
	if err == nil {
		_, err = stmt.ExecContext(e.ctx)
	}
	return err
}

func (e *sqliteEngine) prepare(s *statement, rows int) (*sql.Stmt, error) {
	key := prepared{s.text, rows}
	if e.prepared[key] == nil {
		text := s.text
		if s.takesRows() {
			row := "(?" + strings.Repeat(", ?", s.width()-1) + ")"
			text = fmt.Sprintf(text, row+strings.Repeat(", "+row, rows-1))
		}
		stmt, err := e.conn.PrepareContext(e.ctx, text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", s.text, err)
		}
		e.prepared[key] = stmt
	}
	return e.prepared[key], nil
}

// split calls run with the statement for each part of values.
func (e *sqliteEngine) split(s *statement, values []any, run func(*sql.Stmt, []any) error) error {
	if s.kinds == "" {
		stmt, err := e.prepare(s, 1)
		if err != nil {
			return err
		}
		return run(stmt, nil)
	}
	for len(values) > 0 {
		rows := min(len(values)/s.width(), mostRows)
		stmt, err := e.prepare(s, rows)
		if err != nil {
			return err
		}
		part := s.width() * rows
		if err := run(stmt, values[:part]); err != nil {
			return err
		}
		values = values[part:]
	}
	return nil
}

func (e *sqliteEngine) write(s *statement, values []any) error {
	return e.split(s, values, func(stmt *sql.Stmt, values []any) error {
		_, err := stmt.ExecContext(e.ctx, values...)
		return err
	})
}

func (e *sqliteEngine) read(s *statement, values []any, scan func(scanner) error) error {
	return e.split(s, values, func(stmt *sql.Stmt, values []any) (err error) {
		rows, err := stmt.QueryContext(e.ctx, values...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func (e *sqliteEngine) answered() error { return nil }

func (e *sqliteEngine) row(text string, arguments ...any) scanner {
	return e.conn.QueryRowContext(e.ctx, text, arguments...)
}

func (e *sqliteEngine) exec(text string, arguments ...any) (int64, error) {
	result, err := e.conn.ExecContext(e.ctx, text, arguments...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
