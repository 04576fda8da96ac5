package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// BareLoad measures the bare PKCS#11 loop that DESIGN §10 compares with: n loads of a TOKEN key over so many threads, each with a
// session of its own, and nothing but the calls that AuthorizeLoad makes of the token, through the same C entry points:
//
//	derive card key · derive session key · MAC1: init, encrypt 16 · MAC2: init, encrypt 24 · destroy · destroy
//
// The issuer-level key is a session object made before, as it is for a generation. It opens the token for itself and closes it.
func BareLoad(ctx context.Context, config Config, label string, path keyderive.Path, n, threads int) (perSecond float64, err error) {
	if n < 1 || threads < 1 {
		return 0, fmt.Errorf("bare loop: %d loads, %d threads: expected positive numbers", n, threads)
	}
	t, err := Open(ctx, config)
	if err != nil {
		if t != nil {
			err = errors.Join(err, t.Close())
		}
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	g, err := t.generation()
	if err != nil {
		return 0, err
	}
	e, err := g.entry(label)
	if err != nil {
		return 0, err
	}
	if e.spec.Boundary != keyderive.BoundaryToken || !e.spec.Kind.Derives() || path.Len() != e.spec.IssuerLevels {
		return 0, fmt.Errorf("bare loop: key %q: expected a TOKEN key that derives, and its issuer levels", label)
	}
	p, err := g.parent(ctx, e, path)
	if err != nil {
		return 0, err
	}
	defer g.drop(p)
	loops := make([]*bareLoop, threads)
	for i := range loops {
		s := t.newSession()
		if err := s.open(g.slot, false); err != nil {
			return 0, fmt.Errorf("bare loop: %w", err)
		}
		loops[i] = &bareLoop{c: t.module.cryptoki, s: s.handle, d: e.dialect, parent: p.key, n: (n + i) / threads}
	}
	return runBare(ctx, loops, n)
}

func runBare(ctx context.Context, loops []*bareLoop, n int) (float64, error) {
	errs := make([]error, len(loops))
	var group sync.WaitGroup
	begin := time.Now()
	for i, loop := range loops {
		group.Go(func() { errs[i] = loop.run(ctx) })
	}
	group.Wait()
	return float64(n) / time.Since(begin).Seconds(), errors.Join(errs...)
}

type bareLoop struct {
	c      cryptoki
	s      pkcs11.SessionHandle
	d      dialect
	parent pkcs11.ObjectHandle
	n      int
}

func (l *bareLoop) run(ctx context.Context) error {
	for i := range l.n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := l.load(byte(i), byte(i>>8)); err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
	}
	return nil
}

func (l *bareLoop) load(a, b byte) error {
	in, n := l.d.input([16]byte{a, b})
	card, err := l.c.derive(l.s, l.d.deriveECB, l.parent, in[:n], l.d.keyType, 0, mayDerive)
	if err != nil {
		return err
	}
	session, err := l.c.derive(l.s, l.d.deriveECB, card, in[:n], l.d.keyType, 0, mayEncrypt)
	if err != nil {
		return err
	}
	var data, out [2 * 16]byte
	size := l.d.alg.BlockSize()
	for _, length := range []int{16, (18/size + 1) * size} { // 15 bytes for MAC1 and 18 for MAC2, padded
		if err := l.c.encrypt(l.s, l.d.cbc, session, zeros[:size], data[:length], out[:length]); err != nil {
			return err
		}
	}
	return errors.Join(l.c.destroy(l.s, session), l.c.destroy(l.s, card))
}
