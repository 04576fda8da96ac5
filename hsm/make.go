package hsm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// GenerateMaster makes a new master key and configures it, so that Key finds it. spec has no check value yet: the one that is returned
// has. wrapped is the key's copy under the backup key, which the catalogue keeps; nil with WithoutBackup.
//
// Where the token can, no byte of the key is ever in the process: a first object of the session, sensitive but extractable, is wrapped
// inside the token under the backup key, and under a random key of the session, of which it is unwrapped in its final form; then it and
// that key are destroyed, all in one job (DESIGN, §2). 3DES: the first object is derived from
// a random key of the session, which dies with it, by random data; so the token can derive each half twice too, and their check
// values say whether the halves are equal, weak or semi-weak: such a key is given up for another. Parity is as the token derives it.
//
// The bytes are in locked memory, for the time of the job, at the PROCESS boundary, on a token without AES key wrap, and for 3DES where
// the token does not derive or keeps two-key DES as L‖R‖L: they are the token's random bytes XOR this process's, with odd parity.
//
// A label that any object has is ErrExists. Half a making leaves nothing: what it made is destroyed at once, or when the token is back. A
// process that is killed in between may leave the key whole: AbandonMaster removes what the catalogue never came to know.
func (t *Token) GenerateMaster(ctx context.Context, spec KeySpec, under Backup) (made KeySpec, wrapped Wrapped, err error) {
	if spec.KCV != (kcv.Value{}) {
		return made, nil, fmt.Errorf("generate master %q: check value %v: a key that is not made yet has none", spec.Label, spec.KCV)
	}
	m := &making{op: "generate master", spec: spec, backup: under}
	m.steps = m.generate
	if err := t.makeMaster(ctx, m); err != nil {
		return made, nil, err
	}
	return m.spec, m.wrapped, nil
}

// ImportMasterWithBackup is ImportMaster, and wraps a copy of the key before it is in its final form. key stays the caller's, who wipes
// it; a copy is in locked memory for the time of the job.
func (t *Token) ImportMasterWithBackup(ctx context.Context, spec KeySpec, key secret.Bytes, under Backup) (Wrapped, error) {
	m := &making{op: "import master", spec: spec, backup: under}
	if err := m.check(); err != nil {
		return nil, err
	}
	if err := checkMaster(&spec, key); err != nil {
		return nil, fmt.Errorf("import master %q: %w", spec.Label, err)
	}
	m.input = secret.Copy(key.Reveal("to keep it while the job runs, which may outlast the caller"))
	m.steps = func(s *session) error { return m.fromBytes(s, m.input) }
	if err := t.makeMaster(ctx, m); err != nil {
		return nil, err
	}
	return m.wrapped, nil
}

// RestoreMaster makes a master of its wrapped copy, in its final form, and configures it: in the token that it was lost of or in
// another. backupKey is the 32 bytes of the backup key; they stay the caller's, who wipes them, and are in the token as an object of the
// session, for the time of the job. A copy of another key, or made under another backup key, is ErrWrapped, and a key whose check
// value is not the spec's ErrKCVMismatch; neither leaves anything. Where the master's bytes are is as GenerateMaster says.
func (t *Token) RestoreMaster(ctx context.Context, spec KeySpec, backupKey secret.Bytes, wrapped Wrapped) error {
	m := &making{op: "restore master", spec: spec, backup: WithoutBackup()} // makes no other copy
	if err := m.check(); err != nil {
		return err
	}
	ciphertext, err := wrapped.open(&spec, backupKey)
	if err != nil {
		return fmt.Errorf("restore master %q: %w", spec.Label, err)
	}
	ciphertext = append([]byte(nil), ciphertext...) // the job may outlast the caller
	m.input = secret.Copy(backupKey.Reveal("to keep it while the job runs, which may outlast the caller"))
	m.steps = func(s *session) error { return m.restore(s, ciphertext) }
	return t.makeMaster(ctx, m)
}

