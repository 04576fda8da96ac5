package hsm

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// worker owns one session and runs jobs on it, one after another (rule 3).
type worker struct {
	generation *generation
	session    *session
	queue      chan *job
	write      bool // the anchor: its session may make token objects
	current    atomic.Pointer[job]
}

// loop runs jobs until the generation ends or the session is lost for good. When use ends the goroutine itself, a new one goes
// on with the same session.
func (w *worker) loop() {
	g := w.generation
	normal := false
	defer func() {
		if !normal {
			go w.loop()
			return
		}
		g.leave(w)
	}()
	for {
		select {
		case <-g.down:
			normal = true
			return
		case j := <-w.queue:
			if !j.state.CompareAndSwap(jobQueued, jobRunning) {
				continue // its caller left
			}
			if err := w.execute(j); err != nil && !w.settle(err) {
				normal = true
				return
			}
		}
	}
}

// execute runs j and returns the token's error, nil when the session is as good as before.
func (w *worker) execute(j *job) (fault error) {
	g := w.generation
	w.current.Store(j)
	g.token.inFlight.Add(1)
	returned := false
	defer func() {
		w.current.Store(nil)
		g.token.inFlight.Add(-1)
		if !returned {
			if p := recover(); p != nil {
				j.finish(nil, p)
				returned = true
			} else {
				j.finish(errUseExited, nil)
			}
		}
		j.release()
	}()
	result, fault := j.run(w.session)
	if result == nil && fault != nil {
		result = publicError("use the token", fault)
	}
	returned = true
	if c := classOf(fault); c > classSession {
		g.fail(c, fault) // first: whoever hears of the error does not meet this generation again
	}
	if !j.finish(result, nil) && j.discard != nil {
		j.discard()
	}
	return fault
}

// settle decides what an error of the token means for the session and the generation, and whether the worker goes on.
func (w *worker) settle(fault error) bool {
	g := w.generation
	if errors.Is(fault, errWrittenOff) {
		return false // another worker stands in
	}
	switch classOf(fault) {
	case classNone, classRequest:
		return true
	case classSession:
		g.token.log.Warn("token session discarded", "generation", g.number, "error", fault)
		return g.replace(w)
	default:
		return false // execute has ended the generation
	}
}

// replace gives the worker a new session in the place of a lost one, when the login still holds. The old session is not closed
// (rule 9): finalize frees it.
func (g *generation) replace(w *worker) bool {
	if g.discard() > maxDiscarded {
		g.fail(classDevice, fmt.Errorf("%d sessions discarded since the last initialize", maxDiscarded))
		return false
	}
	fresh := g.token.newSession()
	g.token.watch(fresh, w)
	err := fresh.open(g.slot, w.write)
	if err == nil {
		var yes bool
		if yes, err = fresh.loggedIn(); err == nil && !yes {
			err = errLoginLost
		}
	}
	g.token.unwatch(w.session)
	w.session.end()
	w.session = fresh
	switch {
	case err == nil:
		return true
	case !errors.Is(err, errWrittenOff):
		g.fail(max(classOf(err), classStale), fmt.Errorf("open session: %w", err))
	}
	return false
}
