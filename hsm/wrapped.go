package hsm

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Wrapped is the copy of a master under a backup key, for the catalogue and the backup. It is ciphertext, and needs no care but to be
// kept:
//
//	01 | check value of the backup key (3) | binding (32) | AES key wrap of the 16 bytes (24)
//
// Key wrap has no associated data. The binding is SHA-256 over label, kind, algorithm and check value, and finds a copy that is shown
// for another key by mistake. Whoever can write a Wrapped can write another binding. What he cannot do is give the copy of one key
// out for another whose check value differs: RestoreMaster compares the check value of the key itself with the spec's. The spec is
// the catalogue's, and its integrity is that of the catalogue and of the sealed backup.
type Wrapped []byte

const (
	wrappedForm   = 1
	bindingOffset = 1 + kcv.Size
	wrappedOffset = bindingOffset + sha256.Size
	wrappedLength = wrappedOffset + wrappedSize
)

func (s *KeySpec) binding() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "pursekeeper wrapped master\x00%s\x00%v\x00%v\x00%v", s.Label, s.Kind, s.Algorithm, s.KCV))
}

func newWrapped(spec *KeySpec, under Backup, ciphertext []byte) Wrapped {
	binding := spec.binding()
	w := append(Wrapped{wrappedForm}, under.kcv[:]...)
	w = append(w, binding[:]...)
	return append(w, ciphertext...)
}

// BackupKCV is the check value of the backup key that the copy was made under, or ErrWrapped.
func (w Wrapped) BackupKCV() (kcv.Value, error) {
	if len(w) != wrappedLength {
		return kcv.Value{}, fmt.Errorf("%w: %d bytes, expected %d", ErrWrapped, len(w), wrappedLength)
	}
	if w[0] != wrappedForm {
		return kcv.Value{}, fmt.Errorf("%w: form %d, expected %d", ErrWrapped, w[0], wrappedForm)
	}
	return kcv.Value(w[1:bindingOffset]), nil
}

// open checks what is in clear and returns the ciphertext.
func (w Wrapped) open(spec *KeySpec, key secret.Bytes) ([]byte, error) {
	made, err := w.BackupKCV()
	if err != nil {
		return nil, err
	}
	got, err := BackupCheckValue(key)
	if err != nil {
		return nil, err
	}
	if made != got {
		return nil, fmt.Errorf("%w: it was made under the backup key %v, not %v", ErrWrapped, made, got)
	}
	binding := spec.binding()
	if subtle.ConstantTimeCompare(w[bindingOffset:wrappedOffset], binding[:]) != 1 {
		return nil, fmt.Errorf("%w: it is the copy of another key: label, kind, algorithm or check value differ", ErrWrapped)
	}
	return w[wrappedOffset:], nil
}
