package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// job is one piece of work for one worker and its session. Whoever swaps its state out of queued or running decides how it
// ended: the worker, the watcher that wrote it off, or the caller that stopped waiting.
type job struct {
	state atomic.Int32
	done  chan struct{}
	err   error // written before done is closed, by the one who finished it
	panic any   // the same: what use panicked with, raised again in the caller
	fault error // of the worker: the token's error, kept where run may end by a panic of use and return none

	caller string // for whose turn it waits; "" with those of nobody in particular

	// Of the turns that it waits in.
	waits          *waitingJobs // nil: it does not wait
	before, behind *job         // of the same caller

	// run returns what its caller gets, and the first error of the token, for the worker to classify. Where it returns only
	// the latter, the caller gets that as publicError words it.
	run func(*session) (result, fault error)
	// discard is called when the job ended otherwise while run was at it: what run made is then nobody's but run's.
	discard func()
	// released is called once, when no worker runs the job any more or ever will.
	released func()
	// exchange is what the job is of, in the place of run: it may cross into the library with others.
	exchange *exchange
	// lost is called when the job's call was written off and nobody waits for the job itself.
	lost func(error)
}

const (
	jobQueued = iota
	jobRunning
	jobDone
	jobAbandoned
)

func newJob(run func(*session) (result, fault error)) *job {
	return &job{done: make(chan struct{}), run: run}
}

// finish ends a running job with err; false means that its caller, or the watcher, ended it before.
func (j *job) finish(err error, panicked any) bool {
	if !j.state.CompareAndSwap(jobRunning, jobDone) {
		return false
	}
	j.err, j.panic = err, panicked
	close(j.done)
	return true
}

// release marks that the job is out of the workers' hands.
func (j *job) release() {
	if j.released != nil {
		j.released()
	}
}

// errUseExited says that use ended its goroutine, as a failed test does.
var errUseExited = errors.New("use ended its goroutine")

// do queues j and waits: for its end, for ctx, or for the end of the generation while j still waits. A caller that stops waiting
// for a running job abandons it; the cgo call goes on (rule 7).
func (g *generation) do(ctx context.Context, queue *turns, j *job) error {
	if err := ctx.Err(); err != nil {
		j.release()
		return err
	}
	j.caller = callerOf(ctx)
	if err := g.post(queue, j); err != nil {
		j.release()
		return err
	}
	select {
	case <-j.done:
		return j.outcome()
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
			queue.drop(j)
			j.release()
			return ctx.Err()
		}
		if j.state.CompareAndSwap(jobRunning, jobAbandoned) {
			return ctx.Err()
		}
		<-j.done
		return j.outcome()
	case <-g.down:
		return g.lastWait(ctx, j)
	}
}

// post queues j without waiting.
func (g *generation) post(queue *turns, j *job) error {
	if closed(g.down) {
		return g.unavailable()
	}
	if !queue.put(j) {
		return fmt.Errorf("%w: %d", ErrBusy, cap(queue.ready))
	}
	return nil
}

// simple makes a job's run of a function whose every error is the token's.
func simple(f func(*session) error) func(*session) (result, fault error) {
	return func(s *session) (error, error) { return nil, f(s) }
}

// lastWait is do after the end of the generation: what waits is refused, what runs may come out with a good result.
func (g *generation) lastWait(ctx context.Context, j *job) error {
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		j.release()
		return g.unavailable()
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobRunning, jobAbandoned) {
			return ctx.Err()
		}
		<-j.done
	}
	return j.outcome()
}

func (j *job) outcome() error {
	if j.panic != nil {
		panic(j.panic)
	}
	return j.err
}
