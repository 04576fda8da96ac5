package hsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Backoff between tries to recover: full jitter over a doubling interval, short enough that a token is back in service within
// seconds of its return.
const (
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	longLife   = 10 * time.Second       // a generation that lived so long has proven the token: the next recovery begins at once
	grace      = 500 * time.Millisecond // for calls inside to come out with a good result
)

// keep is the keeper's goroutine: it alone starts generations, and so it is the breaker. While it works, callers are refused at
// once, and one try at a time goes to the token. The pause between tries outlives a generation that dies young: a request that
// always draws a fault of the device, while all tests of the start pass, cannot have the token initialized without end.
func (t *Token) keep() {
	defer close(t.kept)
	for {
		select {
		case <-t.life.Done():
			return
		case g := <-t.faults:
			if closed(t.done) || !t.recover(g) {
				return
			}
		}
	}
}

// recover starts the next generation: reopen and log in first when the session is to blame, finalize and initialize when the
// device is or that did not help (rule 4). It reports whether the keeper goes on.
func (t *Token) recover(g *generation) bool {
	t.recoveries.Add(1)
	if time.Since(t.began) >= t.steady {
		t.pause = 0
	}
	reload := g.class == classDevice
	if !reload {
		t.giveUp(t.config.InFlight + 1) // the sessions of g, which no finalize frees now (rule 9)
	}
	if g.class == classPIN && !t.latch(g.cause) {
		return false
	}
	for {
		t.drain(g)
		if !t.sleep(jitter(t.pause)) {
			return false
		}
		err := t.try(reload || t.discarded.Load() > maxDiscarded)
		switch {
		case err == nil:
			return true
		case t.life.Err() != nil:
			return false
		case closed(t.done):
			return false
		case classOf(err) == classPIN:
			if !t.latch(err) {
				return false
			}
			continue
		}
		reload = true
		t.setState(StateRecovering, err)
		t.log.Warn("token recovery", "error", err)
	}
}

// first loads the module and starts the first generation. It tries again only what another start may not meet: a login beside
// another process's, and a key whose fault is not certain to be its own.
func (t *Token) first(path string) error {
	err := t.keeper.call(func() (err error) {
		t.module, err = loadModule(path)
		return err
	})
	if err != nil {
		return err
	}
	err = t.try(false)
	for errors.Is(err, errAgain) && t.sleep(jitter(t.pause)) {
		t.log.Warn("token start", "error", err)
		err = t.try(true)
	}
	return err
}

// try makes one start, and notes how long the next has to wait.
func (t *Token) try(reload bool) error {
	t.pause = min(max(2*t.pause, firstPause), longPause)
	if reload {
		if err := t.reload(); err != nil {
			return err
		}
	}
	_, err := t.start()
	t.began = time.Now()
	return err
}

func jitter(pause time.Duration) time.Duration {
	if pause == 0 {
		return 0
	}
	return rand.N(pause) + pause/2
}

// reload finalizes and initializes the library when no call is inside it: with one in flight it would crash. One that hangs
// will not come out, so the process has to go (rule 7).
func (t *Token) reload() error {
	if t.hung.Load() > 0 {
		err := fmt.Errorf("%d calls hang inside the library and it must be reloaded", t.hung.Load())
		t.exit(err)
		return err
	}
	if err := t.keeper.call(t.module.reload); err != nil {
		return err
	}
	t.discarded.Store(0) // finalize freed them (rule 9)
	return nil
}

// drain waits until no call of g is inside the library, but for those that hang. Loans that are between two calls get grace to
// come to their end; then they get no further call.
func (t *Token) drain(g *generation) {
	for deadline := time.Now().Add(grace); g.running.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for !t.retireAll(g) {
		time.Sleep(time.Millisecond) // at most until the watcher writes the call off
	}
}

// latch waits for an operator (rule 5). No login is made meanwhile, and none after but the one that the operator ordered.
func (t *Token) latch(cause error) bool {
	t.log.Error("PIN latched", "error", cause)
	t.setState(StateLatched, cause)
	select {
	case <-t.life.Done():
		return false
	case <-t.unlatch:
		t.ordered.Store(true)
		t.pause = 0
		t.obeyed(cause)
		return true
	}
}

// obeyed ends the latch, and takes back an order that was given twice: it is not for a latch to come.
func (t *Token) obeyed(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.unlatch:
	default:
	}
	if t.state == StateLatched {
		t.state, t.cause = StateRecovering, cause
	}
}

func (t *Token) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.life.Done():
		return false
	case <-timer.C:
		return true
	}
}
