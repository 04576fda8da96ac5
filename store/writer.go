package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// writer owns the engine and what a group runs on it; only the write goroutine uses it.
type writer struct {
	*Database
	engine engine
	do     *statements
	end    uint64 // the index after the last entry that this process committed, or saw committed
	over   int    // the engine's count of connections when the record was last found to go on from there
	// The last entry that this process committed and its index; nil: none yet.
	last   []byte
	lastAt uint64
}

// mostTries bounds how often one group is tried: a database that will not have it is said to be unavailable.
const mostTries = 10

// commit runs a group as one transaction and answers every caller after it. A failure of the transaction fails all of
// them; a decision's own error fails that one alone. A transaction that must be tried again is, with all decisions.
func (w *writer) commit(group []*waiting) {
	start := time.Now()
	for tries := 1; ; tries++ {
		if group = present(group); len(group) == 0 {
			return
		}
		outcomes := make([]error, len(group))
		err := w.transact(group, outcomes)
		if errors.Is(err, errAgain) && tries < mostTries {
			time.Sleep(rand.N(time.Millisecond << tries)) // the other one of a conflict pauses for another time
			continue
		}
		w.answer(group, outcomes, err)
		w.commits.Groups.Add(1)
		w.commits.Changes.Add(uint64(len(group)))
		w.commits.Nanoseconds.Add(uint64(time.Since(start)))
		if errors.Is(err, errAway) {
			_ = w.endure(w.engine.reach) // on an error the store is being closed
		}
		return
	}
}

// present are those whose callers still wait; to the others nothing was decided.
func present(group []*waiting) []*waiting {
	asked := group[:0:len(group)]
	for _, waiting := range group {
		if err := waiting.ctx.Err(); err != nil {
			waiting.done <- err
			continue
		}
		asked = append(asked, waiting)
	}
	return asked
}

func (w *writer) answer(group []*waiting, outcomes []error, err error) {
	for i, waiting := range group {
		if err != nil {
			outcomes[i] = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if outcomes[i] == nil && waiting.change.Committed != nil {
			waiting.change.Committed()
		}
		waiting.done <- outcomes[i]
	}
}

// transact decides each change in order, on what the changes before it in the group left, and writes the sum. When it returns, the outcome
// is known, unless the store is being closed meanwhile.
func (w *writer) transact(group []*waiting, outcomes []error) error {
	b, err := w.decide(group, outcomes)
	if err == nil {
		err = w.engine.commit()
	}
	if errors.Is(err, errUnknown) {
		err = w.learn(err)
	} else if err != nil {
		w.engine.rollback()
	}
	if err == nil {
		w.recent.add(b.first, b.lines)
		w.end = b.first + uint64(len(b.lines))
		if n := len(b.lines); n > 0 {
			w.last, w.lastAt = b.lines[n-1], w.end-1
		}
	}
	return err
}

// decide begins a transaction and does in it all that its group wants.
func (w *writer) decide(group []*waiting, outcomes []error) (*batch, error) {
	changes := make([]Change, len(group))
	try := false
	for i, waiting := range group {
		changes[i] = waiting.change
		try = try || waiting.try
	}
	on, err := w.engine.begin()
	if err != nil {
		return nil, err
	}
	b, err := w.do.read(on, changes)
	if err != nil {
		return nil, err
	}
	if err := w.goneBack(on, b.first); err != nil {
		return nil, err
	}
	for i, c := range changes {
		outcomes[i] = b.decide(c)
	}
	if err := b.flush(); err != nil {
		return nil, err
	}
	for i, waiting := range group {
		if waiting.aside != nil {
			outcomes[i] = waiting.aside(on)
		}
	}
	if try {
		if err := w.do.try.run(on); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// goneBack refuses a database that has lost what this process committed. The head tells, until others have committed as much since; so
// behind each new connection, which may be to another server, the last entry is looked for as well.
func (w *writer) goneBack(on connection, next uint64) error {
	if next < w.end {
		return fmt.Errorf("the database has gone back: its next audit entry is %d, and this process committed those before %d", next, w.end)
	}
	over := w.engine.connections()
	if w.last != nil && w.over != over {
		var pruned uint64
		var line string
		if err := on.row(`SELECT before, COALESCE((SELECT entry FROM audit_entries WHERE idx = ?), '') FROM audit_pruned WHERE one = 1`,
			int64(w.lastAt)).Scan(&pruned, &line); err != nil {
			return fmt.Errorf("read the last entry of this process: %w", err)
		}
		if deleted := line == "" && w.lastAt < pruned; !deleted && line != string(w.last) {
			return fmt.Errorf("the database has gone back: its audit entry %d is not the one that this process committed", w.lastAt)
		}
	}
	w.over = over
	return nil
}
