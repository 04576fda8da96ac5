package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// DestroyMaster destroys the master with the label and the check value, and looks again: it returns nil when the token has no object of the
// label any more. The key is forgotten first: it is lent no more, Lends that run come to their end, within ctx, and with it go its
// issuer-level keys and what Exposure found.
//
// ErrKeyNotFound is that there is none, as a second call finds. After any other error, or when the process ends in the middle, a second
// call goes on. A key with another check value is ErrKCVMismatch and stays; so does what is not a master's (ErrAttributes): an object
// without a right check value is for AbandonMaster, or the token's own tool.
func (t *Token) DestroyMaster(ctx context.Context, label string, v kcv.Value) error {
	spec, err := t.labelled(label)
	if err != nil {
		return fmt.Errorf("destroy master: %w", err)
	}
	return t.destroyMaster(ctx, fmt.Sprintf("destroy master %q", label), spec.name(), func(g *generation, s *session, object pkcs11.ObjectHandle) error {
		got, err := g.checkValueAny(s, object, &spec)
		if err == nil && got != v {
			err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, v)
		}
		return err
	})
}

// AbandonMaster destroys what has the label and the id, whatever its attributes and its check value: a key whose making the catalogue never
// came to know the end of, or one that fails closed. It forgets the key as DestroyMaster does, and looks again. ErrKeyNotFound is that
// there is none. A sealed master of the PROCESS boundary is known by its label alone. The id may not be zero.
func (t *Token) AbandonMaster(ctx context.Context, label string, id ObjectID) error {
	if _, err := t.labelled(label); err != nil {
		return fmt.Errorf("abandon master: %w", err)
	}
	if id == (ObjectID{}) {
		return fmt.Errorf("abandon master %q: id: missing", label)
	}
	return t.destroyMaster(ctx, fmt.Sprintf("abandon master %q", label), name{label, id}, nil)
}

// labelled is what is configured under a label, or no more than the label. A label that no master can have is an error.
func (t *Token) labelled(label string) (KeySpec, error) {
	t.mu.Lock()
	spec, configured := t.specs[label]
	t.mu.Unlock()
	if configured {
		return spec, nil
	}
	spec = KeySpec{Label: label}
	return spec, spec.validateLabel()
}

func (t *Token) destroyMaster(ctx context.Context, op string, of name, check func(*generation, *session, pkcs11.ObjectHandle) error) error {
	leave, err := t.enterOffice(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if check != nil { // before anybody is disturbed
		if err := t.onAdmin(ctx, op, func(g *generation, s *session) error {
			_, err := g.masterObject(s, of, check)
			return err
		}); err != nil && !errors.Is(err, ErrKeyNotFound) {
			return err
		}
	}
	g, err := t.generation()
	if err != nil {
		return err
	}
	e, err := t.forgetKey(ctx, g, of.label)
	if err != nil {
		return fmt.Errorf("%s: lends still run: %w", op, err)
	}
	return g.do(ctx, g.admin, newJob(func(s *session) (result, fault error) {
		if fault = g.destroyObject(s, e, of, check); fault != nil {
			return publicError(op, fault), fault
		}
		return nil, nil
	}))
}

// forgetKey takes a key out of the catalogue and of the generation, and waits for what uses it.
func (t *Token) forgetKey(ctx context.Context, g *generation, label string) (*entry, error) {
	t.mu.Lock()
	delete(t.specs, label)
	delete(t.found, label)
	t.mu.Unlock()
	g.mu.Lock()
	e := g.entries[label]
	if e != nil {
		delete(g.entries, label)
		g.leaving[label] = e
	} else {
		e = g.leaving[label] // of an earlier call
	}
	g.mu.Unlock()
	if e == nil || e.loans == nil {
		return e, nil
	}
	select {
	case <-e.loans.idle():
		return e, nil
	case <-g.down:
		return nil, g.unavailable()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// masterObject finds the one object with the name, of a class that masters have.
func (g *generation) masterObject(s *session, of name, check func(*generation, *session, pkcs11.ObjectHandle) error) (object pkcs11.ObjectHandle, err error) {
	found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, of.label))
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, ErrKeyNotFound
	case len(found) > 1 && (check != nil || of.id == (ObjectID{})):
		return 0, ErrAmbiguous
	}
	matches := 0
	for _, candidate := range found {
		ours, err := s.isNamed(candidate, of)
		if err != nil {
			return 0, err
		}
		if ours {
			object = candidate
			matches++
		}
	}
	switch {
	case matches == 0 && check != nil:
		return 0, fmt.Errorf("%w: the object of the label has not the id %v", ErrAttributes, of.id)
	case matches == 0:
		return 0, fmt.Errorf("%w: no object of the label has the id", ErrKeyNotFound)
	case matches > 1:
		return 0, ErrAmbiguous
	case check == nil:
		return object, nil
	}
	return object, check(g, s, object)
}

