package hsm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// generation is one login and all that hangs on it (rules 2, 4). Handles are valid in their generation alone: a Lend takes the
// generation first and everything else from it.
type generation struct {
	number uint64
	token  *Token
	slot   uint
	anchor pkcs11.SessionHandle // the session that holds the login

	jobs  *turns        // for the workers
	admin *turns        // for the anchor: issuer levels, making and trying keys
	turn  chan struct{} // full while a session is at exchanges, on a serial token
	down  chan struct{}

	ending sync.Once
	class  class // why it ended: written before down is closed
	cause  error

	running atomic.Int64 // workers that have not left
	drained bool         // no session of it makes another call: guarded by Token.watchMu

	mu      sync.RWMutex // guards what follows
	entries map[string]*entry
	leaving map[string]*entry // that are forgotten, and whose objects are to be destroyed

	levels levels
	proven map[feature]error // of the keeper before traffic, then of the anchor: one goroutine at a time
}

// newGeneration makes the next one, empty.
func (t *Token) newGeneration(slot uint) *generation {
	return &generation{
		number:  t.number.Load() + 1,
		token:   t,
		slot:    slot,
		jobs:    newTurns(t.config.Queue),
		admin:   newTurns(t.config.Queue),
		turn:    make(chan struct{}, 1),
		down:    make(chan struct{}),
		entries: map[string]*entry{},
		leaving: map[string]*entry{},
		levels:  levels{keys: map[levelKey]*parent{}},
		proven:  map[feature]error{},
	}
}

// maxDiscarded is how many lost sessions wait for a finalize before one is made (rule 9).
const maxDiscarded = 64

var errLoginLost = errors.New("the login is lost")

// fail ends the generation, once: who waits is refused, who calls comes out, and the keeper starts the next one.
func (g *generation) fail(c class, cause error) {
	g.ending.Do(func() {
		g.class, g.cause = c, cause
		g.token.current.CompareAndSwap(g, nil)
		close(g.down)
		g.token.lost(g)
	})
}

// unavailable is what callers get of a generation that ended.
func (g *generation) unavailable() error {
	return fmt.Errorf("%w: generation %d ended: %w", ErrUnavailable, g.number, g.cause)
}

// giveUp counts sessions that are given up, not closed, since the last initialize.
func (t *Token) giveUp(n int) (since int64) {
	t.discards.Add(uint64(n))
	return t.discarded.Add(int64(n))
}

// add starts a worker on a session that is open.
func (g *generation) add(s *session, queue *turns, anchor bool) {
	w := &worker{generation: g, session: s, queue: queue, anchor: anchor}
	g.token.watch(s, w)
	g.running.Add(1)
	go w.loop()
}

// leave is a worker's last act: its session makes no more calls.
func (g *generation) leave(w *worker) {
	g.token.unwatch(w.session)
	w.session.end()
	g.running.Add(-1)
}

// stand starts a worker in the place of one, not the anchor, whose call was written off. The session is opened by the new worker's own
// goroutine, for opening may hang as well.
func (g *generation) stand(gone *worker) {
	w := &worker{generation: g, queue: gone.queue, session: g.token.newSession()}
	g.token.watch(w.session, w)
	g.running.Add(1)
	go func() {
		err := w.session.open(g.slot, false)
		if err == nil {
			err = w.session.reserve()
		}
		if err != nil {
			if !errors.Is(err, errWrittenOff) {
				g.fail(max(classOf(err), classStale), fmt.Errorf("open session: %w", err))
			}
			g.leave(w)
			return
		}
		w.loop()
	}()
}

// entry finds a configured key, or says why it cannot be used.
func (g *generation) entry(label string) (*entry, error) {
	g.mu.RLock()
	e := g.entries[label]
	g.mu.RUnlock()
	if e == nil {
		return nil, fmt.Errorf("key %q: %w", label, ErrKeyNotFound)
	}
	return e, e.failure()
}

// borrow is entry for a use of the key, which ends with drop. A Key of a master that was destroyed is not the next one's under its label.
func (g *generation) borrow(spec KeySpec) (*entry, error) {
	e, err := g.entry(spec.Label)
	if err != nil {
		return nil, err
	}
	if e.spec != spec {
		return nil, fmt.Errorf("key %q: %w: another key has the label now", spec.Label, ErrKeyNotFound)
	}
	return e, e.begin()
}

// put adds or replaces a key of the generation.
func (g *generation) put(e *entry) {
	g.mu.Lock()
	g.entries[e.spec.Label] = e
	g.mu.Unlock()
}
