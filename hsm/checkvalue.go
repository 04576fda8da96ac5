package hsm

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// checkValue computes a key's check value in the token (EPURSE.md §8), by the one right that the key has. A key that only
// derives answers with a generic secret of three bytes, derived from one zero block, extractable, and public as every check
// value is. A token that refuses to derive what can be read is believed its own CKA_CHECK_VALUE, where it fills it.
func (s *session) checkValue(d dialect, key pkcs11.ObjectHandle, may rights) (v kcv.Value, err error) {
	block := zeros[:d.alg.BlockSize()]
	if may&mayEncrypt != 0 {
		out := make([]byte, len(block))
		if err := s.encrypt(d.ecb, key, nil, block, out); err != nil {
			return v, fmt.Errorf("check value: %w", err)
		}
		return kcv.Value(out[:kcv.Size]), nil
	}
	object, err := s.derive(d.deriveECB, key, block, pkcs11.CKK_GENERIC_SECRET, kcv.Size, extractable)
	if classOf(err) == classRequest {
		return s.filledCheckValue(key, err)
	}
	if err != nil {
		return v, fmt.Errorf("check value: %w", err)
	}
	err = s.value(object, v[:])
	if gone := s.destroy(object); gone != nil && classOf(err) <= classRequest {
		err = gone
	} else if classOf(err) == classRequest {
		return s.filledCheckValue(key, err)
	}
	if err != nil {
		return kcv.Value{}, fmt.Errorf("check value: %w", err)
	}
	return v, nil
}

// filledCheckValue is CKA_CHECK_VALUE in the place of a check value that the token refused to compute; the refusal stands where
// the token has none.
func (s *session) filledCheckValue(key pkcs11.ObjectHandle, refusal error) (kcv.Value, error) {
	filled, known, err := s.checkValueAttribute(key)
	if err == nil && !known {
		err = refusal
	}
	if err != nil {
		return kcv.Value{}, fmt.Errorf("check value: %w", err)
	}
	return filled, nil
}

// checkValueAttribute reads CKA_CHECK_VALUE, which has three bytes, or none where the token does not fill it (rule 10).
func (s *session) checkValueAttribute(key pkcs11.ObjectHandle) (v kcv.Value, known bool, err error) {
	filled, known, err := s.attribute(key, pkcs11.CKA_CHECK_VALUE)
	if err != nil || !known {
		return v, false, err
	}
	return filledValue(filled)
}

func filledValue(filled []byte) (v kcv.Value, known bool, err error) {
	switch len(filled) {
	case 0:
		return v, false, nil
	case kcv.Size:
		return kcv.Value(filled), true, nil
	}
	return v, false, fmt.Errorf("%w: CKA_CHECK_VALUE has %d bytes, expected %d", ErrAttributes, len(filled), kcv.Size)
}

// compareCheckValue holds a key object against the catalogue's value, and against CKA_CHECK_VALUE where the token fills it.
func (s *session) compareCheckValue(e *entry) error {
	got, err := s.checkValue(e.dialect, e.master.key, e.right)
	if err != nil {
		return err
	}
	if got != e.spec.KCV {
		return fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, e.spec.KCV)
	}
	filled, known, err := s.checkValueAttribute(e.master.key)
	if err != nil {
		return fmt.Errorf("check value: %w", err)
	}
	if known && filled != got {
		return fmt.Errorf("%w: CKA_CHECK_VALUE disagrees with the key", ErrKCVMismatch)
	}
	return nil
}

// checkValueOf computes a check value in memory, of a key that is in locked memory anyway.
func checkValueOf(spec *KeySpec, key secret.Bytes) (kcv.Value, error) {
	block, err := spec.Algorithm.New(key.Reveal("to compute its check value"))
	if err != nil {
		return kcv.Value{}, err
	}
	return kcv.Of(block), nil
}
