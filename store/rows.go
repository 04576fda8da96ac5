package store

import (
	"database/sql"
	"encoding/json"
	"strings"
	"time"
)

// scanner is a row or rows.
type scanner interface{ Scan(into ...any) error }

// purseRow is a purse and its card, either of which may not be there.
type purseRow struct {
	highest, epoch, mac1Failures sql.NullInt64
	pending                      sql.NullString
	locked                       sql.NullBool
}

func (r purseRow) into(p *Purse, c *heldCard) {
	if r.highest.Valid {
		p.Highest, p.pending, p.epoch = int(r.highest.Int64), r.pending.String, int(r.epoch.Int64)
	}
	c.read = Card{MAC1Failures: int(r.mac1Failures.Int64), Locked: r.locked.Bool}
	c.now = c.read
}

func appendAttempt(values []any, key PurseKey, a *Attempt) []any {
	return appendJudgement(append(values, int64(a.AuditIndex), key.KeySet, key.Card, key.Purse, a.Counter, a.Random, a.ID, a.Operation,
		int64(a.Amount), int64(a.OldLimit), int64(a.Balance), a.Terminal, a.Date, a.Time, a.IssuerID, a.KeyVersion, a.KCV, a.Boundary, a.MAC2,
		a.CreatedAt.UnixMicro(), a.Epoch, a.Client, strings.Join(a.Buckets, ",")), a)
}

// appendJudgement appends what an update may change, the last columns of an attempt.
func appendJudgement(values []any, a *Attempt) []any {
	return append(values, string(a.State), string(a.Evidence), a.Contradicted, a.RightTAC, strings.Join(a.WrongTACs, ","))
}

// scanAttempt reads a row of attemptColumns, after other columns that go into before.
func scanAttempt(row scanner, before ...any) (PurseKey, Attempt, error) {
	var (
		key     PurseKey
		a       Attempt
		created int64
		buckets string
		wrong   string
	)
	err := row.Scan(append(before, &a.AuditIndex, &key.KeySet, &key.Card, &key.Purse, &a.Counter, &a.Random, &a.ID, &a.Operation,
		&a.Amount, &a.OldLimit, &a.Balance, &a.Terminal, &a.Date, &a.Time, &a.IssuerID, &a.KeyVersion, &a.KCV, &a.Boundary, &a.MAC2,
		&created, &a.Epoch, &a.Client, &buckets, &a.State, &a.Evidence, &a.Contradicted, &a.RightTAC, &wrong)...)
	if err != nil {
		return key, a, err
	}
	a.CreatedAt = time.UnixMicro(created).UTC()
	a.Buckets, a.WrongTACs = listOf(buckets), listOf(wrong)
	return key, a, nil
}

func appendSettlement(values []any, key PurseKey, s *Settlement) ([]any, error) {
	settled, err := json.Marshal(s.Settled)
	if err != nil {
		return nil, err
	}
	return append(values, s.ID, key.KeySet, key.Card, key.Purse, s.Terminal, s.IssuerID, s.ExpiresAt.UnixMicro(), string(s.State),
		s.Answer, s.Outcome, string(settled), s.KeyVersion, int64(s.AuditIndex)), nil
}

func scanSettlement(row scanner) (PurseKey, Settlement, error) {
	var (
		key     PurseKey
		s       Settlement
		expires int64
		settled string
	)
	err := row.Scan(&s.ID, &key.KeySet, &key.Card, &key.Purse, &s.Terminal, &s.IssuerID, &expires, &s.State, &s.Answer,
		&s.Outcome, &settled, &s.KeyVersion, &s.AuditIndex)
	if err != nil {
		return key, s, err
	}
	s.ExpiresAt = time.UnixMicro(expires).UTC()
	return key, s, json.Unmarshal([]byte(settled), &s.Settled)
}