// destroyObject destroys the master and its issuer-level keys, and looks again.
func (g *generation) destroyObject(s *session, e *entry, of name, check func(*generation, *session, pkcs11.ObjectHandle) error) error {
	if e != nil {
		if err := g.forget(s, e); err != nil {
			return err
		}
	}
	object, err := g.masterObject(s, of, check)
	if errors.Is(err, ErrKeyNotFound) {
		g.left(of.label)
	}
	if err != nil {
		return err
	}
	if err := s.destroy(object); err != nil {
		return err
	}
	if _, err := g.masterObject(s, of, nil); !errors.Is(err, ErrKeyNotFound) {
		if err == nil {
			err = errStillThere
		}
		return err
	}
	g.token.finish(of.label)
	g.left(of.label)
	return nil
}

// left ends the leaving of a key that is gone.
func (g *generation) left(label string) {
	g.mu.Lock()
	delete(g.leaving, label)
	g.mu.Unlock()
}

// checkValueAny computes the check value of a master's object, configured or not, by what the object itself says it is: a key that
// derives or encrypts, of a type that the profile knows, or a sealed master. Where the token cannot say, it is ErrAttributes.
func (g *generation) checkValueAny(s *session, object pkcs11.ObjectHandle, spec *KeySpec) (v kcv.Value, err error) {
	data, err := s.isData(object)
	if err != nil {
		return v, err
	}
	if data {
		return g.sealedCheckValue(s, object, spec)
	}
	keyType, err := s.number(object, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return v, err
	}
	d, err := g.token.config.Profile.dialectOf(keyType)
	if err != nil {
		return v, err
	}
	may, err := s.rightOf(object)
	if err != nil {
		return v, err
	}
	features := []use{useECB}
	if may == mayDerive {
		features = append(features, useDerive)
	}
	for _, u := range features {
		if err := g.prove(s, feature{d.alg, u}); err != nil {
			return v, err
		}
	}
	return s.checkValue(d, object, may)
}

// rightOf is the one right of a master's object that its check value can be computed by.
func (s *session) rightOf(object pkcs11.ObjectHandle) (rights, error) {
	for _, r := range []struct {
		kind uint
		may  rights
	}{{pkcs11.CKA_ENCRYPT, mayEncrypt}, {pkcs11.CKA_DERIVE, mayDerive}} {
		value, known, err := s.attribute(object, r.kind)
		if err != nil {
			return 0, err
		}
		if known && len(value) == 1 && value[0] != 0 {
			return r.may, nil
		}
	}
	return 0, fmt.Errorf("%w: the key neither encrypts nor derives", ErrAttributes)
}

// sealedCheckValue opens a sealed master, under the spec's algorithm, or where no spec is known under that which it opens with. It tells
// spec the id and the algorithm.
func (g *generation) sealedCheckValue(s *session, object pkcs11.ObjectHandle, spec *KeySpec) (v kcv.Value, err error) {
	if err := g.prove(s, feature{use: useSeal}); err != nil {
		return v, err
	}
	algorithms := []suite.Algorithm{suite.TDES, suite.SM4}
	if spec.Algorithm.Valid() {
		algorithms = []suite.Algorithm{spec.Algorithm}
	}
	value, _, err := s.attribute(object, pkcs11.CKA_VALUE)
	if err != nil {
		return v, err
	}
	if spec.ID, err = sealedID(value); err != nil {
		return v, err
	}
	for _, alg := range algorithms {
		spec.Algorithm = alg
		e := &entry{spec: *spec, sealing: g.token.config.Profile.sealing()}
		if err := e.readSealed(s, object); err != nil {
			return v, err
		}
		key, err := e.sealed.open(s)
		switch {
		case e.sealing.wrongTag(err):
			continue
		case err != nil:
			return v, err
		}
		v, err = checkValueOf(&e.spec, key)
		key.Wipe()
		return v, err
	}
	return v, fmt.Errorf("%w: the sealed master does not open under its label", ErrAttributes)
}
