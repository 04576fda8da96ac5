package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgresEngine runs a group in two or three round trips: the lock with what can be read at once; what depends on that, if anything does;
// and what is to be written, with COMMIT.
//
// Exactness. The first statement of every group, of every node, locks the row of audit_head (FOR UPDATE), and the lock is kept to the end of
// the transaction. So at any time one group at most is past its first statement, and groups are in one order: that of their audit indexes. Under
// READ COMMITTED each statement sees all that was committed before it began, so the statements after the lock see everything that the
// groups before this one left, and nothing changes under them, for only groups change what groups read. Serialisability needs no more than that;
// a stronger level would make the first statement fix what all later ones see before the lock is had, and every wait for it end in a failure.
// Databases that run every transaction as serializable (CockroachDB) are exact by that alone, and what they refuse is tried again.
//
// What is used of SQL, so that databases which speak PostgreSQL's can take its place: tables with primary keys, unique and partial indexes
// and checks of one row; BIGINT, TEXT, BOOLEAN; INSERT … ON CONFLICT, UPDATE … FROM, unnest over several arrays, SELECT … FOR UPDATE [NOWAIT];
// READ COMMITTED; pg_settings and set_config for what a session is to have. Not: advisory locks, LISTEN, triggers, functions, sequences of
// ours, txid_status, DDL that depends on being undone. The group's statements are prepared on its connection, so nothing may stand between that
// gives each transaction another one.
type postgresEngine struct {
	ctx      context.Context // no caller's: a group outlives them
	config   *pgx.ConnConfig
	password func(context.Context) ([]byte, error)
	texts    map[string]string // the statement's text by that for SQLite
	conn     *pgx.Conn         // nil when it was lost
	made     int               // connections
	warned   *atomic.Bool      // the connection's server warned since this was last reset
	waits    *pgx.Batch        // what is to go with the next round trip
	broken   error             // the first error of the transaction
	executed bool              // the transaction has run what may write
	instance string            // of the row in group_commits
	number   int64             // of the group in it; groups have even numbers
}

func newPostgresEngine(ctx context.Context, config *pgx.ConnConfig, password func(context.Context) ([]byte, error)) *postgresEngine {
	return &postgresEngine{
		ctx: context.WithoutCancel(ctx), config: config, password: password,
		texts: map[string]string{}, instance: rand.Text(),
	}
}

// within is a context for one exchange with the server.
func (e *postgresEngine) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.ctx, exchangeTimeout)
}

func (e *postgresEngine) begin() (connection, error) {
	if e.conn == nil || e.conn.IsClosed() {
		if err := e.reach(); err != nil {
			return nil, err
		}
	}
	e.waits, e.broken, e.executed = &pgx.Batch{}, nil, false
	e.waits.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	return e, nil
}

func (e *postgresEngine) connections() int { return e.made }

// text is what a statement is for PostgreSQL.
func (e *postgresEngine) text(s *statement) string {
	text, made := e.texts[s.text]
	if !made {
		text = grouped(s)
		e.texts[s.text] = text
	}
	return text
}

func (e *postgresEngine) read(s *statement, values []any, scan func(scanner) error) error {
	arguments, err := s.arguments(values)
	if err != nil {
		return err
	}
	e.waits.Queue(e.text(s), arguments...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return nil
}

func (e *postgresEngine) write(s *statement, values []any) error {
	arguments, err := s.arguments(values)
	if err == nil {
		e.waits.Queue(e.text(s), arguments...)
	}
	return err
}

// answered sends all that waits, as one message and with one answer to wait for.
func (e *postgresEngine) answered() error {
	if e.broken != nil || e.waits.Len() == 0 {
		return e.broken
	}
	ctx, cancel := e.within()
	defer cancel()
	waits := e.waits
	e.waits = &pgx.Batch{}
	e.broken = e.classify(e.conn.SendBatch(ctx, waits).Close())
	return e.broken
}

func (e *postgresEngine) row(text string, arguments ...any) scanner {
	if err := e.answered(); err != nil {
		return failedRow{err}
	}
	ctx, cancel := e.within()
	return onlyRow{e, cancel, e.conn.QueryRow(ctx, postgres.sql(text), arguments...)}
}

type failedRow struct{ error }

func (r failedRow) Scan(...any) error { return r.error }

type onlyRow struct {
	e      *postgresEngine
	cancel context.CancelFunc
	row    pgx.Row
}

func (r onlyRow) Scan(into ...any) error {
	defer r.cancel()
	err := r.row.Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return sql.ErrNoRows
	}
	r.e.broken = r.e.classify(err)
	return r.e.broken
}

func (e *postgresEngine) exec(text string, arguments ...any) (int64, error) {
	if err := e.answered(); err != nil {
		return 0, err
	}
	ctx, cancel := e.within()
	defer cancel()
	e.executed = true
	tag, err := e.conn.Exec(ctx, postgres.sql(text), arguments...)
	e.broken = e.classify(err)
	return tag.RowsAffected(), e.broken
}

// rollback gives the connection up unless the server says that the transaction is over.
func (e *postgresEngine) rollback() {
	if e.conn == nil {
		return
	}
	ctx, cancel := e.within()
	defer cancel()
	if e.conn.IsClosed() || e.conn.PgConn().TxStatus() == 'I' {
		return
	}
	if _, err := e.conn.Exec(ctx, `ROLLBACK`); err != nil {
		e.drop()
	}
}

// drop gives the connection up. The server ends its session, and with it the transaction, when it notices.
func (e *postgresEngine) drop() {
	if e.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, time.Millisecond) // it says goodbye, if that takes no time
	defer cancel()
	_ = e.conn.Close(ctx)
	e.conn = nil
}

// classify says what an error before COMMIT means. Whatever it is, nothing is committed.
func (e *postgresEngine) classify(err error) error {
	var said *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &said):
		if e.conn.IsClosed() { // lost, or cut off because the time was over
			e.drop()
			return fmt.Errorf("%w: %w", errAgain, err)
		}
		return err // of a scan
	case said.Code == "40001", said.Code == "40P01": // the other one of a conflict goes first
		return fmt.Errorf("%w: %w", errAgain, err)
	case severity(said) != "ERROR" || said.Code == "25006": // the session is over, or this server has become one that stands by
		e.drop()
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	return err
}

func (e *postgresEngine) close() error {
	if e.conn == nil {
		return nil
	}
	ctx, cancel := e.within()
	defer cancel()
	if !e.conn.IsClosed() {
		_, _ = e.conn.Exec(ctx, `DELETE FROM group_commits WHERE instance = $1`, e.instance) // else the next to open forgets it in time
	}
	return e.conn.Close(ctx)
}
