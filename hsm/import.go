package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// ImportMaster makes a master key of 16 bytes in the token and configures it, so that Key finds it. A label that any object has
// is ErrExists; a key whose check value is not the spec's is ErrKCVMismatch, before and after it is in the token. Single DES, also in
// the guise of two equal halves, is refused (DESIGN, §2), and so are weak halves. key stays the caller's, who wipes it. No copy is made for
// backup: ImportMasterWithBackup is for production.
func (t *Token) ImportMaster(ctx context.Context, spec KeySpec, key secret.Bytes) error {
	_, err := t.ImportMasterWithBackup(ctx, spec, key, WithoutBackup())
	return err
}

// Adopt configures a key that is in the token already, made by a ceremony or through another process, with all the checks of
// Open. A label that is configured with another spec is ErrExists: what callers were told of a key does not change under them.
func (t *Token) Adopt(ctx context.Context, spec KeySpec) error {
	if err := spec.validate(); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	if err := t.mayConfigure(spec); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	leave, err := t.enterOffice(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return t.adoptFound(ctx, spec)
}

// adoptFound is Adopt in the office.
func (t *Token) adoptFound(ctx context.Context, spec KeySpec) error {
	g, err := t.generation()
	if err != nil {
		return err
	}
	var found *entry
	err = g.do(ctx, g.admin, newJob(simple(func(s *session) (err error) {
		if err := t.settle(s, spec.Label); err != nil {
			return err
		}
		found, err = g.resolve(s, spec)
		return err
	})))
	if err == nil {
		err = found.failure()
	}
	if err != nil {
		return err
	}
	return t.adopt(ctx, g, found)
}

// adopt puts a checked key into the catalogue and into the generation that checked it. One that began meanwhile checks it anew;
// one that is about to begin finds it in the catalogue.
func (t *Token) adopt(ctx context.Context, g *generation, e *entry) error {
	t.mu.Lock()
	if had, configured := t.specs[e.spec.Label]; configured && had != e.spec {
		t.mu.Unlock()
		return fmt.Errorf("adopt: %w", otherSpec(e.spec.Label)) // configured beside this one
	}
	t.specs[e.spec.Label] = e.spec
	current := t.current.Load()
	t.mu.Unlock()
	g.put(e)
	if current != nil && current != g {
		return t.adoptFound(ctx, e.spec)
	}
	return nil
}

// mayConfigure refuses a label that is configured as another key.
func (t *Token) mayConfigure(spec KeySpec) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if had, configured := t.specs[spec.Label]; configured && had != spec {
		return otherSpec(spec.Label)
	}
	return nil
}

func otherSpec(label string) error {
	return fmt.Errorf("key %q: %w: it is configured with another spec", label, ErrExists)
}

func checkMaster(spec *KeySpec, key secret.Bytes) error {
	if key.Len() != suite.KeySize {
		return fmt.Errorf("%d bytes, expected %d", key.Len(), suite.KeySize)
	}
	if spec.Algorithm == suite.TDES {
		if err := checkHalves(key.Reveal("to refuse single DES and weak halves")); err != nil {
			return err
		}
	}
	got, err := checkValueOf(spec, key)
	if err != nil {
		return err
	}
	if got != spec.KCV {
		return fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, spec.KCV)
	}
	return nil
}

// store seals the master and stores it as a data object of the token.
func (e *entry) store(s *session, key secret.Bytes) error {
	kek, err := s.ensureKEK(e.sealing)
	if err != nil {
		return err
	}
	v, err := seal(s, e.sealing, kek, &e.spec, key)
	if err != nil {
		return err
	}
	_, id := e.spec.name().bytes()
	value := append(v.value, id...)
	return s.call(func() error {
		_, err := s.module.ctx.CreateObject(s.handle, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, e.spec.Label),
			pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, application),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
		})
		return err
	})
}

// ensureKEK finds the sealing key, or makes it inside the token. When two processes make one each, both are found from then on,
// and every use of either fails as ambiguous: an operator destroys one.
func (s *session) ensureKEK(by sealing) (pkcs11.ObjectHandle, error) {
	kek, err := findKEK(s, by)
	if !errors.Is(err, ErrKeyNotFound) {
		return kek, err
	}
	if _, err := s.generate(pkcs11.CKM_AES_KEY_GEN, kekSize, pkcs11.CKK_AES, onToken|by.rights(), kekLabel); err != nil {
		return 0, fmt.Errorf("make sealing key: %w", err)
	}
	return findKEK(s, by)
}
