package hsm

// Stats is a moment's look at a Token, for metrics.
type Stats struct {
	State      State
	Generation uint64 // of the current or last generation, counted from 1
	PINLatched bool
	KeysFailed int // keys that fail closed in this generation

	InFlight int // jobs on workers
	Waiting  int // jobs that wait for one
	Hanging  int // calls that were written off and are still inside the library

	WrittenOff uint64 // calls written off, ever
	Discarded  uint64 // sessions discarded, ever
	Recoveries uint64 // recoveries begun, ever
}

// Stats may be called at any time, and makes no call of the token.
func (t *Token) Stats() Stats {
	s := Stats{
		State:      t.State(),
		Generation: t.number.Load(),
		InFlight:   int(t.inFlight.Load()),
		Hanging:    int(t.hung.Load()),
		WrittenOff: t.writtenOff.Load(),
		Discarded:  t.discards.Load(),
		Recoveries: t.recoveries.Load(),
	}
	s.PINLatched = s.State == StateLatched
	if g := t.current.Load(); g != nil {
		s.Waiting = g.jobs.waiting() + g.admin.waiting()
		g.mu.RLock()
		for _, e := range g.entries {
			if e.failure() != nil {
				s.KeysFailed++
			}
		}
		g.mu.RUnlock()
	}
	return s
}

// State is what the token is doing.
func (t *Token) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}