// inside reports whether the key can be made without a byte of it in the process.
func (m *making) inside() bool {
	p := m.token.config.Profile
	if m.spec.Boundary == keyderive.BoundaryProcess || p.NoKeyWrap {
		return false
	}
	return m.spec.Algorithm == suite.SM4 || !p.NoDerivation && !p.ThreeKeyDES
}

func (m *making) generate(s *session) error {
	if !m.inside() {
		key, err := m.randomKey(s)
		if err != nil {
			return err
		}
		defer key.Wipe()
		if m.spec.KCV, err = checkValueOf(&m.spec, key); err != nil {
			return err
		}
		return m.fromBytes(s, key)
	}
	return m.generateInside(s)
}

// generateInside has the key take its final form through a wrapping key of the session, which dies at once.
func (m *making) generateInside(s *session) (err error) {
	if err := m.generation.prove(s, feature{use: useWrap}); err != nil {
		return err
	}
	var passing backupKey
	passing.object, err = s.generate(pkcs11.CKM_AES_KEY_GEN, BackupKeySize, pkcs11.CKK_AES, mayWrap|mayUnwrap, "")
	if err != nil {
		return err
	}
	defer s.destroyAfter(passing.object, &err)
	ciphertext, copied, err := m.wrapFirst(s, passing)
	if err != nil {
		return err
	}
	if err := m.unwrapFinal(s, passing, ciphertext); err != nil {
		return err
	}
	m.keep(copied)
	return nil
}

// wrapFirst makes the first object, wraps it under the passing key, and for the copy under the backup key, and destroys it.
func (m *making) wrapFirst(s *session, passing backupKey) (ciphertext, copied []byte, err error) {
	var first pkcs11.ObjectHandle
	if m.spec.Algorithm == suite.TDES {
		first, err = m.deriveFirst(s)
	} else {
		first, err = s.generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, suite.KeySize, pkcs11.CKK_GENERIC_SECRET, once, "")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make the first object: %w", err)
	}
	defer s.destroyAfter(first, &err)
	if ciphertext, err = passing.wrapObject(s, first); err != nil || m.backup.none {
		return ciphertext, nil, err
	}
	copied, err = m.key.wrapObject(s, first)
	return ciphertext, copied, err
}

// maxTries bounds how often a key with weak halves is given up for another: by chance it is never once.
const maxTries = 8

// deriveFirst derives a two-key DES key of a random key and random data, and looks at its halves.
func (m *making) deriveFirst(s *session) (first pkcs11.ObjectHandle, err error) {
	if err := m.generation.prove(s, feature{suite.TDES, useDerive}); err != nil {
		return 0, err
	}
	base, err := s.generate(pkcs11.CKM_DES3_KEY_GEN, 0, pkcs11.CKK_DES3, mayDerive, "")
	if err != nil {
		return 0, err
	}
	defer s.destroyAfter(base, &err)
	d := m.entry.dialect
	for range maxTries {
		var data [suite.KeySize]byte
		rand.Read(data[:])
		weak, err := s.weakDerived(d, base, data)
		if err != nil {
			return 0, err
		}
		if !weak {
			return s.derive(d.deriveECB, base, data[:], d.keyType, 0, once|m.entry.right)
		}
	}
	return 0, errWeak
}

// errWeak says that a token, or its generator, gives no key that is one.
var errWeak = errors.New("the halves of the key are equal or weak")

// weakDerived reports whether the key that data derives has equal, weak or semi-weak halves, by the check values of L‖L and R‖R: single
// DES keys. Equal check values may be of other halves, 1 in 2^24.
func (s *session) weakDerived(d dialect, base pkcs11.ObjectHandle, data [suite.KeySize]byte) (weak bool, err error) {
	var values [2]kcv.Value
	for i := range values {
		half := data[8*i:][:8]
		object, err := s.derive(d.deriveECB, base, append(half[:8:8], half...), d.keyType, 0, mayDerive)
		if err != nil {
			return false, err
		}
		values[i], err = s.checkValue(d, object, mayDerive)
		s.destroyAfter(object, &err)
		if err != nil {
			return false, err
		}
	}
	known := weakCheckValues()
	return values[0] == values[1] || known[values[0]] || known[values[1]], nil
}

