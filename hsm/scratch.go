package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Scratch is a key of a vector's replay: objects of the session, on the very path that a live key takes. It implements
// keyderive.Key until Close, or until its generation ends.
type Scratch struct {
	generation *generation
	entry      *entry
	flat       *parent // what is lent with no levels; entry.master is derived from
	objects    []pkcs11.ObjectHandle
}

var _ keyderive.Key = (*Scratch)(nil)

// Scratch puts a master of 16 bytes into the token for a replay. spec gives its kind, algorithm and boundary; a replay may lend
// it at any number of levels. Its check value is computed both in memory and in the token, and compared. key stays the caller's,
// who wipes it.
func (t *Token) Scratch(ctx context.Context, spec KeySpec, key secret.Bytes) (*Scratch, error) {
	return t.scratch(ctx, spec, key, func(g *generation, s *session, sc *Scratch, key secret.Bytes) error {
		var err error
		if sc.entry.spec.KCV, err = checkValueOf(&sc.entry.spec, key); err != nil {
			return err
		}
		if spec.Boundary == keyderive.BoundaryProcess {
			return sc.seal(s, key)
		}
		return sc.fill(g, s, key)
	})
}

// fill makes the master's object; at the CARD boundary there are two, for each has the one right that a live key would have, with
// issuer levels and without.
func (sc *Scratch) fill(g *generation, s *session, key secret.Bytes) error {
	for _, levels := range []int{0, 1} {
		sc.entry.spec.IssuerLevels = levels
		may := sc.entry.spec.masterRight(g.token.config.Profile)
		sc.entry.right = may
		object, err := sc.create(s, key, may)
		if err != nil {
			return err
		}
		sc.entry.master = &parent{key: object}
		if err := s.compareCheckValue(sc.entry); err != nil {
			return err
		}
		if levels == 0 {
			sc.flat = sc.entry.master
		}
		if may == mayDerive || !g.token.config.Profile.derives(sc.entry.spec.Algorithm) {
			break // one object does for all levels
		}
	}
	return nil
}

// scratch runs fill on the anchor with a copy of key that outlasts a caller who leaves.
func (t *Token) scratch(ctx context.Context, spec KeySpec, key secret.Bytes,
	fill func(*generation, *session, *Scratch, secret.Bytes) error,
) (*Scratch, error) {
	if err := spec.validateUse(); err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	if key.Len() != suite.KeySize {
		return nil, fmt.Errorf("scratch: key: %d bytes, expected %d", key.Len(), suite.KeySize)
	}
	g, err := t.generation()
	if err != nil {
		return nil, err
	}
	private := secret.Copy(key.Reveal("to keep it while the job runs, which may outlast the caller"))
	spec.IssuerLevels = 1 // so that every mechanism that a replay may need is proven
	sc := &Scratch{generation: g, entry: &entry{spec: spec}}
	sc.entry.loans = &loans{last: sc.destroyLate}
	j := newJob(func(s *session) (result, fault error) {
		fault = g.prepare(s, sc.entry)
		if fault == nil {
			fault = fill(g, s, sc, private)
		}
		if fault != nil {
			fault = errors.Join(fault, sc.destroy(s))
			return publicError("scratch", fault), fault
		}
		return nil, nil
	})
	j.released = func() { private.Wipe() }
	j.discard = func() { go sc.Close() } // its caller left before it was made
	if err := g.do(ctx, g.admin, j); err != nil {
		return nil, err
	}
	return sc, nil
}

// create makes an object of the session, sensitive as a master's, and owns it.
func (sc *Scratch) create(s *session, key secret.Bytes, may rights) (pkcs11.ObjectHandle, error) {
	value := sc.entry.dialect.value(secret.Copy(key.Reveal("to write it as the token's key type"))) // wiped below
	defer value.Wipe()
	object, err := s.create(sc.entry.dialect.keyType, may, name{}, value)
	if err == nil {
		sc.objects = append(sc.objects, object)
	}
	return object, err
}

// seal does for a replay what the sealing key does at rest, with a sealing key of the session.
func (sc *Scratch) seal(s *session, key secret.Bytes) error {
	kek, err := s.generate(pkcs11.CKM_AES_KEY_GEN, kekSize, pkcs11.CKK_AES, sc.entry.sealing.rights(), "")
	if err != nil {
		return err
	}
	sc.objects = append(sc.objects, kek)
	if sc.entry.sealed, err = seal(s, sc.entry.sealing, kek, &sc.entry.spec, key); err != nil {
		return err
	}
	return sc.entry.checkSealed(s)
}

// Algorithm is the suite of the key.
func (sc *Scratch) Algorithm() suite.Algorithm { return sc.entry.spec.Algorithm }

// Spec is what the key was made as, with its check value.
func (sc *Scratch) Spec() KeySpec { return sc.entry.spec }

// Lend implements keyderive.Key, as Key.Lend does.
func (sc *Scratch) Lend(ctx context.Context, path keyderive.Path, use func(keyderive.Unit) error) error {
	if err := sc.begin(); err != nil {
		return err
	}
	defer sc.entry.drop()
	if path.Len() == 0 && sc.entry.sealed == nil {
		return sc.generation.lendFrom(ctx, sc.entry, sc.flat, use)
	}
	return sc.generation.lendAt(ctx, sc.entry, path, use)
}

func (sc *Scratch) begin() error { return sc.entry.loans.begin() }

// Close destroys the key in the token. No Lend may be running; of one that was cancelled the token may still be at work, with the
// key's objects, and then they are destroyed when that ends. A key whose generation has ended is gone already.
func (sc *Scratch) Close() error {
	if !sc.entry.loans.close() {
		return nil
	}
	return sc.destroyNow()
}

func (sc *Scratch) destroyNow() error {
	err := sc.generation.do(context.Background(), sc.generation.admin, newJob(simple(sc.destroy)))
	if errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// destroyLate is Close for a key that was in use then: nobody waits for it.
func (sc *Scratch) destroyLate() {
	if err := sc.destroyNow(); err != nil {
		sc.generation.token.log.Warn("key of a replay not destroyed before its generation ends", "error", err)
	}
}

func (sc *Scratch) destroy(s *session) error {
	err := sc.generation.forget(s, sc.entry)
	for _, object := range sc.objects {
		err = errors.Join(err, s.destroy(object))
	}
	sc.objects = nil
	return err
}
