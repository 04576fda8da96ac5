package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
)

// largestGroup bounds the changes of one transaction, so that the first of a flood is not held by the last.
const largestGroup = 256

// waiting is a change in the queue, and the place where its caller waits.
type waiting struct {
	ctx    context.Context
	change Change
	done   chan error // buffered: the writer never waits for a caller that left
}

// CommitStats counts the group commit.
type CommitStats struct {
	Groups, Changes atomic.Uint64
	Nanoseconds     atomic.Uint64 // in transactions, begin to commit
}

// Stats returns the counters, which go on counting.
func (s *SQLite) Stats() *CommitStats { return &s.commits }

// Commit queues the change and waits for the group that takes it. When ctx ends first the outcome is not known to the
// caller, who must treat it as failed; the change may still become durable, and a retry then finds it recorded.
func (s *SQLite) Commit(ctx context.Context, c Change) error {
	w := &waiting{ctx: ctx, change: c, done: make(chan error, 1)}
	select {
	case <-s.stop:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	default:
	}
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		select {
		case err := <-w.done:
			return err
		default:
			return fmt.Errorf("%w: closed", ErrUnavailable)
		}
	}
}

// write is the one goroutine that commits: it takes all that waited while the last commit ran.
func (s *SQLite) write(w *writer) {
	defer close(s.stopped)
	for {
		select {
		case first := <-s.queue:
			w.commit(s.gather(first))
		case <-s.stop:
			for {
				select {
				case first := <-s.queue:
					w.commit(s.gather(first))
				default:
					return
				}
			}
		}
	}
}

func (s *SQLite) gather(first *waiting) []*waiting {
	group := []*waiting{first}
	for len(group) < largestGroup {
		select {
		case next := <-s.queue:
			group = append(group, next)
		default:
			return group
		}
	}
	return group
}

// writer owns the one writing connection and its prepared statements; only the write goroutine uses it.
type writer struct {
	conn  *sql.Conn
	do    statements
	stats *CommitStats
}

func newWriter(ctx context.Context, db *sql.DB, stats *CommitStats) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	do, err := prepare(ctx, conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &writer{conn: conn, do: do, stats: stats}, nil
}

// commit runs a group as one transaction and answers every caller after it. A failure of the transaction fails all of
// them; a decision's own error fails that one alone.
func (w *writer) commit(group []*waiting) {
	start := time.Now()
	outcomes := make([]error, len(group))
	err := w.transact(group, outcomes)
	for i, waiting := range group {
		if err != nil {
			waiting.done <- fmt.Errorf("%w: %w", ErrUnavailable, err)
			continue
		}
		waiting.done <- outcomes[i]
	}
	w.stats.Groups.Add(1)
	w.stats.Changes.Add(uint64(len(group)))
	w.stats.Nanoseconds.Add(uint64(time.Since(start)))
}

// transact decides each change in order, on what the changes before it in the group left, and writes the sum.
func (w *writer) transact(group []*waiting, outcomes []error) (err error) {
	ctx := context.Background() // a group outlives each caller's context
	if _, err := w.do.begin.ExecContext(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, failed := w.do.rollback.ExecContext(ctx)
			err = errors.Join(err, failed)
		}
	}()
	b, err := newBatch(ctx, &w.do)
	if err != nil {
		return err
	}
	for i, waiting := range group {
		if outcomes[i] = waiting.ctx.Err(); outcomes[i] != nil {
			continue // its caller left before anything was decided
		}
		if outcomes[i], err = b.decide(waiting.change); err != nil {
			return err
		}
	}
	if err := b.flush(); err != nil {
		return err
	}
	_, err = w.do.commit.ExecContext(ctx)
	return err
}

// decide runs one change on a copy of its purse. failed is the decision's own error; err is the database's.
func (b *batch) decide(c Change) (failed, err error) {
	before, err := b.load(c)
	if err != nil {
		return nil, err
	}
	after := before.clone()
	entries, failed := protect(c.Decide, after, b.next)
	if failed != nil {
		return failed, nil
	}
	lines, failed := encode(entries)
	if failed != nil {
		return failed, nil
	}
	b.replace(after)
	b.lines = append(b.lines, lines...)
	b.next += uint64(len(lines))
	return nil, nil
}

// protect makes a panic of one decision that decision's failure: a bug met by one request must not stop all others.
func protect(decide func(*Purse, uint64) ([]audit.Entry, error), p *Purse, index uint64) (entries []audit.Entry, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			entries, err = nil, fmt.Errorf("bug: a decision panicked: %v", bug)
		}
	}()
	return decide(p, index)
}

func encode(entries []audit.Entry) ([][]byte, error) {
	lines := make([][]byte, len(entries))
	for i, e := range entries {
		line, err := e.Encode()
		if err != nil {
			return nil, err
		}
		lines[i] = line
	}
	return lines, nil
}