// unwrapFinal makes the master of its ciphertext, inside the token.
func (m *making) unwrapFinal(s *session, by backupKey, ciphertext []byte) error {
	e := m.entry
	object, err := by.unwrapObject(s, ciphertext, e.dialect.keyType, onToken|e.right, m.spec.name())
	if err != nil {
		return m.notUnwrapped(err)
	}
	if m.spec.KCV == (kcv.Value{}) {
		if m.spec.KCV, err = s.checkValue(e.dialect, object, e.right); err != nil {
			return err
		}
	}
	return nil
}

// keep makes the wrapped copy, now that all it is bound to is known.
func (m *making) keep(ciphertext []byte) {
	if !m.backup.none {
		m.wrapped = newWrapped(&m.spec, m.backup, ciphertext)
	}
}

// fromBytes makes the master of bytes that are in locked memory, after their copy.
func (m *making) fromBytes(s *session, key secret.Bytes) (err error) {
	if !m.backup.none {
		ciphertext, err := m.key.wrap(s, key)
		if err != nil {
			return fmt.Errorf("wrap the copy: %w", err)
		}
		m.keep(ciphertext)
	}
	if m.spec.Boundary == keyderive.BoundaryProcess {
		m.entry.spec = m.spec
		return m.entry.store(s, key)
	}
	value := m.entry.dialect.value(secret.Copy(key.Reveal("to write it as the token's key type"))) // wiped below
	defer value.Wipe()
	_, err = s.create(m.entry.dialect.keyType, onToken|m.entry.right, m.spec.name(), value)
	return err
}

func (m *making) restore(s *session, ciphertext []byte) (err error) {
	if err := m.generation.prove(s, feature{use: useWrap}); err != nil {
		return err
	}
	by := backupKey{byECB: m.token.config.Profile.NoKeyWrap}
	by.object, err = s.create(pkcs11.CKK_AES, m.token.config.Profile.unwrapRight(), name{}, m.input)
	if err != nil {
		return err
	}
	defer s.destroyAfter(by.object, &err)
	if m.inside() {
		return m.unwrapFinal(s, by, ciphertext)
	}
	key, err := by.unwrap(s, ciphertext)
	if err != nil {
		return m.notUnwrapped(err)
	}
	defer key.Wipe()
	if err := checkMaster(&m.spec, key); err != nil {
		return err
	}
	return m.fromBytes(s, key)
}

// notUnwrapped says of a copy that it is not whole.
func (m *making) notUnwrapped(err error) error {
	if errors.Is(err, errUnwrap) {
		err = fmt.Errorf("%w: %w", ErrWrapped, err)
	}
	return fmt.Errorf("unwrap the master: %w", err)
}

// randomKey makes a key's bytes in locked memory: whoever foresees one of the two generators knows nothing of it. The caller wipes it.
func (m *making) randomKey(s *session) (secret.Bytes, error) {
	ours := secret.New(suite.KeySize)
	defer ours.Wipe()
	for range maxTries {
		key := secret.New(suite.KeySize)
		if err := s.random(key); err != nil {
			key.Wipe()
			return secret.Bytes{}, err
		}
		b, other := key.Reveal("to mix it with this process's random bytes"), ours.Reveal("the same")
		rand.Read(other)
		subtle.XORBytes(b, b, other)
		if m.spec.Algorithm != suite.TDES {
			return key, nil
		}
		deskey.SetOddParity(b)
		if checkHalves(b) == nil {
			return key, nil
		}
		key.Wipe()
	}
	return secret.Bytes{}, errWeak
}
