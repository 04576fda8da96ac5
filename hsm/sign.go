package hsm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"

	"github.com/miekg/pkcs11"
)

// Numbers of PKCS#11 v3.0 that the binding does not name.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
)

// ed25519Curve is the curve as CKA_EC_PARAMS names it: the object identifier 1.3.101.112, in DER.
var ed25519Curve = []byte{0x06, 0x03, 0x2B, 0x65, 0x70}

// SigningKey is an Ed25519 key pair of the token, which signs what is to be verified without it. Its private key is sensitive, not extractable,
// made inside the token, and does nothing but sign. It may be used by several goroutines.
type SigningKey struct {
	token  *Token
	label  string
	public ed25519.PublicKey
}

var signingName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// signTest is what a key signs before it is used, once in each call of SigningKey: no checkpoint and no other text of a protocol.
const signTest = "pursekeeper: does this key sign?\n"

// SigningKey finds the key pair of a name, or makes it inside the token, with the label "pursekeeper/NAME". A token without Ed25519 is
// keyderive.ErrUnsupported, a private key that is less protected than it must be ErrAttributes, and one that does not sign what its
// public key verifies ErrSelfTest. When two processes make one each, both are found from then on, and every use is ErrAmbiguous:
// an operator destroys one.
func (t *Token) SigningKey(ctx context.Context, name string) (*SigningKey, error) {
	if !signingName.MatchString(name) {
		return nil, fmt.Errorf("signing key: name %q: expected small letters, digits and hyphens, at most 64", name)
	}
	label := reserved + name
	g, err := t.generation()
	if err != nil {
		return nil, err
	}
	k := &SigningKey{token: t, label: label}
	err = g.do(ctx, g.admin, newJob(func(s *session) (result, fault error) {
		public, fault := s.ensurePair(label)
		if fault != nil {
			return publicError(fmt.Sprintf("signing key %q", label), fault), fault
		}
		k.public = public
		return nil, nil
	}))
	if err != nil {
		return nil, err
	}
	if _, err := k.Sign(ctx, []byte(signTest)); err != nil {
		return nil, err
	}
	return k, nil
}

// Public is the public key.
func (k *SigningKey) Public() ed25519.PublicKey { return bytes.Clone(k.public) }

// Sign signs a message, and verifies the signature before anybody sees it: a token that failed, or another key under the label,
// gives no wrong signature away, but ErrSelfTest.
func (k *SigningKey) Sign(ctx context.Context, message []byte) (signature []byte, err error) {
	g, err := k.token.generation()
	if err != nil {
		return nil, err
	}
	message = bytes.Clone(message) // the job may outlast the caller
	var signed []byte
	err = g.do(ctx, g.admin, newJob(func(s *session) (result, fault error) {
		made, fault := s.signWith(k.label, message)
		if fault != nil {
			return publicError(fmt.Sprintf("sign with %q", k.label), fault), fault
		}
		signed = made
		return nil, nil
	}))
	if err != nil {
		return nil, err
	}
	if len(signed) != ed25519.SignatureSize || !ed25519.Verify(k.public, message, signed) {
		return nil, fmt.Errorf("sign with %q: %w: its public key does not verify the signature", k.label, ErrSelfTest)
	}
	return signed, nil
}

// signWith finds the private key anew, for its handle is of this generation alone; a checkpoint is signed a few times a second.
func (s *session) signWith(label string, message []byte) (signature []byte, err error) {
	private, err := s.find(pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return nil, err
	}
	err = s.call(func() (err error) {
		ctx := s.module.ctx
		if err := ctx.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmEDDSA, nil)}, private); err != nil {
			return err
		}
		signature, err = ctx.Sign(s.handle, message)
		return err
	})
	return signature, err
}

