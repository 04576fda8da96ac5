package hsm

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// BackupKeySize is the length of a backup key: AES-256.
const BackupKeySize = 32

const backupPrefix = reserved + "backup/"

// Backup says what becomes of a copy of a master that is made: it is wrapped under a backup key of the token, or there is none. The
// zero value is neither, and refused with ErrNoBackup.
type Backup struct {
	name string
	kcv  kcv.Value
	none bool
}

// BackupUnder wraps the copy under the token's backup key of that name, whose check value (BackupCheckValue) must be this one.
func BackupUnder(name string, v kcv.Value) Backup { return Backup{name: name, kcv: v} }

// WithoutBackup makes no copy: the key is lost with its token. It is for development and tests, where the key is a published one or
// worth nothing.
func WithoutBackup() Backup { return Backup{none: true} }

func (b Backup) validate() error {
	switch {
	case b.none:
		return nil
	case b == Backup{}:
		return ErrNoBackup
	case !signingName.MatchString(b.name):
		return fmt.Errorf("backup key: name %q: expected small letters, digits and hyphens, at most 64", b.name)
	}
	return nil
}

// BackupCheckValue is the check value of a backup key: the first three bytes of the AES key wrap (RFC 3394) of 16 zero bytes under it. It is
// not E(0), because a key in the token that only wraps and unwraps can compute no E(0). key has 32 bytes and stays the caller's, who
// wipes it; its expanded schedule is in ordinary Go memory until it is collected.
func BackupCheckValue(key secret.Bytes) (kcv.Value, error) {
	if key.Len() != BackupKeySize {
		return kcv.Value{}, fmt.Errorf("backup key: %d bytes, expected %d", key.Len(), BackupKeySize)
	}
	block, err := aes.NewCipher(key.Reveal("to compute its check value"))
	if err != nil {
		return kcv.Value{}, err
	}
	return wrapOfZeros(func(in, out []byte) error { block.Encrypt(out, in); return nil })
}

func wrapOfZeros(encrypt aesBlocks) (v kcv.Value, err error) {
	zero := secret.New(suite.KeySize)
	defer zero.Wipe()
	wrapped, err := keyWrap(encrypt, zero)
	if err != nil {
		return v, err
	}
	return kcv.Value(wrapped[:kcv.Size]), nil
}

// ImportBackupKey puts a backup key of 32 bytes into the token, for GenerateMaster and ImportMasterWithBackup, and returns its check
// value as the token computes it. The object has the label "pursekeeper/backup/NAME", is not extractable, and may do nothing but wrap; on a
// token without AES key wrap (Profile.NoKeyWrap), encrypt. It may not unwrap: the holder of the PIN could have every copy of the
// catalogue unwrapped as a key that he can read. So RestoreMaster takes the key itself, from those who keep it. A name that is taken is
// ErrExists. key stays the caller's, who wipes it; the copy in locked memory that the token is given lives as long as the call.
func (t *Token) ImportBackupKey(ctx context.Context, name string, key secret.Bytes) (v kcv.Value, err error) {
	if !signingName.MatchString(name) {
		return v, fmt.Errorf("import backup key: name %q: expected small letters, digits and hyphens, at most 64", name)
	}
	want, err := BackupCheckValue(key)
	if err != nil {
		return v, fmt.Errorf("import backup key %q: %w", name, err)
	}
	m := &making{op: "import backup key", spec: KeySpec{Label: backupPrefix + name}, backup: BackupUnder(name, want)}
	m.input = secret.Copy(key.Reveal("to keep it while the job runs, which may outlast the caller"))
	m.steps = func(s *session) error {
		_, err := s.create(pkcs11.CKK_AES, onToken|t.config.Profile.wrapRight(), m.spec.name(), m.input)
		if err == nil {
			_, err = m.generation.findBackup(s, m.backup)
		}
		return err
	}
	leave, err := t.enterOffice(ctx)
	if err != nil {
		m.input.Wipe()
		return v, err
	}
	defer leave()
	if err := t.make(ctx, m); err != nil {
		return v, err
	}
	return want, nil
}

// BackupKey finds the backup key of a name, with all the checks that a use of it makes, and returns its check value: ErrKeyNotFound,
// ErrAmbiguous or ErrAttributes otherwise.
func (t *Token) BackupKey(ctx context.Context, name string) (v kcv.Value, err error) {
	var found kcv.Value // read when the job has ended alone
	err = t.onAdmin(ctx, fmt.Sprintf("backup key %q", name), func(g *generation, s *session) error {
		key, err := g.backupObject(s, name)
		if err == nil {
			found, err = key.checkValue(s)
		}
		return err
	})
	if err != nil {
		return v, err
	}
	return found, nil
}

// DestroyBackupKey destroys the backup key of a name and a check value, and looks again. The copies that were made under it are worth
// nothing without those who keep the key. ErrKeyNotFound is that there is none, as a second call finds; a key with another check value is
// ErrKCVMismatch and stays.
func (t *Token) DestroyBackupKey(ctx context.Context, name string, v kcv.Value) error {
	leave, err := t.enterOffice(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return t.onAdmin(ctx, fmt.Sprintf("destroy backup key %q", name), func(g *generation, s *session) error {
		key, err := g.findBackup(s, BackupUnder(name, v))
		if err != nil {
			return err
		}
		if err := s.destroy(key.object); err != nil {
			return err
		}
		_, err = s.find(pkcs11.CKO_SECRET_KEY, backupPrefix+name)
		switch {
		case errors.Is(err, ErrKeyNotFound):
			return nil
		case err == nil:
			return errStillThere
		}
		return err
	})
}

// wrapRight and unwrapRight are what a wrapping key needs on this token; a backup key has the first alone.
func (p Profile) wrapRight() rights {
	if p.NoKeyWrap {
		return mayEncrypt
	}
	return mayWrap
}

func (p Profile) unwrapRight() rights {
	if p.NoKeyWrap {
		return mayDecrypt
	}
	return mayUnwrap
}

// backupKey is a wrapping key's object: a backup key of the token, or one of the session.
type backupKey struct {
	object pkcs11.ObjectHandle
	byECB  bool // composed of ECB, on a token without key wrap
}

// findBackup finds the backup key that under names and compares its check value.
func (g *generation) findBackup(s *session, under Backup) (backupKey, error) {
	key, err := g.backupObject(s, under.name)
	if err != nil {
		return key, err
	}
	got, err := key.checkValue(s)
	if err == nil && got != under.kcv {
		err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, under.kcv)
	}
	if err != nil {
		return key, fmt.Errorf("backup key %q: %w", under.name, err)
	}
	return key, nil
}

