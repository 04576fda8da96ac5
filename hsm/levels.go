package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// parent is the key that card keys are derived from: a master, or its key at the issuer levels, kept for the generation.
type parent struct {
	key   pkcs11.ObjectHandle
	batch batch // CARD: the cards that wait to be derived from it in one call

	ready chan struct{} // closed when key or err is set; nil of a master
	err   error
	uses  int // loans that use it: guarded by levels.mu
}

type levelKey struct {
	entry *entry
	path  string
}

// levels are the issuer-level keys of a generation: session objects of the anchor, which live as long as it does.
type levels struct {
	mu   sync.Mutex
	keys map[levelKey]*parent
}

// maxLevelKeys bounds them where issuer factors come from cards; beyond it one that is not in use makes room.
const maxLevelKeys = 1024

var errAllInUse = errors.New("all issuer-level keys are in use")

// checkLevels refuses levels of another number than the key set's.
func (e *entry) checkLevels(path keyderive.Path) error {
	if path.Len() != e.spec.IssuerLevels {
		return fmt.Errorf("key %q: %d issuer levels, the key set has %d", e.spec.Label, path.Len(), e.spec.IssuerLevels)
	}
	return nil
}

// parent finds the key at levels, or has the anchor derive it; callers that ask at once share one derivation. The caller
// gives it back with drop.
func (g *generation) parent(ctx context.Context, e *entry, path keyderive.Path) (*parent, error) {
	if path.Len() == 0 {
		return e.master, nil
	}
	key := levelKey{e, path.String()}
	g.levels.mu.Lock()
	p := g.levels.keys[key]
	if p == nil {
		evicted, err := g.levels.makeRoom()
		if err != nil {
			g.levels.mu.Unlock()
			return nil, err
		}
		p = &parent{ready: make(chan struct{})}
		g.levels.keys[key] = p
		e.hold()
		go g.deriveLevel(key, p, path, evicted)
	}
	p.uses++
	g.levels.mu.Unlock()
	select {
	case <-p.ready:
		if p.err != nil {
			g.drop(p)
			return nil, p.err
		}
		return p, nil
	case <-ctx.Done():
		g.drop(p)
		return nil, ctx.Err()
	}
}

// hold is one more use of a parent that is held already.
func (g *generation) hold(p *parent) {
	if p.ready == nil {
		return
	}
	g.levels.mu.Lock()
	p.uses++
	g.levels.mu.Unlock()
}

// drop ends one use.
func (g *generation) drop(p *parent) {
	if p.ready == nil {
		return
	}
	g.levels.mu.Lock()
	p.uses--
	g.levels.mu.Unlock()
}

// holdFor and dropFor are hold and drop, of p and of the entry that it is derived from, for a job that may outlast its caller.
func (g *generation) holdFor(e *entry, p *parent) {
	g.hold(p)
	e.hold()
}

func (g *generation) dropFor(e *entry, p *parent) {
	g.drop(p)
	e.drop()
}

// makeRoom takes some key that nobody uses out of a full cache, for the anchor to destroy. l.mu is held.
func (l *levels) makeRoom() (evicted *parent, err error) {
	if len(l.keys) < maxLevelKeys {
		return nil, nil
	}
	for key, p := range l.keys {
		if p.uses == 0 && closed(p.ready) {
			delete(l.keys, key)
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrBusy, errAllInUse)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// deriveLevel fills p on the anchor, and destroys the key that made room for it.
func (g *generation) deriveLevel(key levelKey, p *parent, path keyderive.Path, evicted *parent) {
	defer key.entry.drop()
	err := g.do(context.Background(), g.admin, newJob(simple(func(s *session) error {
		if evicted != nil && evicted.key != 0 {
			if err := s.destroy(evicted.key); err != nil {
				return err
			}
		}
		handle, err := key.entry.deriveDown(s, path)
		if err == nil {
			p.key = handle
		}
		return err
	})))
	p.err = err
	if err != nil {
		g.levels.mu.Lock()
		delete(g.levels.keys, key) // the next caller tries anew
		g.levels.mu.Unlock()
	}
	close(p.ready)
}

// deriveDown derives the master along path inside the token: sensitive session objects that may derive, the last with the one
// right of the boundary. Those between are destroyed at once.
func (e *entry) deriveDown(s *session, path keyderive.Path) (pkcs11.ObjectHandle, error) {
	key := e.master.key
	steps := path.Levels()
	for i, data := range steps {
		may := mayDerive
		if i == len(steps)-1 && e.spec.Boundary == keyderive.BoundaryCard {
			may = mayEncrypt
		}
		in, n := e.dialect.input(data)
		next, err := s.derive(e.dialect.deriveECB, key, in[:n], e.dialect.keyType, 0, may)
		if i > 0 {
			err = errors.Join(err, s.destroy(key))
		}
		if err != nil {
			return 0, err
		}
		key = next
	}
	return key, nil
}

// forget destroys the issuer-level keys of an entry that ends before its generation: a key of a replay, whose last loan is over.
func (g *generation) forget(s *session, e *entry) error {
	g.levels.mu.Lock()
	var gone []*parent
	for key, p := range g.levels.keys {
		if key.entry == e && closed(p.ready) {
			delete(g.levels.keys, key)
			gone = append(gone, p)
		}
	}
	g.levels.mu.Unlock()
	var errs error
	for _, p := range gone {
		errs = errors.Join(errs, s.destroy(p.key))
	}
	return errs
}
