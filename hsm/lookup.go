package hsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// find yields exactly one object, or ErrKeyNotFound or ErrAmbiguous (rules 6, 10). It is never called for a transaction: it
// grows slower with every object of the token.
func (s *session) find(class uint, label string) (object pkcs11.ObjectHandle, err error) {
	found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	switch {
	case err != nil:
		return 0, fmt.Errorf("find object %q: %w", label, err)
	case len(found) == 0:
		return 0, fmt.Errorf("find object %q: %w", label, ErrKeyNotFound)
	case len(found) > 1:
		return 0, fmt.Errorf("find object %q: %w", label, ErrAmbiguous)
	}
	return found[0], nil
}

// findAll returns up to three objects: none, one and more are all that anybody asks.
func (s *session) findAll(template ...*pkcs11.Attribute) (found []pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		ctx := s.module.ctx
		if err := ctx.FindObjectsInit(s.handle, template); err != nil {
			return err
		}
		var err error
		found, _, err = ctx.FindObjects(s.handle, 3)
		return errors.Join(err, ctx.FindObjectsFinal(s.handle))
	})
	return found, err
}

// attribute reads one attribute; known is false where the token does not have it.
func (s *session) attribute(object pkcs11.ObjectHandle, kind uint) (value []byte, known bool, err error) {
	err = s.call(func() error {
		got, err := s.module.ctx.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
		if err == nil && len(got) == 1 {
			value, known = got[0].Value, true
		}
		return err
	})
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)) {
		return nil, false, nil
	}
	return value, known, err
}

// number reads an attribute that is a CK_ULONG, which every object of its class has.
func (s *session) number(object pkcs11.ObjectHandle, kind uint) (uint, error) {
	value, known, err := s.attribute(object, kind)
	if err == nil && (!known || len(value) != 8) {
		err = fmt.Errorf("%w: attribute %#x has %d bytes, expected 8", ErrAttributes, kind, len(value))
	}
	if err != nil {
		return 0, err
	}
	return uint(binary.NativeEndian.Uint64(value)), nil
}

// expectation is one attribute that a key object must have.
type expectation struct {
	kind     uint
	name     string
	want     bool
	optional bool // a token that does not know the attribute passes
}

// protection is what every key object of the token must be (DESIGN, §2).
var protection = []expectation{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true, false},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", true, false},
	{pkcs11.CKA_SENSITIVE, "CKA_SENSITIVE", true, false},
	{pkcs11.CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false, false},
	{pkcs11.CKA_MODIFIABLE, "CKA_MODIFIABLE", false, false},
	{pkcs11.CKA_COPYABLE, "CKA_COPYABLE", false, true},
}

// dataProtection is what a sealed master's data object must be: its value is ciphertext.
var dataProtection = []expectation{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true, false},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", true, false},
	{pkcs11.CKA_MODIFIABLE, "CKA_MODIFIABLE", false, true},
}

// rightsOf are the rights that a key object may or must not have; a right that the token does not know is not there.
func rightsOf(may rights) []expectation {
	return []expectation{
		{pkcs11.CKA_ENCRYPT, "CKA_ENCRYPT", may&mayEncrypt != 0, may&mayEncrypt == 0},
		{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", may&mayDecrypt != 0, may&mayDecrypt == 0},
		{pkcs11.CKA_DERIVE, "CKA_DERIVE", may&mayDerive != 0, may&mayDerive == 0},
		{pkcs11.CKA_SIGN, "CKA_SIGN", may&maySign != 0, may&maySign == 0},
		{pkcs11.CKA_VERIFY, "CKA_VERIFY", false, true},
		{pkcs11.CKA_WRAP, "CKA_WRAP", may&mayWrap != 0, may&mayWrap == 0},
		{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", may&mayUnwrap != 0, may&mayUnwrap == 0},
	}
}

// checkAttributes refuses a key object that is less protected than it must be, or may do more than it needs.
func (s *session) checkAttributes(object pkcs11.ObjectHandle, keyType uint, may rights) error {
	value, known, err := s.attribute(object, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return err
	}
	if !known || len(value) != 8 || binary.NativeEndian.Uint64(value) != uint64(keyType) {
		return fmt.Errorf("%w: CKA_KEY_TYPE is not %#x", ErrAttributes, keyType)
	}
	return s.checkFlags(object, append(rightsOf(may), protection...)...)
}

func (s *session) checkFlags(object pkcs11.ObjectHandle, list ...expectation) error {
	for _, expected := range list {
		value, known, err := s.attribute(object, expected.kind)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", expected.name, err)
		case !known && expected.optional:
			continue
		case !known || len(value) != 1 || (value[0] != 0) != expected.want:
			return fmt.Errorf("%w: %s is not %t", ErrAttributes, expected.name, expected.want)
		}
	}
	return nil
}
