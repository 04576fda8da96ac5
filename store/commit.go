package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// largestGroup bounds the changes of one transaction, so that the first of a flood is not held by the last.
const largestGroup = 256

// waiting is a change in the queue, and the place where its caller waits.
type waiting struct {
	ctx    context.Context
	change Change
	try    bool // write something even when nothing is to be written
	// aside, when not nil, runs in the transaction after the decisions of the group (sealing.go).
	aside func(connection) error
	done  chan error // buffered: the writer never waits for a caller that left
}

// CommitStats counts the group commit.
type CommitStats struct {
	Groups, Changes atomic.Uint64
	Nanoseconds     atomic.Uint64 // in transactions, begin to commit
}

// Stats returns the counters, which go on counting.
func (s *Database) Stats() *CommitStats { return &s.commits }

// Commit queues the change and waits for the group that takes it. When ctx ends first the outcome is not known to the
// caller, who must treat it as failed; the change may still become durable, and a retry then finds it recorded.
func (s *Database) Commit(ctx context.Context, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	return s.submit(&waiting{ctx: ctx, change: c, done: make(chan error, 1)})
}

func (s *Database) submit(w *waiting) error {
	ctx := w.ctx
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

// Lingering. A commit costs much the same for one change as for many, and on a small machine its processor time is the token's. So
// a group waits a moment for as many changes as came together lately. How many that are is learned: now and then a group that is not
// alone waits the whole moment and counts, and one that waited in vain expects fewer. One caller alone soon does not wait.
const (
	lingerTime  = 2 * time.Millisecond
	lingerGroup = 28 // more than this are not waited for
	countEvery  = 32 // groups
)

// company is how many changes a group expects.
type company struct{ expected, groups int }

// write is the one goroutine that commits: it takes all that waited while the last commit ran.
func (s *Database) write(w *writer) {
	defer close(s.stopped)
	defer func() { s.failed = w.engine.close() }()
	var c company
	for {
		select {
		case first := <-s.queue:
			w.commit(s.linger(s.gather([]*waiting{first}), &c))
		case <-s.stop:
			for {
				select {
				case first := <-s.queue:
					w.commit(s.gather([]*waiting{first}))
				default:
					return
				}
			}
		}
	}
}

// linger adds what comes within a moment, up to what is expected, and learns what to expect.
func (s *Database) linger(group []*waiting, c *company) []*waiting {
	c.groups++
	counting := c.groups%countEvery == 0 && len(group) > 1
	if counting {
		c.expected = lingerGroup
	}
	if len(group) >= c.expected {
		return group
	}
	enough := time.NewTimer(lingerTime)
	defer enough.Stop()
	for len(group) < c.expected {
		select {
		case next := <-s.queue:
			group = append(group, next)
		case <-enough.C:
			if counting {
				c.expected = len(group)
			} else {
				c.expected = (c.expected + len(group)) / 2
			}
			return s.gather(group)
		case <-s.stop:
			return group
		}
	}
	return s.gather(group)
}

// gather adds what waits already.
func (s *Database) gather(group []*waiting) []*waiting {
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
