package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Of a group the row of its store in group_commits tells whether it was committed, for the group wrote its number there. A group whose number
// is not above what is there comes too late: what became of it has been settled, and the check (number > 0) of the table stops it.
const (
	markGroup = `INSERT INTO group_commits (instance, number, seen_at) VALUES ($1, $2, $3) ON CONFLICT (instance) DO UPDATE SET
		number = CASE WHEN group_commits.number < excluded.number THEN excluded.number ELSE 0 END, seen_at = excluded.seen_at`
	settleGroup = `INSERT INTO group_commits (instance, number, seen_at) VALUES ($1, $2, $3) ON CONFLICT (instance) DO UPDATE SET
		number = excluded.number, seen_at = excluded.seen_at`
)

// forgetAfter is how long the row of a store that did not close is kept. Nobody can wait any more for what it tells.
const forgetAfter = 30 * 24 * time.Hour

func (e *postgresEngine) forgetOthers(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `DELETE FROM group_commits WHERE seen_at < $1`, time.Now().Add(-forgetAfter).UnixMicro())
	return err
}

// commit sends what waits, the group's number and COMMIT in one message. A transaction that wrote nothing leaves nothing to be known.
func (e *postgresEngine) commit() error {
	if e.broken != nil {
		return e.broken
	}
	writes := e.waits.Len() > 0 || e.executed
	if writes {
		e.number += 2
		e.waits.Queue(markGroup, e.instance, e.number, time.Now().UnixMicro())
	}
	e.waits.Queue(`COMMIT`)
	e.warned.Store(false)
	ctx, cancel := e.within()
	defer cancel()
	err := e.conn.SendBatch(ctx, e.waits).Close()
	if !writes {
		return e.classify(err)
	}
	return e.outcome(err)
}

// outcome says what the answer to COMMIT means. Only an error that ends the transaction and not the session says that nothing was committed.
// A warning may say that the server committed here and was kept from waiting for those that it copies to.
func (e *postgresEngine) outcome(err error) error {
	var said *pgconn.PgError
	switch {
	case err == nil && !e.warned.Load():
		return nil
	case errors.As(err, &said) && severity(said) == "ERROR" && undone(said.Code):
		return e.classify(err)
	}
	e.drop()
	if err == nil {
		err = errors.New("the server warned")
	}
	return fmt.Errorf("%w: %w", errUnknown, err)
}

// undone is of an error that PostgreSQL has only before it commits: of data, of a constraint, of the text, of resources, or a conflict. Of
// class 40, 40003 alone says that the server itself does not know.
func undone(code string) bool {
	if code == "40003" {
		return false
	}
	for _, class := range []string{"22", "23", "25", "40", "42", "53", "54", "55"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// severity is in English whatever the server's language; a database that speaks as PostgreSQL does may leave that out.
func severity(said *pgconn.PgError) string {
	if said.SeverityUnlocalized != "" {
		return said.SeverityUnlocalized
	}
	return said.Severity
}

// resolve asks on a new connection. The lost transaction has the audit head's row locked until it is over, however long its session goes on and
// whatever of it is still on the way; so once the lock is had here it was committed or never will be, and the row of this store says which.
//
// It writes what it found, and commits that, for two reasons. Where the lock does not outlive the connection as it does in PostgreSQL, a
// transaction that comes later still finds its number settled. And when this commit is durable, on all servers that the first one waits for,
// so is what was committed before it.
func (e *postgresEngine) resolve() (committed bool, err error) {
	if err := e.reach(); err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			e.drop()
		}
	}()
	ctx, cancel := e.within()
	defer cancel()
	tx, err := e.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return false, err
	}
	var next, number int64
	if err := tx.QueryRow(ctx, `SELECT next FROM audit_head WHERE one = 1 FOR UPDATE`).Scan(&next); err != nil {
		return false, fmt.Errorf("wait for the transaction that was lost: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT number FROM group_commits WHERE instance = $1`, e.instance).Scan(&number)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, err
	}
	committed = number == e.number
	settled := e.number
	if !committed {
		settled++ // an odd number is no group's
	}
	if _, err := tx.Exec(ctx, settleGroup, e.instance, settled, time.Now().UnixMicro()); err != nil {
		return false, err
	}
	e.warned.Store(false)
	if err := tx.Commit(ctx); err != nil {
		return false, err
	}
	if e.warned.Load() {
		return false, errors.New("the server warned")
	}
	return committed, nil
}
