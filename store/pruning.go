package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Pruned is the index before which entries may have been deleted.
func (s *Database) Pruned(ctx context.Context) (before uint64, err error) {
	err = s.row(ctx, `SELECT before FROM audit_pruned WHERE one = 1`).Scan(&before)
	return before, readError(err)
}

// ErrNotPrunable: what is to be pruned is not sealed, or leaves nothing.
var ErrNotPrunable = errors.New("entries that are not sealed, or are the last, are not pruned")

// MarkPruned marks durably that entries before an index may be deleted, and deletes none. The mark never goes back; all before it must
// be sealed, and something must be left after it.
func (s *Database) MarkPruned(ctx context.Context, before uint64) error {
	return s.aside(ctx, func(on connection) error {
		rows, err := on.exec(`UPDATE audit_pruned SET before = CASE WHEN before < ? THEN ? ELSE before END
			WHERE one = 1 AND ? <= (SELECT size FROM audit_sealing WHERE one = 1) AND ? < (SELECT next FROM audit_head WHERE one = 1)`,
			int64(before), int64(before), int64(before), int64(before))
		if err = marked(rows, err); errors.Is(err, audit.ErrFenced) {
			return fmt.Errorf("entries before %d: %w", before, ErrNotPrunable)
		}
		return err
	})
}

// DeletePruned deletes up to limit of the entries before the mark, the oldest first, in one transaction, and returns how many. 0 is
// none left.
func (s *Database) DeletePruned(ctx context.Context, limit int) (deleted int, err error) {
	n := new(int64) // not a result variable: after an early return the writer may still write it
	err = s.aside(ctx, func(on connection) (err error) {
		*n, err = on.exec(`DELETE FROM audit_entries WHERE idx IN (SELECT idx FROM audit_entries
			WHERE idx < (SELECT before FROM audit_pruned WHERE one = 1) ORDER BY idx LIMIT ?)`, limit)
		return readError(err)
	})
	if err != nil {
		return 0, err
	}
	return int(*n), nil
}
