package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

const requestColumns = `audit_index, id, body, act, author, expires_at, state, approvals, executor, attempt, claimed_at, detail, ended_index`

func appendRequest(values []any, r *ChangeRequest) ([]any, error) {
	approvals, err := json.Marshal(r.Approvals)
	if err != nil {
		return nil, fmt.Errorf("approvals of change request %s: %w", r.ID, err)
	}
	var claimed int64
	if !r.ClaimedAt.IsZero() {
		claimed = r.ClaimedAt.UnixMicro()
	}
	return append(values, int64(r.AuditIndex), r.ID, string(r.Body), r.Act, r.Author, r.ExpiresAt.UnixMicro(), string(r.State),
		string(approvals), r.Executor, r.Attempt, claimed, r.Detail, int64(r.Ended)), nil
}

func scanRequest(row scanner) (r ChangeRequest, err error) {
	var expires, claimed int64
	var approvals string
	if err := row.Scan(&r.AuditIndex, &r.ID, &r.Body, &r.Act, &r.Author, &expires, &r.State, &approvals, &r.Executor, &r.Attempt,
		&claimed, &r.Detail, &r.Ended); err != nil {
		return ChangeRequest{}, err
	}
	r.ExpiresAt = time.UnixMicro(expires).UTC()
	if claimed != 0 {
		r.ClaimedAt = time.UnixMicro(claimed).UTC()
	}
	if err := json.Unmarshal([]byte(approvals), &r.Approvals); err != nil {
		return ChangeRequest{}, fmt.Errorf("approvals of change request %s: %w", r.ID, err)
	}
	return r, nil
}

// Custody returns the catalogue; of a store without officers, which are revision 0, the zero Custody.
func (s *Database) Custody(ctx context.Context) (Custody, error) { return s.CustodyOtherThan(ctx, 0) }

// CustodyOtherThan is Custody without the document where its revision is the known one.
func (s *Database) CustodyOtherThan(ctx context.Context, known uint64) (c Custody, err error) {
	err = s.row(ctx, `SELECT revision, CASE revision WHEN ? THEN NULL ELSE document END FROM custody WHERE one = 1`, int64(known)).
		Scan(&c.Revision, &c.Document)
	if err != nil || c.Revision == 0 {
		return Custody{}, readError(err)
	}
	return c, nil
}

// ChangeRequest returns a change request, or ErrNotFound.
func (s *Database) ChangeRequest(ctx context.Context, id string) (ChangeRequest, error) {
	r, err := scanRequest(s.row(ctx, `SELECT `+requestColumns+` FROM change_requests WHERE id = ?`, id))
	return r, readError(err)
}

// ChangeRequests returns change requests in the order of their proposals.
func (s *Database) ChangeRequests(ctx context.Context, f RequestFilter) (all []ChangeRequest, err error) {
	query := `SELECT ` + requestColumns + ` FROM change_requests WHERE audit_index > ?`
	arguments := []any{int64(f.After)}
	if f.State != "" {
		query += ` AND state = ?`
		arguments = append(arguments, string(f.State))
	}
	if f.OpenOnly {
		query += ` AND ended_index = 0` // as the index of open requests writes it
	}
	err = s.page(ctx, query+` ORDER BY audit_index LIMIT ?`, append(arguments, f.Limit), func() { all = nil }, func(rows *sql.Rows) error {
		r, err := scanRequest(rows)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, readError(err)
	}
	return all, nil
}
