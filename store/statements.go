package store

import "strings"

const attemptColumns = `audit_index, key_set, card, purse, counter, random, id, operation, amount, old_limit, balance, terminal, date, time,
	issuer_id, key_version, kcv, boundary, mac2, created_at, epoch, client, buckets, state, evidence, contradicted, right_tac, wrong_tacs`

const settlementColumns = `id, key_set, card, purse, terminal, issuer_id, expires_at, state, answer, outcome, settled,
	key_version, audit_index`

// statements are what a group commit runs.
type statements struct {
	head, putHead, try statement
	// Reads: one row asked, the rows found.
	purses, attempts, settlements statement
	// Writes: one row each.
	putPurses, putCards, insertAttempts, updateAttempts, putSettlements, insertEntries statement

	beside besideStatements
}

func newStatements() *statements {
	return &statements{
		head:    statement{text: `SELECT next, revision FROM audit_head WHERE one = 1`, locks: true},
		putHead: statement{text: `UPDATE audit_head SET next = ?, revision = ? WHERE one = 1`, kinds: "ii"},
		try:     statement{text: `UPDATE audit_head SET tries = tries + 1 WHERE one = 1`},
		purses: statement{
			text: `WITH asked (n, key_set, card, purse) AS (VALUES %s)
				SELECT asked.n, p.highest, p.pending, p.epoch, c.mac1_failures, c.locked FROM asked
				LEFT JOIN purses p ON p.key_set = asked.key_set AND p.card = asked.card AND p.purse = asked.purse
				LEFT JOIN cards c ON c.key_set = asked.key_set AND c.card = asked.card`,
			kinds: "ittt",
		},
		attempts: statement{
			text: `WITH asked (n, asked_set, asked_card, asked_purse, asked_counter) AS (VALUES %s)
				SELECT n, ` + attemptColumns + ` FROM asked CROSS JOIN attempts
				ON key_set = asked_set AND card = asked_card AND purse = asked_purse AND counter = asked_counter`,
			kinds: "ittti",
		},
		settlements: statement{
			text:  `WITH asked (asked_id) AS (VALUES %s) SELECT ` + settlementColumns + ` FROM asked CROSS JOIN settlements ON id = asked_id`,
			kinds: "t",
		},
		putPurses: statement{
			text: `INSERT INTO purses (key_set, card, purse, highest, pending, epoch) VALUES %s
				ON CONFLICT (key_set, card, purse) DO UPDATE SET highest = excluded.highest, pending = excluded.pending, epoch = excluded.epoch`,
			kinds: "tttiti",
		},
		putCards: statement{
			text: `INSERT INTO cards (key_set, card, mac1_failures, locked) VALUES %s
				ON CONFLICT (key_set, card) DO UPDATE SET mac1_failures = excluded.mac1_failures, locked = excluded.locked`,
			kinds: "ttib",
		},
		insertAttempts: statement{text: `INSERT INTO attempts (` + attemptColumns + `) VALUES %s`, kinds: "itttitttiiittttitttiittttbtt"},
		updateAttempts: statement{
			text: `WITH judged (n, s, e, c, r, w) AS (VALUES %s)
				UPDATE attempts SET state = s, evidence = e, contradicted = c, right_tac = r, wrong_tacs = w
				FROM judged WHERE audit_index = n`,
			kinds: "ittbtt",
		},
		putSettlements: statement{
			text: `INSERT INTO settlements (` + settlementColumns + `) VALUES %s
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, answer = excluded.answer, outcome = excluded.outcome,
					settled = excluded.settled, key_version = excluded.key_version, audit_index = excluded.audit_index`,
			kinds: "ttttttittttii",
		},
		insertEntries: statement{text: `INSERT INTO audit_entries (idx, entry) VALUES %s`, kinds: "it"},
		beside:        newBesideStatements(),
	}
}

// statement is one SQL text over any number of rows, which stand in place of its VALUES %s, or over one row of placeholders. It is in
// SQLite's SQL; see dialect for what becomes of it elsewhere.
type statement struct {
	text  string
	kinds string // of a row's values, a letter each: i a whole number, t text, b true or false
	locks bool   // the row that it reads, until the transaction ends; in SQLite the transaction alone writes anyway
}

func (s *statement) width() int { return len(s.kinds) }

// takesRows says that the text is over any number of rows.
func (s *statement) takesRows() bool { return strings.Contains(s.text, "%s") }

// readHead asks for the index that the next audit entry gets, and the catalogue's revision. It is the first that a group asks: on
// PostgreSQL it takes the lock that puts the groups of all nodes in one order.
func (s *statements) readHead(on connection, next, revision *uint64) error {
	return s.head.read(on, nil, func(row scanner) error { return row.Scan(next, revision) })
}

// run executes the statement without values.
func (s *statement) run(on connection) error { return on.write(s, nil) }

// write executes the statement on rows of values, one after the other in values; on none it does nothing.
func (s *statement) write(on connection, values []any) error {
	if len(values) == 0 {
		return nil
	}
	return on.write(s, values)
}

// read asks with rows of values, and calls scan for each row found, in no order and at the latest in answered. A statement that takes
// values asks nothing where there are none.
func (s *statement) read(on connection, values []any, scan func(scanner) error) error {
	if len(values) == 0 && s.kinds != "" {
		return nil
	}
	return on.read(s, values, scan)
}
