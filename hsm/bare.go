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

// BareLoop is the bare PKCS#11 loop that DESIGN §10 compares with: loads over some threads, each with a session of its own, and nothing but
// the calls that AuthorizeLoad makes of the token, through the same C entry points:
//
//	derive card key · derive session key · MAC1: init, encrypt 16 · MAC2: init, encrypt 24 · destroy · destroy
//
// The issuer-level key is a session object made before, as it is for a generation. Its sessions are outside the token's pool, and end with
// the generation: it is for measurements, on a token that does nothing else meanwhile.
type BareLoop struct {
	generation *generation // of the handles
	loops      []*bareLoop
}

// BareLoop opens a loop over at most so many threads, under the TOKEN key with the label at its issuer levels.
func (t *Token) BareLoop(ctx context.Context, label string, path keyderive.Path, threads int) (*BareLoop, error) {
	if threads < 1 {
		return nil, fmt.Errorf("bare loop: %d threads: expected a positive number", threads)
	}
	g, err := t.generation()
	if err != nil {
		return nil, err
	}
	e, err := g.entry(label)
	if err != nil {
		return nil, err
	}
	if e.spec.Boundary != keyderive.BoundaryToken || !e.spec.Kind.Derives() || path.Len() != e.spec.IssuerLevels {
		return nil, fmt.Errorf("bare loop: key %q: expected a TOKEN key that derives, and its issuer levels", label)
	}
	p, err := g.parent(ctx, e, path) // never dropped: it lives as long as the generation
	if err != nil {
		return nil, err
	}
	b := &BareLoop{generation: g}
	for range threads {
		s := t.newSession()
		if err := s.open(g.slot, false); err != nil {
			return nil, fmt.Errorf("bare loop: %w", err)
		}
		b.loops = append(b.loops, &bareLoop{c: t.module.cryptoki, s: s.handle, d: e.dialect, parent: p.key})
	}
	return b, nil
}

// Run makes n loads over the first threads of the loop, and says how long they took. It makes none when the generation of the loop has
// ended: its handles may be other sessions' and other keys' then.
func (b *BareLoop) Run(ctx context.Context, n, threads int) (time.Duration, error) {
	if n < 1 || threads < 1 || threads > len(b.loops) {
		return 0, fmt.Errorf("bare loop: %d loads, %d threads: expected at least one, and at most %d threads", n, threads, len(b.loops))
	}
	if g := b.generation; closed(g.down) {
		return 0, fmt.Errorf("bare loop: %w", g.unavailable())
	}
	errs := make([]error, threads)
	var group sync.WaitGroup
	begin := time.Now()
	for i, loop := range b.loops[:threads] {
		group.Go(func() { errs[i] = loop.run(ctx, (n+i)/threads) })
	}
	group.Wait()
	return time.Since(begin), errors.Join(errs...)
}

type bareLoop struct {
	c      cryptoki
	s      pkcs11.SessionHandle
	d      dialect
	parent pkcs11.ObjectHandle
}

func (l *bareLoop) run(ctx context.Context, n int) error {
	for i := range n {
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
