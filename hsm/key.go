package hsm

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Key is a master key of the token. It stays valid over recoveries: each Lend takes the handle of the generation of the day.
type Key struct {
	token *Token
	spec  KeySpec
}

// Key returns the configured key with the label. It fails with ErrKeyNotFound when none is configured or the token has none,
// with what is wrong when the key fails closed, and with ErrUnavailable while no generation can tell.
func (t *Token) Key(label string) (*Key, error) {
	t.mu.Lock()
	spec, configured := t.specs[label]
	t.mu.Unlock()
	if !configured {
		return nil, fmt.Errorf("key %q: %w: it is not configured", label, ErrKeyNotFound)
	}
	g, err := t.generation()
	if err != nil {
		return nil, err
	}
	if _, err := g.entry(label); err != nil {
		return nil, err
	}
	return &Key{token: t, spec: spec}, nil
}

// Spec is what the catalogue knows of the key.
func (k *Key) Spec() KeySpec { return k.spec }

// Algorithm is the suite of the key.
func (k *Key) Algorithm() suite.Algorithm { return k.spec.Algorithm }

// Lend implements keyderive.Key. Levels of another number than the spec's are refused. At the TOKEN boundary use runs on a
// worker and holds its session: it should do nothing but cryptography, and must not Lend again.
func (k *Key) Lend(ctx context.Context, path keyderive.Path, use func(keyderive.Unit) error) error {
	g, err := k.token.generation()
	if err != nil {
		return err
	}
	e, err := g.borrow(k.spec)
	if err != nil {
		return err
	}
	defer e.drop()
	return g.lend(ctx, e, path, use)
}

func (g *generation) lend(ctx context.Context, e *entry, path keyderive.Path, use func(keyderive.Unit) error) error {
	if err := e.checkLevels(path); err != nil {
		return err
	}
	return g.lendAt(ctx, e, path, use)
}

// lendAt lends the key at levels whose number has been checked.
func (g *generation) lendAt(ctx context.Context, e *entry, path keyderive.Path, use func(keyderive.Unit) error) error {
	if e.sealed != nil {
		return g.lendSealed(ctx, e, path, use)
	}
	if path.Len() > 0 && e.right == mayEncrypt {
		return g.lendWithoutDerivation(ctx, e, path, use)
	}
	p, err := g.parent(ctx, e, path)
	if err != nil {
		return err
	}
	return g.lendFrom(ctx, e, p, use)
}

// lendWithoutDerivation is the CARD boundary on a token that cannot derive: the issuer-level key, too, is in locked memory, from
// C_Encrypt to the end of the Lend.
func (g *generation) lendWithoutDerivation(ctx context.Context, e *entry, path keyderive.Path, use func(keyderive.Unit) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	steps := path.Levels()
	issuer, err := g.cardKey(ctx, e, e.master, steps[0])
	if err != nil {
		return err
	}
	loan := &memoryLoan{spec: &e.spec, keys: []secret.Bytes{issuer}}
	defer loan.end() // wipes it
	unit, end, err := keyderive.Borrow(e.spec.Algorithm, issuer)
	if err != nil {
		return err
	}
	loan.ends = append(loan.ends, end)
	for _, step := range steps[1:] {
		if unit, err = unit.Derive(step, keyderive.ToDerive); err != nil {
			return err
		}
	}
	return use(&memoryUnit{unit, loan, depthLent, keyderive.ToDerive})
}

// lendFrom lends the key of p, and drops p when no call can use it any more.
func (g *generation) lendFrom(ctx context.Context, e *entry, p *parent, use func(keyderive.Unit) error) error {
	if e.spec.Boundary == keyderive.BoundaryCard {
		defer g.drop(p)
		if err := ctx.Err(); err != nil {
			return err
		}
		loan := &memoryLoan{spec: &e.spec}
		defer loan.end() // wipes the card keys
		return use(&cardSource{loan: loan, ctx: ctx, generation: g, entry: e, parent: p})
	}
	j := g.loanJob(e, func(l *loan) error {
		return use(&tokenUnit{loan: l, key: p.key, depth: depthLent, purpose: keyderive.ToDerive})
	})
	e.hold()
	j.released = func() { g.dropFor(e, p) } // p is held by the caller of this function
	return g.do(ctx, g.jobs, j)
}

// loanJob is one loan inside the token: use runs on a worker, and what it derived is destroyed before the job ends, also when it
// panics.
func (g *generation) loanJob(e *entry, use func(*loan) error) *job {
	j := newJob(nil)
	j.run = func(s *session) (result, fault error) {
		loan := &loan{session: s, spec: &e.spec, dialect: e.dialect, profile: &g.token.config.Profile}
		loan.derived = loan.first[:0]
		defer func() {
			loan.end()
			fault, j.fault = loan.fault, loan.fault
		}()
		return use(loan), nil
	}
	return j
}

// lendSealed is the PROCESS boundary: the master is in locked memory from here to the end of the Lend.
func (g *generation) lendSealed(ctx context.Context, e *entry, path keyderive.Path, use func(keyderive.Unit) error) error {
	var master secret.Bytes
	j := newJob(func(s *session) (_, fault error) {
		master, fault = e.sealed.open(s)
		return nil, fault
	})
	j.discard = func() { master.Wipe() } // the caller left: nobody else has seen it
	e.hold()
	j.released = e.drop
	if err := g.do(ctx, g.jobs, j); err != nil {
		return err
	}
	defer master.Wipe()
	key, err := keyderive.InMemory(e.spec.Algorithm, master)
	if err != nil {
		return err
	}
	loan := &memoryLoan{spec: &e.spec}
	defer loan.end()
	return key.Lend(ctx, path, func(unit keyderive.Unit) error {
		return use(&memoryUnit{unit, loan, depthLent, keyderive.ToDerive})
	})
}
