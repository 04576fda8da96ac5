package store

import (
	"context"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Sealing returns how far the record is sealed, and how many entries it has.
func (s *Database) Sealing(ctx context.Context) (sealed audit.Sealed, entries uint64, err error) {
	err = s.row(ctx, `SELECT size, checkpoint, (SELECT next FROM audit_head WHERE one = 1)
		FROM audit_sealing WHERE one = 1`).Scan(&sealed.Size, &sealed.Checkpoint, &entries)
	return sealed, entries, readError(err)
}

// TakeSealing takes or renews the lease for a term from now, in the next group commit. A holder that has the newest fence keeps it.
// One that asks without it, because it was started again, gets the next, and so does anybody once the lease has run out;
// until then all others get audit.ErrLeaseHeld. A term of zero gives the lease back.
//
// Clocks decide how soon another node takes over, never who may mark: that is the fence. An end that lies further ahead than
// a term could put it was written by a clock that is wrong, and holds nobody up.
func (s *Database) TakeSealing(ctx context.Context, lease audit.Lease, now time.Time, term time.Duration) (audit.Lease, error) {
	taken := lease // read only after the commit: the writer may still write it when ctx ends first
	err := s.aside(ctx, func(on connection) error {
		var (
			holder  string
			fence   uint64
			expires int64
		)
		err := on.row(`SELECT holder, fence, expires_at FROM audit_sealing WHERE one = 1`).Scan(&holder, &fence, &expires)
		if err != nil {
			return readError(err)
		}
		end := time.UnixMicro(expires)
		held := now.Before(end) && !end.After(now.Add(max(term, longestTerm)))
		switch {
		case holder == lease.Holder && fence == lease.Fence:
		case holder == lease.Holder || !held:
			fence++
		default:
			return fmt.Errorf("%w: %s", audit.ErrLeaseHeld, holder)
		}
		_, err = on.exec(`UPDATE audit_sealing SET holder = ?, fence = ?, expires_at = ? WHERE one = 1`,
			lease.Holder, int64(fence), now.Add(term).UnixMicro())
		taken.Fence = fence
		return readError(err)
	})
	if err != nil {
		return lease, err
	}
	return taken, nil
}

// longestTerm bounds how far ahead an end of a lease is believed.
const longestTerm = time.Minute

// MarkSealed marks how far the record is sealed, durably, for the holder of the newest fence; for another it is audit.ErrFenced.
// A mark never goes back.
func (s *Database) MarkSealed(ctx context.Context, lease audit.Lease, sealed audit.Sealed) error {
	return s.aside(ctx, func(on connection) error {
		rows, err := on.exec(`UPDATE audit_sealing SET size = ?, checkpoint = ?
			WHERE one = 1 AND holder = ? AND fence = ? AND size < ? AND ? <= (SELECT next FROM audit_head WHERE one = 1)`,
			int64(sealed.Size), sealed.Checkpoint, lease.Holder, int64(lease.Fence), int64(sealed.Size), int64(sealed.Size))
		return marked(rows, err)
	})
}

func marked(rows int64, err error) error {
	if err == nil && rows != 1 {
		return audit.ErrFenced
	}
	return readError(err)
}

// aside runs f in the next group commit, after its decisions. An error of f alone fails f alone, so f writes by one statement or not at
// all.
func (s *Database) aside(ctx context.Context, f func(connection) error) error {
	nothing := func(*Purse, uint64) ([]audit.Entry, error) { return nil, nil }
	return s.submit(&waiting{ctx: ctx, change: Change{Decide: nothing}, aside: f, done: make(chan error, 1)})
}
