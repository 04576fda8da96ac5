package hsm

import (
	"context"
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
	ready chan struct{} // holds one for each job that waits; its capacity bounds them

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

// waiting is how many jobs wait, also those whose callers have left.
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
		c = &waitingJobs{name: j.caller, first: j, last: j}
		t.callers[j.caller] = c
		t.next = append(t.next, c)
		return true
	}
	c.last.behind, c.last = j, j
	return true
}

// take is the next job, for who has taken one from ready.
func (t *turns) take() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.next[0]
	t.next[0] = nil
	t.next = t.next[1:]
	j := c.first
	c.first, j.behind = j.behind, nil
	if c.first == nil {
		delete(t.callers, c.name)
	} else {
		t.next = append(t.next, c)
	}
	return j
}
