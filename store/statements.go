package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

const attemptColumns = `audit_index, key_set, card, purse, counter, random, id, operation, amount, old_limit, balance, terminal, date, time,
	issuer_id, key_version, kcv, boundary, mac2, created_at, epoch, client, buckets, state, evidence, contradicted, right_tac, wrong_tacs`

const settlementColumns = `id, key_set, card, purse, terminal, issuer_id, expires_at, state, answer, outcome, settled,
	key_version, audit_index`

// statements are what a group commit runs, on the one writing connection.
type statements struct {
	begin, commit, rollback, head, putHead, try statement
	// Reads: one row asked, the rows found.
	purses, attempts, settlements statement
	// Writes: one row each.
	putPurses, putCards, insertAttempts, updateAttempts, putSettlements, insertEntries statement

	beside besideStatements
}

func newStatements() *statements {
	return &statements{
		begin:    statement{text: `BEGIN IMMEDIATE`},
		commit:   statement{text: `COMMIT`},
		rollback: statement{text: `ROLLBACK`},
		head:     statement{text: `SELECT next, revision FROM audit_head WHERE one = 1`},
		putHead:  statement{text: `UPDATE audit_head SET next = ?, revision = ? WHERE one = 1`, width: 2},
		try:      statement{text: `UPDATE audit_head SET tries = tries + 1 WHERE one = 1`},
		purses: statement{
			text: `WITH asked (n, key_set, card, purse) AS (VALUES %s)
				SELECT asked.n, p.highest, p.pending, p.epoch, c.mac1_failures, c.locked FROM asked
				LEFT JOIN purses p ON p.key_set = asked.key_set AND p.card = asked.card AND p.purse = asked.purse
				LEFT JOIN cards c ON c.key_set = asked.key_set AND c.card = asked.card`,
			width: 4,
		},
		attempts: statement{
			text: `WITH asked (n, asked_set, asked_card, asked_purse, asked_counter) AS (VALUES %s)
				SELECT n, ` + attemptColumns + ` FROM asked CROSS JOIN attempts
				ON key_set = asked_set AND card = asked_card AND purse = asked_purse AND counter = asked_counter`,
			width: 5,
		},
		settlements: statement{
			text:  `WITH asked (asked_id) AS (VALUES %s) SELECT ` + settlementColumns + ` FROM asked CROSS JOIN settlements ON id = asked_id`,
			width: 1,
		},
		putPurses: statement{
			text: `INSERT INTO purses (key_set, card, purse, highest, pending, epoch) VALUES %s
				ON CONFLICT (key_set, card, purse) DO UPDATE SET highest = excluded.highest, pending = excluded.pending, epoch = excluded.epoch`,
			width: 6,
		},
		putCards: statement{
			text: `INSERT INTO cards (key_set, card, mac1_failures, locked) VALUES %s
				ON CONFLICT (key_set, card) DO UPDATE SET mac1_failures = excluded.mac1_failures, locked = excluded.locked`,
			width: 4,
		},
		insertAttempts: statement{text: `INSERT INTO attempts (` + attemptColumns + `) VALUES %s`, width: 28},
		updateAttempts: statement{
			text: `WITH judged (n, s, e, c, r, w) AS (VALUES %s)
				UPDATE attempts SET state = s, evidence = e, contradicted = c, right_tac = r, wrong_tacs = w
				FROM judged WHERE audit_index = n`,
			width: 6,
		},
		putSettlements: statement{
			text: `INSERT INTO settlements (` + settlementColumns + `) VALUES %s
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, answer = excluded.answer, outcome = excluded.outcome,
					settled = excluded.settled, key_version = excluded.key_version, audit_index = excluded.audit_index`,
			width: 13,
		},
		insertEntries: statement{text: `INSERT INTO audit_entries (idx, entry) VALUES %s`, width: 2},
		beside:        newBesideStatements(),
	}
}

// statement is one SQL text over any number of rows of width values, written in place of its %s. It is prepared for 1, 2,
// 4 … rows when first needed, and runs on the powers of two that add up to what it is given: few statements, each prepared once.
type statement struct {
	text     string
	width    int
	prepared [mostRows + 1]*sql.Stmt // by the logarithm of the number of rows
}

// mostRows is the logarithm of the most rows of one statement.
const mostRows = 6

// connection is the one writing connection with its context, which no caller's end cancels.
type connection struct {
	ctx context.Context
	*sql.Conn
}

// close finalises every statement; the connection would stay open behind one that was left.
func (s *statements) close() (err error) {
	for _, one := range append(s.beside.all(),
		&s.begin, &s.commit, &s.rollback, &s.head, &s.putHead, &s.try, &s.purses, &s.attempts, &s.settlements,
		&s.putPurses, &s.putCards, &s.insertAttempts, &s.updateAttempts, &s.putSettlements, &s.insertEntries,
	) {
		for _, stmt := range one.prepared {
			if stmt != nil {
				err = errors.Join(err, stmt.Close())
			}
		}
	}
	return err
}

func (s *statement) prepare(on connection, size int) (*sql.Stmt, error) {
	if s.prepared[size] == nil {
		text := s.text
		if strings.Contains(text, "%s") {
			row := "(?" + strings.Repeat(", ?", s.width-1) + ")"
			text = fmt.Sprintf(text, row+strings.Repeat(", "+row, 1<<size-1))
		}
		stmt, err := on.PrepareContext(on.ctx, text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", s.text, err)
		}
		s.prepared[size] = stmt
	}
	return s.prepared[size], nil
}

// readHead returns the index that the next audit entry gets, and the catalogue's revision.
func (s *statements) readHead(on connection) (next, revision uint64, err error) {
	stmt, err := s.head.prepare(on, 0)
	if err != nil {
		return 0, 0, err
	}
	err = stmt.QueryRowContext(on.ctx).Scan(&next, &revision)
	return next, revision, err
}

// split calls run with the statement for each part of values.
func (s *statement) split(on connection, values []any, run func(*sql.Stmt, []any) error) error {
	for len(values) > 0 {
		size := min(bits.Len(uint(len(values)/s.width))-1, mostRows)
		stmt, err := s.prepare(on, size)
		if err != nil {
			return err
		}
		part := s.width << size
		if err := run(stmt, values[:part]); err != nil {
			return err
		}
		values = values[part:]
	}
	return nil
}

// run executes the statement without values.
func (s *statement) run(on connection) error {
	stmt, err := s.prepare(on, 0)
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(on.ctx)
	return err
}

// write executes the statement on rows of values, one after the other in values.
func (s *statement) write(on connection, values []any) error {
	return s.split(on, values, func(stmt *sql.Stmt, values []any) error {
		_, err := stmt.ExecContext(on.ctx, values...)
		return err
	})
}

// read queries with rows of values and calls scan for each row found, in no order.
func (s *statement) read(on connection, values []any, scan func(scanner) error) error {
	return s.split(on, values, func(stmt *sql.Stmt, values []any) (err error) {
		rows, err := stmt.QueryContext(on.ctx, values...)
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