func (g *generation) backupObject(s *session, name string) (key backupKey, err error) {
	profile := g.token.config.Profile
	if err := g.prove(s, feature{use: useWrap}); err != nil {
		return key, err
	}
	if key.object, err = s.find(pkcs11.CKO_SECRET_KEY, backupPrefix+name); err != nil {
		return key, err
	}
	key.byECB = profile.NoKeyWrap
	err = s.checkAttributes(key.object, pkcs11.CKK_AES, profile.wrapRight())
	if err == nil {
		err = s.checkLength(key.object, BackupKeySize, true)
	}
	if err != nil {
		return key, fmt.Errorf("backup key %q: %w", name, err)
	}
	return key, nil
}

// checkLength holds CKA_VALUE_LEN against the length that a key must have. openCryptoki does not know it of a key that came from
// outside, or says 0: untold lets that pass, for a key whose check value is compared.
func (s *session) checkLength(key pkcs11.ObjectHandle, want uint64, untold bool) error {
	length, known, err := s.attribute(key, pkcs11.CKA_VALUE_LEN)
	if err == nil && untold && (!known || len(length) == 0 || len(length) == 8 && binary.NativeEndian.Uint64(length) == 0) {
		return nil
	}
	if err == nil && (!known || len(length) != 8 || binary.NativeEndian.Uint64(length) != want) {
		err = fmt.Errorf("%w: CKA_VALUE_LEN is not %d", ErrAttributes, want)
	}
	return err
}

// checkValue is BackupCheckValue in the token.
func (k backupKey) checkValue(s *session) (v kcv.Value, err error) {
	zero := secret.New(suite.KeySize)
	defer zero.Wipe()
	wrapped, err := k.wrap(s, zero)
	if err != nil {
		return v, fmt.Errorf("check value: %w", err)
	}
	return kcv.Value(wrapped[:kcv.Size]), nil
}

// wrap wraps a master that is in locked memory. The token is given it as an object of the session, which dies before wrap returns.
func (k backupKey) wrap(s *session, key secret.Bytes) (wrapped []byte, err error) {
	if k.byECB {
		return keyWrap(func(in, out []byte) error { return s.encrypt(pkcs11.CKM_AES_ECB, k.object, nil, in, out) }, key)
	}
	object, err := s.create(pkcs11.CKK_GENERIC_SECRET, once, name{}, key)
	if err != nil {
		return nil, err
	}
	defer s.destroyAfter(object, &err)
	return k.wrapObject(s, object)
}

// wrapObject wraps a key of 16 bytes that is in the token and may leave it.
func (k backupKey) wrapObject(s *session, object pkcs11.ObjectHandle) ([]byte, error) {
	out := make([]byte, wrappedSize) // ciphertext
	return out, s.wrap(pkcs11.CKM_AES_KEY_WRAP, k.object, object, out)
}

// unwrap opens a wrapped master into locked memory; the caller wipes it. Where the token unwraps, it makes a readable object of the session,
// which dies before unwrap returns.
func (k backupKey) unwrap(s *session, wrapped []byte) (key secret.Bytes, err error) {
	if k.byECB {
		return keyUnwrap(func(in, out []byte) error { return s.decrypt(pkcs11.CKM_AES_ECB, k.object, in, out) }, wrapped)
	}
	object, err := k.unwrapObject(s, wrapped, pkcs11.CKK_GENERIC_SECRET, extractable|private, name{})
	if err != nil {
		return key, err
	}
	defer func() {
		if err != nil {
			key.Wipe()
		}
	}()
	defer s.destroyAfter(object, &err)
	key = secret.New(suite.KeySize)
	return key, s.value(object, key.Reveal("to receive the master from the token"))
}

// unwrapObject has the token unwrap a master into an object that no byte of it leaves. What does not belong to its integrity check is
// errUnwrap: some tokens, SoftHSM too, call that an error of the device.
func (k backupKey) unwrapObject(s *session, wrapped []byte, keyType uint, may rights, of name) (pkcs11.ObjectHandle, error) {
	object, err := s.unwrap(pkcs11.CKM_AES_KEY_WRAP, k.object, wrapped, keyType, may, of)
	if isCode(err, pkcs11.CKR_GENERAL_ERROR) || isCode(err, pkcs11.CKR_FUNCTION_FAILED) || isCode(err, pkcs11.CKR_WRAPPED_KEY_INVALID) ||
		isCode(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID) || isCode(err, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE) {
		return 0, fmt.Errorf("%w: %v", errUnwrap, err)
	}
	return object, err
}

// destroyAfter destroys a temporary object at the end of its use, and makes a failure of that the use's own.
func (s *session) destroyAfter(object pkcs11.ObjectHandle, err *error) {
	if gone := s.destroy(object); gone != nil {
		*err = fmt.Errorf("%w: %w", errLeft, errors.Join(gone, *err))
	}
}
