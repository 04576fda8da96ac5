package hsm

import (
	"fmt"
)

// start makes a generation on the keeper's goroutine: slot, anchor session, login, known-answer tests, keys, sessions. Traffic
// begins only when all of it is done (rule 8). The sessions of a start that failed are left to finalize.
func (t *Token) start() (g *generation, err error) {
	var slot, flags uint
	err = t.keeper.call(func() (err error) {
		slot, flags, err = t.module.findSlot(t.config.TokenLabel)
		return err
	})
	if err != nil {
		return nil, err
	}
	var sessions []*session
	defer func() {
		if err != nil {
			t.abandon(sessions)
		}
	}()
	for i := range t.config.InFlight + 1 { // the first is the anchor
		s := t.newSession()
		sessions = append(sessions, s)
		t.watch(s, nil)
		if err := s.open(slot, i == 0); err != nil {
			return nil, fmt.Errorf("open session: %w", err)
		}
		if i == 0 {
			continue // the anchor makes no card keys
		}
		if err := s.reserve(); err != nil {
			return nil, err
		}
	}
	anchor := sessions[0]
	if err := t.login(anchor, flags); err != nil {
		return nil, err
	}
	g = t.newGeneration(slot)
	if err := t.settleAll(anchor); err != nil {
		return nil, err
	}
	for {
		missing := t.publish(g)
		if len(missing) == 0 {
			break
		}
		if err := g.resolveAll(anchor, missing); err != nil {
			return nil, err
		}
	}
	t.begin(g, sessions)
	return g, nil
}

// publish opens the generation to traffic, unless keys were configured since it looked: those it returns. t.mu makes it and adopt
// see each other.
func (t *Token) publish(g *generation) (missing []KeySpec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for label, spec := range t.specs {
		if g.entries[label] == nil {
			missing = append(missing, spec)
		}
	}
	for label := range g.entries {
		if _, configured := t.specs[label]; !configured { // destroyed since it was resolved
			delete(g.entries, label)
		}
	}
	if len(missing) == 0 {
		t.log.Info("token generation begins", "generation", g.number, "slot", g.slot, "keys", len(g.entries))
		t.number.Store(g.number)
		t.last.Store(g)
		t.current.Store(g)
	}
	return missing
}

// begin starts the workers of a generation that is published: what callers queued meanwhile waits for them.
func (t *Token) begin(g *generation, sessions []*session) {
	g.anchor = sessions[0].handle
	t.setState(StateReady, nil)
	for i, s := range sessions {
		if i == 0 {
			g.add(s, g.admin, true)
			continue
		}
		g.add(s, g.jobs, false)
	}
}

// abandon gives up the sessions of a start that failed.
func (t *Token) abandon(sessions []*session) {
	for _, s := range sessions {
		t.unwatch(s)
		s.retire()
		s.end()
		if s.handle != 0 {
			t.giveUp(1)
		}
	}
}
