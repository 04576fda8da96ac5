package hsm

import (
	"sync"
	"sync/atomic"
)

// loans counts what uses the objects of a key that may end before its generation: Lends, and the jobs that a cancelled Lend leaves in
// the token. A handle that was destroyed under a running job would end production's generation. It is on the path of every Lend, and
// takes no lock there.
type loans struct {
	state atomic.Int64 // the number of uses, and closedLoans
	end   sync.Once    // the one who acts on the end: the last user, or the closer of a key that is not used
	last  func()       // called at the end by the last user: set before it is closed

	mu    sync.Mutex    // guards ended
	ended chan struct{} // of idle: closed at the end
}

// closedLoans is the bit that takes no more users.
const closedLoans = 1 << 62

func (l *loans) begin() error {
	if l.state.Add(1)&closedLoans != 0 {
		l.drop()
		return errOver
	}
	return nil
}

// hold is one more use, by one who has one.
func (l *loans) hold() { l.state.Add(1) }

func (l *loans) drop() {
	if l.state.Add(-1) == closedLoans {
		l.end.Do(func() { go l.last() }) // not on this goroutine, which may be a worker's
	}
}

// close reports whether nothing uses the key: its closer destroys it.
func (l *loans) close() (idle bool) {
	if l.state.Or(closedLoans)&^closedLoans == 0 {
		l.end.Do(func() { idle = true })
	}
	return idle
}

// idle closes it, and returns a channel that is closed when nothing uses the key.
func (l *loans) idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = make(chan struct{})
		l.last = func() { close(l.ended) }
		if l.close() {
			close(l.ended)
		}
	}
	return l.ended
}