// ensurePair finds the pair, or makes it. A public key alone is the rest of a making that was cut short: nobody was told of it, and it
// is destroyed. A private key alone is nobody's to repair.
func (s *session) ensurePair(label string) (ed25519.PublicKey, error) {
	private, err := s.find(pkcs11.CKO_PRIVATE_KEY, label)
	missing := errors.Is(err, ErrKeyNotFound)
	if err != nil && !missing {
		return nil, err
	}
	public, err := s.find(pkcs11.CKO_PUBLIC_KEY, label)
	switch {
	case err == nil && missing:
		if err := s.destroy(public); err != nil {
			return nil, err
		}
	case missing && !errors.Is(err, ErrKeyNotFound):
		return nil, err
	case !missing && err != nil:
		return nil, fmt.Errorf("public key of a private one: %w", err)
	}
	if missing {
		if public, private, err = s.makePair(label); err != nil {
			return nil, fmt.Errorf("make key pair: %w", err)
		}
	}
	if err := s.checkPrivate(private); err != nil {
		return nil, err
	}
	return s.point(public)
}

func (s *session) makePair(label string) (public, private pkcs11.ObjectHandle, err error) {
	flag := pkcs11.NewAttribute
	shared := []*pkcs11.Attribute{
		flag(pkcs11.CKA_TOKEN, true), flag(pkcs11.CKA_LABEL, label), flag(pkcs11.CKA_KEY_TYPE, uint(ckkECEdwards)),
		flag(pkcs11.CKA_MODIFIABLE, false), flag(pkcs11.CKA_COPYABLE, false),
	}
	publicly := append([]*pkcs11.Attribute{
		flag(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), flag(pkcs11.CKA_EC_PARAMS, ed25519Curve), flag(pkcs11.CKA_PRIVATE, false),
		flag(pkcs11.CKA_VERIFY, true), flag(pkcs11.CKA_ENCRYPT, false), flag(pkcs11.CKA_WRAP, false),
	}, shared...)
	privately := append([]*pkcs11.Attribute{
		flag(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), flag(pkcs11.CKA_PRIVATE, true), flag(pkcs11.CKA_SENSITIVE, true),
		flag(pkcs11.CKA_EXTRACTABLE, false), flag(pkcs11.CKA_SIGN, true), flag(pkcs11.CKA_DECRYPT, false), flag(pkcs11.CKA_UNWRAP, false),
		flag(pkcs11.CKA_DERIVE, false),
	}, shared...)
	err = s.call(func() (err error) {
		public, private, err = s.module.ctx.GenerateKeyPair(s.handle,
			[]*pkcs11.Mechanism{pkcs11.NewMechanism(ckmECEdwardsKeyPairGen, nil)}, publicly, privately)
		return err
	})
	return public, private, err
}

// checkPrivate refuses a private key that may leave the token, may do more than sign, or was not made in the token.
func (s *session) checkPrivate(private pkcs11.ObjectHandle) error {
	value, known, err := s.attribute(private, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return err
	}
	if !known || len(value) != 8 || binary.NativeEndian.Uint64(value) != ckkECEdwards {
		return fmt.Errorf("%w: CKA_KEY_TYPE is not %#x", ErrAttributes, ckkECEdwards)
	}
	return s.checkFlags(private, append([]expectation{
		{pkcs11.CKA_SIGN, "CKA_SIGN", true, false},
		{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", false, true},
		{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", false, true},
		{pkcs11.CKA_DERIVE, "CKA_DERIVE", false, true},
		{pkcs11.CKA_LOCAL, "CKA_LOCAL", true, false},
		{pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_ALWAYS_SENSITIVE", true, true},
		{pkcs11.CKA_NEVER_EXTRACTABLE, "CKA_NEVER_EXTRACTABLE", true, true},
	}, protection...)...)
}

// point reads the public key. PKCS#11 v3.0 wants the 32 bytes of RFC 8032 as they are, v2.40 drafts, and SoftHSM, in a DER octet string.
func (s *session) point(public pkcs11.ObjectHandle) (ed25519.PublicKey, error) {
	value, known, err := s.attribute(public, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	if raw, wrapped := bytes.CutPrefix(value, []byte{0x04, ed25519.PublicKeySize}); wrapped && len(raw) == ed25519.PublicKeySize {
		value = raw
	}
	if !known || len(value) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: CKA_EC_POINT has %d bytes", ErrAttributes, len(value))
	}
	return ed25519.PublicKey(value), nil
}
