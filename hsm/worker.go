package hsm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// worker owns one session and runs jobs on it, one after another (rule 3).
type worker struct {
	generation *generation
	session    *session
	queue      *turns
	// anchor: its session holds the login and may make token objects, and the issuer-level keys are objects of it. It is never
	// replaced: its objects die with it, and their handles may then be other objects'.
	anchor   bool
	current  atomic.Pointer[job]
	batch    []*job        // of the crossing: this worker's goroutine alone
	crossing *crossing     // its memory, from the first exchange on
	pace     time.Duration // of one exchange in the last crossing
	turn     atomic.Bool   // it has the generation's turn
	left     error         // the token's error in a job whose use ended the goroutine: for the next goroutine to settle
}

var errAnchorLost = errors.New("the anchor session is lost, and the issuer-level keys with it")

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
	if left := w.left; left != nil {
		w.left = nil
		if !w.settle(left) {
			normal = true
			return
		}
	}
	for {
		select {
		case <-g.down:
			normal = true
			return
		case <-w.queue.ready:
			j := w.queue.take()
			if j == nil || !j.state.CompareAndSwap(jobQueued, jobRunning) {
				continue // its caller left
			}
			if !w.run(j) {
				normal = true
				return
			}
		}
	}
}

// run works off j, and what may cross with it; false: the session is lost for good, or the generation.
func (w *worker) run(j *job) (goesOn bool) {
	if j.exchange != nil {
		return w.answer(j)
	}
	err := w.execute(j)
	return err == nil || w.settle(err)
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
			fault = j.fault // run returned none
			w.judge(fault)
			w.broken(j, recover())
		}
		j.release()
	}()
	result, fault := j.run(w.session)
	if result == nil && fault != nil {
		result = publicError("use the token", fault)
	}
	returned = true
	w.judge(fault)
	if !j.finish(result, nil) && j.discard != nil {
		j.discard()
	}
	return fault
}

// judge ends the generation on a fault that is more than a session's, before anybody hears of it: who does then does not meet
// this generation again.
func (w *worker) judge(fault error) {
	if c := w.classOf(fault); c > classSession {
		w.generation.fail(c, fault)
	}
}

// classOf is classOf of errors, but that the loss of the anchor's session is the loss of what hangs on it.
func (w *worker) classOf(fault error) class {
	c := classOf(fault)
	if c == classSession && w.anchor {
		return classStale
	}
	return c
}

// broken finishes a job whose run panicked, or with no panic, whose use ended the goroutine. A panic that no caller waits for is
// logged: it would be lost.
func (w *worker) broken(j *job, panicked any) {
	if panicked == nil {
		w.left = j.fault
		j.finish(errUseExited, nil)
		return
	}
	if !j.finish(nil, panicked) {
		w.generation.token.log.Error("use of a key panicked after its caller left", "panic", fmt.Sprint(panicked))
	}
}

// settle decides what an error of the token means for the session and the generation, and whether the worker goes on.
func (w *worker) settle(fault error) bool {
	g := w.generation
	if errors.Is(fault, errWrittenOff) {
		return false // another worker stands in, or the generation has ended
	}
	switch w.classOf(fault) {
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
	if g.token.giveUp(1) > maxDiscarded {
		g.fail(classDevice, fmt.Errorf("%d sessions discarded since the last initialize", maxDiscarded))
		return false
	}
	fresh := g.token.newSession()
	g.token.watch(fresh, w)
	err := fresh.open(g.slot, false)
	if err == nil {
		var yes bool
		if yes, err = fresh.loggedIn(); err == nil && !yes {
			err = errLoginLost
		}
	}
	g.token.unwatch(w.session)
	fresh.batch, w.session.batch = w.session.batch, fresh.batch // no call is inside the old session
	w.session = fresh
	switch {
	case err == nil:
		return true
	case !errors.Is(err, errWrittenOff):
		g.fail(max(classOf(err), classStale), fmt.Errorf("open session: %w", err))
	}
	return false
}
