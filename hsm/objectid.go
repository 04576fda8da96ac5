package hsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// ObjectID is the stable name of a key's object in the token, its CKA_ID: 16 bytes that whoever has the key made takes at random and keeps in
// the catalogue. The zero ObjectID is of a key without one, as tokens hold them from before. It is no secret.
type ObjectID [16]byte

// String is 32 hex digits.
func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

// name is what an object is found by.
type name struct {
	label string
	id    ObjectID
}

// bytes are copies: C may not be given the memory of a struct that holds Go pointers.
func (n name) bytes() (label, id []byte) {
	if n.id != (ObjectID{}) {
		id = bytes.Clone(n.id[:])
	}
	return []byte(n.label), id
}

func (s *KeySpec) name() name { return name{s.Label, s.ID} }

// checkID holds a key object against the id of the catalogue, where that has one.
func (s *session) checkID(object pkcs11.ObjectHandle, want ObjectID) error {
	if want == (ObjectID{}) {
		return nil
	}
	got, err := s.idOf(object)
	if err == nil && got != want {
		err = fmt.Errorf("%w: the object has not the id %v", ErrAttributes, want)
	}
	return err
}

// isNamed reports whether an object that has the label has the id too, where the name has one.
func (s *session) isNamed(object pkcs11.ObjectHandle, n name) (bool, error) {
	if n.id == (ObjectID{}) {
		return true, nil
	}
	id, err := s.idOf(object)
	if errors.Is(err, ErrAttributes) {
		return false, nil
	}
	return id == n.id, err
}

// idOf is the id of a key, or of a sealed master; the zero ObjectID where it has none, or one of another length.
func (s *session) idOf(object pkcs11.ObjectHandle) (id ObjectID, err error) {
	data, err := s.isData(object)
	if err != nil {
		return id, err
	}
	kind := uint(pkcs11.CKA_ID)
	if data {
		kind = pkcs11.CKA_VALUE
	}
	value, _, err := s.attribute(object, kind)
	switch {
	case err != nil:
		return id, fmt.Errorf("id: %w", err)
	case data:
		return sealedID(value)
	case len(value) == len(id):
		id = ObjectID(value)
	}
	return id, nil
}

// isData reports whether an object is a data object.
func (s *session) isData(object pkcs11.ObjectHandle) (bool, error) {
	class, err := s.number(object, pkcs11.CKA_CLASS)
	return class == pkcs11.CKO_DATA, err
}
