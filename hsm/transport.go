package hsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// transportPrefix is the beginning of the labels of transport keys.
const transportPrefix = reserved + "transport/"

// TransportSpec is what the catalogue knows of a transport key: the key block protection key that two parties share.
type TransportSpec struct {
	Name   string // small letters, digits and hyphens; the object's label is "pursekeeper/transport/NAME"
	Cipher keyblock.Cipher
	KCV    kcv.Value // keyblock.CheckValue: always compared
}

func (s TransportSpec) label() string { return transportPrefix + s.Name }

func (s TransportSpec) validate() error {
	if !signingName.MatchString(s.Name) {
		return fmt.Errorf("transport key: name %q: expected small letters, digits and hyphens, at most 64", s.Name)
	}
	if !s.Cipher.Valid() {
		return fmt.Errorf("transport key %q: %v", s.Name, s.Cipher)
	}
	return nil
}

// TransportKey is a key block protection key of the token: sensitive, not extractable, and for CMAC alone; one of 3DES may encrypt too, for
// its check value. It is the keyblock.Protector of key blocks that the token has a part in, and may be used by several goroutines.
//
// What the token gives away is CMACs, and of them both keys of every block under the transport key are made. That is the standard's
// construction: no mechanism of PKCS#11 v2.40 derives them inside, and none opens such a block (ImportKeyBlock). Whoever is logged in to
// the token can therefore open every block that was ever made under a transport key in it: it is destroyed when the keys have moved.
type TransportKey struct {
	token *Token
	spec  TransportSpec
}

var _ keyblock.Protector = (*TransportKey)(nil)

// ImportTransportKey makes the transport key in the token, where its components came together. A label that any object has is ErrExists,
// another check value ErrKCVMismatch, before and after it is in the token; a 3DES key that repeats itself is keyblock.ErrProtector. key stays the
// caller's, who wipes it.
func (t *Token) ImportTransportKey(ctx context.Context, spec TransportSpec, key secret.Bytes) (*TransportKey, error) {
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("import %w", err)
	}
	got, err := keyblock.CheckValue(spec.Cipher, key)
	if err == nil && got != spec.KCV {
		err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, spec.KCV)
	}
	if err != nil {
		return nil, fmt.Errorf("import transport key %q: %w", spec.Name, err)
	}
	private := secret.Copy(key.Reveal("to keep it while the job runs, which may outlast the caller"))
	err = t.withAnchor(ctx, "import transport key "+spec.Name, func(s *session) error { return t.makeTransport(s, spec, private) },
		func() { private.Wipe() })
	if err != nil {
		return nil, err
	}
	return &TransportKey{t, spec}, nil
}

// TransportKey finds a transport key: exactly one, of the cipher, as protected as it has to be, with the check value. Otherwise it is
// ErrKeyNotFound, ErrAmbiguous, ErrAttributes or ErrKCVMismatch.
func (t *Token) TransportKey(ctx context.Context, spec TransportSpec) (*TransportKey, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	err := t.withAnchor(ctx, "transport key "+spec.Name, func(s *session) error {
		_, _, err := t.findTransport(s, spec)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return &TransportKey{t, spec}, nil
}

// DestroyTransportKey destroys the transport key, when the keys have moved, and looks again: an error says that the object may be there still.
// One that is less protected than it has to be is destroyed too; one with another check value is not the key that was meant.
func (t *Token) DestroyTransportKey(ctx context.Context, spec TransportSpec) error {
	if err := spec.validate(); err != nil {
		return fmt.Errorf("destroy %w", err)
	}
	return t.withAnchor(ctx, "destroy transport key "+spec.Name, func(s *session) error {
		object, err := s.find(pkcs11.CKO_SECRET_KEY, spec.label())
		if err != nil {
			return err
		}
		way, err := s.cmac(t.config.Profile, spec.Cipher)
		if err != nil {
			return err
		}
		if err := way.compareCheckValue(s, object, spec); err != nil {
			return err
		}
		if err := s.destroy(object); err != nil {
			return err
		}
		left, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, spec.label()))
		if err == nil && len(left) > 0 {
			err = ErrExists
		}
		return err
	}, nil)
}

// Cipher implements keyblock.Protector.
func (k *TransportKey) Cipher() keyblock.Cipher { return k.spec.Cipher }

