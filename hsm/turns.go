package hsm

import (
	"context"
	"slices"
	"sync"
)

// callerKey carries the name of whom a call is for.
type callerKey struct{}

// WithCaller says for whom the calls of the token under ctx are. Those that wait for a session are served caller by caller in turn, so that
// one who has hundreds waiting is one call ahead of another, not hundreds. The calls of a context without a caller are one caller's.
func WithCaller(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callerKey{}, name)
}

func callerOf(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// turns is the jobs that wait for a worker: those of each caller in their order, the callers in turn.
type turns struct {
	// ready holds one for each job that waits, but for those that workers are about to take; its capacity bounds them.
	ready chan struct{}

	mu      sync.Mutex // guards what follows
	callers map[string]*waitingJobs
	next    []*waitingJobs // whose turn it is, in order; each has a job
}

// waitingJobs are those of one caller, first to last.
type waitingJobs struct {
	name        string
	first, last *job
}

func newTurns(most int) *turns {
	return &turns{ready: make(chan struct{}, most), callers: map[string]*waitingJobs{}}
}

// waiting is how many jobs wait.
func (t *turns) waiting() int { return len(t.ready) }

// put adds a job; false: as many wait as may.
func (t *turns) put(j *job) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.ready <- struct{}{}: // whoever takes it waits for mu
	default:
		return false
	}
	c := t.callers[j.caller]
	if c == nil {
		c = &waitingJobs{name: j.caller}
		t.callers[j.caller] = c
		t.next = append(t.next, c)
	}
	if j.before = c.last; c.last == nil {
		c.first = j
	} else {
		c.last.behind = j
	}
	c.last, j.waits = j, c
	return true
}

// take is the next job, for who has taken one from ready; nil: its caller left meanwhile.
func (t *turns) take() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first()
}

// takeExchange is the next job if it is an exchange, for who has taken none from ready; nil: it is none, or others are about to take what
// waits.
func (t *turns) takeExchange() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.next) == 0 || t.next[0].first.exchange == nil {
		return nil
	}
	select {
	case <-t.ready:
		return t.first()
	default:
		return nil
	}
}

// first takes out the next job; nil: there is none. mu is held.
func (t *turns) first() *job {
	if len(t.next) == 0 {
		return nil
	}
	c := t.next[0]
	t.next[0] = nil
	t.next = t.next[1:]
	j := c.first
	c.unlink(j)
	if c.first == nil {
		delete(t.callers, c.name)
	} else {
		t.next = append(t.next, c)
	}
	return j
}

// drop takes out a job whose caller has left, so that nobody fills the queue with jobs that he does not wait for.
func (t *turns) drop(j *job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := j.waits
	if c == nil { // a worker took it
		return
	}
	c.unlink(j)
	if c.first == nil {
		delete(t.callers, c.name)
		t.next = slices.DeleteFunc(t.next, func(other *waitingJobs) bool { return other == c })
	}
	select {
	case <-t.ready:
	default: // a worker has it, and finds one job less
	}
}

// unlink takes j out of its caller's jobs. The turns' mu is held.
func (c *waitingJobs) unlink(j *job) {
	if j.before == nil {
		c.first = j.behind
	} else {
		j.before.behind = j.behind
	}
	if j.behind == nil {
		c.last = j.before
	} else {
		j.behind.before = j.before
	}
	j.before, j.behind, j.waits = nil, nil, nil
}
