package hsm

import (
	"fmt"
	"time"
)

// startHang is how many hang limits a call of the keeper may take: initialize and login of a token on a network are slow.
const startHang = 6

// watch puts a session under the watcher's eyes before its first call; w is nil while the keeper uses it. For a generation that is
// being drained it comes too late: the session then takes no call.
func (t *Token) watch(s *session, w *worker) {
	t.watchMu.Lock()
	defer t.watchMu.Unlock()
	if w != nil && w.generation.drained {
		s.retire()
		return
	}
	t.watched[s] = w
}

// unwatch is for a session whose goroutine makes no more calls.
func (t *Token) unwatch(s *session) {
	t.watchMu.Lock()
	delete(t.watched, s)
	t.watchMu.Unlock()
}

// watchCalls is the watcher's goroutine: it writes off the calls that hang (rule 7).
func (t *Token) watchCalls() {
	tick := time.NewTicker(max(min(t.config.Hang/8, time.Second), minHang/4))
	defer tick.Stop()
	for {
		select {
		case <-t.closed:
			return
		case <-tick.C:
			t.writeOff()
		}
	}
}

func (t *Token) writeOff() {
	now := clock()
	if t.keeper.writeOff(now, startHang*t.config.Hang) {
		t.exit(fmt.Errorf("a call of the recovery hangs: %w", errWrittenOff))
		return
	}
	var hanging []*worker
	t.watchMu.Lock()
	for s, w := range t.watched {
		switch {
		case w != nil && s.writeOff(now, t.config.Hang):
			hanging = append(hanging, w)
		case w == nil && s.writeOff(now, startHang*t.config.Hang):
			t.exit(fmt.Errorf("a call of the start of a generation hangs: %w", errWrittenOff))
		}
	}
	t.watchMu.Unlock()
	for _, w := range hanging {
		t.writeOffJob(w)
	}
}

// writeOffJob answers the caller of a call that hangs, and has another worker stand in for its own, up to the cap. Nobody stands
// in for the anchor.
func (t *Token) writeOffJob(w *worker) {
	t.writtenOff.Add(1)
	g := w.generation
	t.giveUp(1)
	t.log.Error("call written off", "generation", g.number, "limit", t.config.Hang, "hanging", t.hung.Load())
	if j := w.current.Load(); j != nil {
		err := publicError("use the token", errWrittenOff)
		j.finish(err, nil)
		if j.lost != nil {
			j.lost(err)
		}
	}
	if hung := t.hung.Load(); hung >= int64(t.config.InFlight) {
		t.exit(fmt.Errorf("%d calls hang inside the library, as many as may be in flight", hung))
		return
	}
	switch {
	case w.anchor:
		g.fail(classStale, errAnchorLost)
	case !closed(g.down):
		g.stand(w)
	}
}

// retireAll takes the sessions of an ended generation out of use. It is false while a call of theirs is still inside, unless
// that call hangs.
func (t *Token) retireAll(g *generation) bool {
	t.watchMu.Lock()
	defer t.watchMu.Unlock()
	g.drained = true
	out := true
	for s, w := range t.watched {
		if w == nil || w.generation != g {
			continue
		}
		if !s.retire() && s.inside.Load() != lineHung {
			out = false
		}
	}
	return out
}
