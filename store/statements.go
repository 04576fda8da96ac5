package store

import (
	"context"
	"database/sql"
	"fmt"
)

const attemptColumns = `key_set, card, purse, counter, random, id, operation, amount, balance, terminal, date, time, issuer_id,
	key_version, kcv, boundary, mac2, audit_index, created_at, state, evidence, contradicted, right_tac, wrong_tacs`

const settlementColumns = `id, key_set, card, purse, terminal, issuer_id, expires_at, state, answer, outcome, settled,
	key_version, audit_index`

// statements are prepared once on the writing connection.
type statements struct {
	begin, commit, rollback        *sql.Stmt
	head, putHead, putEntry        *sql.Stmt
	purse, card, putPurse, putCard *sql.Stmt
	attemptsAt                     *sql.Stmt
	insertAttempt, updateAttempt   *sql.Stmt
	settlement, putSettlement      *sql.Stmt
}

func prepare(ctx context.Context, conn *sql.Conn) (statements, error) {
	var s statements
	for into, text := range map[**sql.Stmt]string{
		&s.begin:    `BEGIN IMMEDIATE`,
		&s.commit:   `COMMIT`,
		&s.rollback: `ROLLBACK`,
		&s.head:     `SELECT next FROM audit_head WHERE one = 1`,
		&s.putHead:  `UPDATE audit_head SET next = ? WHERE one = 1`,
		&s.putEntry: `INSERT INTO audit_entries (idx, entry) VALUES (?, ?)`,
		&s.purse: `SELECT p.highest, p.pending, COALESCE(c.mac1_failures, 0), COALESCE(c.locked, 0)
			FROM purses p LEFT JOIN cards c ON c.key_set = p.key_set AND c.card = p.card
			WHERE p.key_set = ? AND p.card = ? AND p.purse = ?`,
		&s.card: `SELECT mac1_failures, locked FROM cards WHERE key_set = ? AND card = ?`,
		&s.putPurse: `INSERT INTO purses (key_set, card, purse, highest, pending) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (key_set, card, purse) DO UPDATE SET highest = excluded.highest, pending = excluded.pending`,
		&s.putCard: `INSERT INTO cards (key_set, card, mac1_failures, locked) VALUES (?, ?, ?, ?)
			ON CONFLICT (key_set, card) DO UPDATE SET mac1_failures = excluded.mac1_failures, locked = excluded.locked`,
		&s.attemptsAt: `SELECT ` + attemptColumns + ` FROM attempts
			WHERE key_set = ? AND card = ? AND purse = ? AND counter = ?`,
		&s.insertAttempt: `INSERT INTO attempts (` + attemptColumns + `)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		&s.updateAttempt: `UPDATE attempts SET state = ?, evidence = ?, contradicted = ?, right_tac = ?, wrong_tacs = ?
			WHERE key_set = ? AND card = ? AND purse = ? AND counter = ? AND random = ?`,
		&s.settlement: `SELECT ` + settlementColumns + ` FROM settlements WHERE id = ?`,
		&s.putSettlement: `INSERT INTO settlements (` + settlementColumns + `)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET state = excluded.state, answer = excluded.answer, outcome = excluded.outcome,
				settled = excluded.settled, key_version = excluded.key_version, audit_index = excluded.audit_index`,
	} {
		stmt, err := conn.PrepareContext(ctx, text)
		if err != nil {
			return s, fmt.Errorf("prepare %q: %w", text, err)
		}
		*into = stmt
	}
	return s, nil
}
