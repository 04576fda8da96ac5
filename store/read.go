package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Attempt returns a recorded transaction, or ErrNotFound. Of two that cards of one number made one after the other it is the later.
func (s *Database) Attempt(ctx context.Context, purse PurseKey, key AttemptKey) (Attempt, error) {
	_, a, err := scanAttempt(s.row(ctx, `SELECT `+attemptColumns+` FROM attempts
		WHERE key_set = ? AND card = ? AND purse = ? AND counter = ? AND random = ? ORDER BY epoch DESC LIMIT 1`,
		purse.KeySet, purse.Card, purse.Purse, key.Counter, key.Random))
	return a, readError(err)
}

// Settlement returns a settlement and its purse, or ErrNotFound.
func (s *Database) Settlement(ctx context.Context, id string) (PurseKey, Settlement, error) {
	key, settlement, err := scanSettlement(s.row(ctx,
		`SELECT `+settlementColumns+` FROM settlements WHERE id = ?`, id))
	return key, settlement, readError(err)
}

// Purchase returns a recorded purchase, or ErrNotFound.
func (s *Database) Purchase(ctx context.Context, purse PurseKey, key AttemptKey) (Purchase, error) {
	_, p, err := scanPurchase(s.row(ctx, `SELECT `+purchaseColumns+` FROM purchases
		WHERE key_set = ? AND card = ? AND purse = ? AND counter = ? AND random = ?`,
		purse.KeySet, purse.Card, purse.Purse, key.Counter, key.Random))
	return p, readError(err)
}

// ReaderSession returns a session, or ErrNotFound.
func (s *Database) ReaderSession(ctx context.Context, id string) (ReaderSession, error) {
	session, err := scanSession(s.row(ctx, `SELECT `+sessionColumns+` FROM reader_sessions WHERE id = ?`, id))
	return session, readError(err)
}

// indexed is a column, marked where its index would be the wrong one to use: without a card, a page is read in
// the order of commit, not by sorting a whole key set.
func (f Filter) indexed(d dialect, column string) string {
	if f.Card == "" && (column != "key_set" || !f.OpenOnly) {
		return d.unindexed(column)
	}
	return column
}

// List returns recorded transactions in the order of commit. Its connections are its own, so that pages do not hold up what a
// transaction waits for.
func (s *Database) List(ctx context.Context, f Filter) ([]Listed, error) {
	query := `SELECT ` + attemptColumns + ` FROM attempts WHERE audit_index > ?`
	arguments := []any{int64(f.After)}
	for _, condition := range []struct{ column, value string }{{"key_set", f.KeySet}, {"card", f.Card}, {"purse", f.Purse}} {
		if condition.value != "" {
			query += ` AND ` + f.indexed(s.dialect, condition.column) + ` = ?`
			arguments = append(arguments, condition.value)
		}
	}
	if f.OpenOnly {
		query += ` AND state = 'OPEN'` // as the index of open attempts writes it
	}
	var all []Listed
	err := s.page(ctx, query+` ORDER BY audit_index LIMIT ?`, append(arguments, f.Limit), func() { all = nil }, func(rows *sql.Rows) error {
		key, a, err := scanAttempt(rows)
		all = append(all, Listed{key, a})
		return err
	})
	if err != nil {
		return nil, readError(err)
	}
	return all, nil
}

// entriesAtOnce bounds what one query of Entries asks for: however early the caller has enough, a connection of PostgreSQL's takes in all that
// was asked for.
const entriesAtOnce = 256

// Entries yields the record's lines from an index on, in order, which it reads a page at a time.
func (s *Database) Entries(ctx context.Context, from uint64, yield func(index uint64, line []byte) bool) error {
	for next, more := from, true; more; {
		if err := s.again(ctx, func() (err error) {
			more, err = s.entries(ctx, &next, yield)
			return err
		}); err != nil {
			return readError(err)
		}
	}
	return nil
}

// entries yields one page and moves next behind what it yielded; more is whether another may follow that is wanted.
func (s *Database) entries(ctx context.Context, next *uint64, yield func(uint64, []byte) bool) (more bool, err error) {
	rows, err := s.readers.QueryContext(ctx, s.dialect.sql(`SELECT idx, entry FROM audit_entries WHERE idx >= ? ORDER BY idx LIMIT ?`),
		int64(*next), entriesAtOnce)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var (
			index uint64
			line  []byte
		)
		if err := rows.Scan(&index, &line); err != nil {
			return false, err
		}
		if *next = index + 1; !yield(index, line) {
			return false, nil
		}
	}
	return n == entriesAtOnce, rows.Err()
}

func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows), isCode(err, "22021"): // text that PostgreSQL keeps none like: it is asked for in vain
		return ErrNotFound
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