// CMAC implements keyblock.Protector. The key is found and checked anew, for its handle is of this generation alone, and so is the
// mechanism: a block takes four to six CMACs, and keys are moved a few times a year.
func (k *TransportKey) CMAC(ctx context.Context, message []byte) (secret.Bytes, error) {
	message = bytes.Clone(message) // the job may outlast the caller
	var mac secret.Bytes           // read when the job has ended well alone
	g, err := k.token.generation()
	if err != nil {
		return secret.Bytes{}, err
	}
	op := "cmac by transport key " + k.spec.Name
	j := newJob(func(s *session) (result, fault error) {
		way, object, fault := k.token.findTransport(s, k.spec)
		if fault == nil {
			mac, fault = way.sum(s, object, message)
		}
		return publicError(op, fault), fault
	})
	j.discard = func() { mac.Wipe() } // the caller left: nobody else has seen it
	if err := g.do(ctx, g.admin, j); err != nil {
		return secret.Bytes{}, err
	}
	return mac, nil
}

// withAnchor runs f where keys are made. released is called once, when f runs no more.
func (t *Token) withAnchor(ctx context.Context, op string, f func(*session) error, released func()) error {
	g, err := t.generation()
	if err != nil {
		if released != nil {
			released()
		}
		return err
	}
	j := newJob(func(s *session) (result, fault error) {
		fault = f(s)
		return publicError(op, fault), fault
	})
	j.released = released
	return g.do(ctx, g.admin, j)
}

// makeTransport makes the object, finds it again as every use will, and destroys it when it is not right.
func (t *Token) makeTransport(s *session, spec TransportSpec, key secret.Bytes) error {
	found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, spec.label()))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return ErrExists
	}
	way, err := s.cmac(t.config.Profile, spec.Cipher)
	if err != nil {
		return err
	}
	object, err := way.create(s, onToken|way.rights(), spec.label(), key)
	if err != nil {
		return err
	}
	if _, _, err := t.findTransport(s, spec); err != nil {
		return errors.Join(err, s.destroy(object))
	}
	return nil
}

// findTransport finds the key's object and holds it against its spec.
func (t *Token) findTransport(s *session, spec TransportSpec) (way cmacWay, object pkcs11.ObjectHandle, err error) {
	if object, err = s.find(pkcs11.CKO_SECRET_KEY, spec.label()); err != nil {
		return way, 0, err
	}
	if way, err = s.cmac(t.config.Profile, spec.Cipher); err != nil {
		return way, 0, err
	}
	if err = s.checkAttributes(object, way.keyType, way.rights()); err != nil {
		return way, 0, err
	}
	if err = way.checkLength(s, object); err != nil {
		return way, 0, err
	}
	return way, object, way.compareCheckValue(s, object, spec)
}

func (w cmacWay) compareCheckValue(s *session, object pkcs11.ObjectHandle, spec TransportSpec) error {
	got, err := w.checkValue(s, object)
	if err == nil && got != spec.KCV {
		err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, spec.KCV)
	}
	return err
}

// checkLength holds the length of an AES key against its cipher, where the token knows it: openCryptoki does not, of a key whose bytes it was
// given. Its check value tells the same, and that of a DES key.
func (w cmacWay) checkLength(s *session, object pkcs11.ObjectHandle) error {
	if w.keyType != pkcs11.CKK_AES {
		return nil
	}
	length, known, err := s.attribute(object, pkcs11.CKA_VALUE_LEN)
	if err == nil && known && (len(length) != 8 || binary.NativeEndian.Uint64(length) != uint64(w.cipher.KeySize())) {
		err = fmt.Errorf("%w: CKA_VALUE_LEN is not %d", ErrAttributes, w.cipher.KeySize())
	}
	return err
}

// checkValue computes keyblock.CheckValue in the token.
func (w cmacWay) checkValue(s *session, object pkcs11.ObjectHandle) (v kcv.Value, err error) {
	block := zeros[:w.blockSize()]
	if w.cipher.Version() == keyblock.VersionB {
		out := make([]byte, len(block))
		if err := s.encrypt(w.ecb, object, nil, block, out); err != nil {
			return v, fmt.Errorf("check value: %w", err)
		}
		return kcv.Value(out[:kcv.Size]), nil
	}
	mac, err := w.sum(s, object, block)
	if err != nil {
		return v, fmt.Errorf("check value: %w", err)
	}
	defer mac.Wipe()
	return kcv.Value(mac.Reveal("its first bytes are public")[:kcv.Size]), nil
}
