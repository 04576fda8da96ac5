package hsm

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// A master of the PROCESS boundary at rest: a private data object of the token with the key's label and application
// "pursekeeper", whose value is
//
//	01 | iv (12) | AES-256-GCM ciphertext (16) | tag (16)
//	02 | iv (12) | AES-256-CCM ciphertext (16) | tag (16)
//
// and the id (16) of a master that has one, as the token has GCM or not, under the sealing key, with the label and the algorithm as associated data, and with the id where the spec has one: the value opens under no other name.
const (
	kekLabel   = reserved + "kek"
	kekSize    = 32
	ivSize     = 12
	cipherSize = suite.KeySize + tagSize
	sealedSize = 1 + ivSize + cipherSize

	application = "pursekeeper"
)

// sealed is such a master and the key that opens it. The bytes are ciphertext and need no care.
type sealed struct {
	kek   pkcs11.ObjectHandle
	aad   []byte
	value []byte // of sealedSize
}

func (s *KeySpec) associatedData() []byte {
	data := fmt.Appendf(nil, "pursekeeper sealed master\x00%s\x00%v", s.Label, s.Algorithm)
	if s.ID != (ObjectID{}) { // a data object has no CKA_ID: this binds it
		data = fmt.Appendf(data, "\x00%v", s.ID)
	}
	return data
}

// open has the token decrypt the master into locked memory; the caller wipes it. The token asks for room for the tag too, so the
// secret is 32 bytes, of which the first 16 are the key.
func (v *sealed) open(s *session) (secret.Bytes, error) {
	room := secret.New(cipherSize) // holds the key from here to the end of this function
	defer room.Wipe()
	buffer := room.Reveal("to receive the master from the token")
	err := sealing(v.value[0]).open(s, v.kek, v.value[1:1+ivSize], v.aad, v.value[1+ivSize:], buffer)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.Copy(buffer[:suite.KeySize]), nil
}

// seal encrypts a master under kek with a fresh random IV.
func seal(s *session, by sealing, kek pkcs11.ObjectHandle, spec *KeySpec, key secret.Bytes) (*sealed, error) {
	v := &sealed{kek: kek, aad: spec.associatedData(), value: make([]byte, sealedSize)}
	v.value[0] = byte(by)
	iv := v.value[1 : 1+ivSize]
	rand.Read(iv) // never fails: it ends the process instead
	err := by.seal(s, kek, iv, v.aad, key.Reveal("to seal it in the token"), v.value[1+ivSize:])
	return v, err
}

// wrongTag reports what a ciphertext that does not belong to its tag is answered with. Of CCM this package compares the tag; of GCM
// SoftHSM's answer is a "general error": where the mechanism was proven just before it is no fault of the device. A fault that says
// more is.
func (v sealing) wrongTag(err error) bool {
	if v == sealCCM {
		return errors.Is(err, errTag)
	}
	return isCode(err, pkcs11.CKR_GENERAL_ERROR) || isCode(err, pkcs11.CKR_FUNCTION_FAILED) ||
		isCode(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID) || isCode(err, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE)
}

// findSealed finds the master's data object and the sealing key, and opens one with the other.
func (e *entry) findSealed(s *session) error {
	object, err := s.find(pkcs11.CKO_DATA, e.spec.Label)
	if err != nil {
		return err
	}
	if err := e.readSealed(s, object); err != nil {
		return err
	}
	err = e.checkSealed(s)
	if e.sealing.wrongTag(err) {
		return fmt.Errorf("%w: the sealed master does not open under its label: %v", ErrAttributes, err)
	}
	return err
}

// readSealed reads a data object that is to be the master's.
func (e *entry) readSealed(s *session, object pkcs11.ObjectHandle) error {
	kek, err := findKEK(s, e.sealing)
	if err != nil {
		return err
	}
	value, known, err := s.attribute(object, pkcs11.CKA_VALUE)
	if err != nil {
		return fmt.Errorf("sealed master: %w", err)
	}
	if !known || len(value) < sealedSize || sealing(value[0]) != e.sealing {
		return fmt.Errorf("%w: the data object is no master that this token sealed", ErrAttributes)
	}
	id, err := sealedID(value)
	if err == nil && id != e.spec.ID {
		err = fmt.Errorf("%w: the sealed master has the id %v, expected %v", ErrAttributes, id, e.spec.ID)
	}
	if err != nil {
		return err
	}
	e.sealed = &sealed{kek: kek, aad: e.spec.associatedData(), value: value[:sealedSize]}
	return nil
}

// sealedID is the id of a sealed master's value.
func sealedID(value []byte) (id ObjectID, err error) {
	switch len(value) {
	case sealedSize:
		return id, nil
	case sealedSize + len(id):
		return ObjectID(value[sealedSize:]), nil
	}
	return id, fmt.Errorf("%w: a data object of %d bytes is no sealed master", ErrAttributes, len(value))
}

// checkSealed opens the master and compares its check value, computed in memory.
func (e *entry) checkSealed(s *session) error {
	key, err := e.sealed.open(s)
	if err != nil {
		return err
	}
	defer key.Wipe()
	got, err := checkValueOf(&e.spec, key)
	if err == nil && got != e.spec.KCV {
		err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, e.spec.KCV)
	}
	return err
}

// findKEK finds the sealing key: AES-256, not extractable, for sealing alone, and made inside the token, as ensureKEK makes it: nobody
// else ever had its bytes.
func findKEK(s *session, by sealing) (pkcs11.ObjectHandle, error) {
	kek, err := s.find(pkcs11.CKO_SECRET_KEY, kekLabel)
	if err != nil {
		return 0, err
	}
	if err := s.checkAttributes(kek, pkcs11.CKK_AES, by.rights()); err != nil {
		return 0, fmt.Errorf("sealing key %q: %w", kekLabel, err)
	}
	if err = s.checkLength(kek, kekSize, false); err == nil {
		err = s.checkFlags(kek, expectation{pkcs11.CKA_LOCAL, "CKA_LOCAL", true, false})
	}
	if err != nil {
		return 0, fmt.Errorf("sealing key %q: %w", kekLabel, err)
	}
	return kek, nil
}
