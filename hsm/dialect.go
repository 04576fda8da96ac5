package hsm

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// dialect is how a token speaks of one suite.
type dialect struct {
	alg       suite.Algorithm
	keyType   uint
	ecb, cbc  uint
	deriveECB uint // derivation by ECB encryption of data
	three     bool // two-key DES as L‖R‖L
}

// dialect of a suite on this token, or ErrUnsupported.
func (p Profile) dialect(alg suite.Algorithm) (dialect, error) {
	switch alg {
	case suite.TDES:
		d := dialect{alg: alg, keyType: pkcs11.CKK_DES2, ecb: pkcs11.CKM_DES3_ECB, cbc: pkcs11.CKM_DES3_CBC,
			deriveECB: pkcs11.CKM_DES3_ECB_ENCRYPT_DATA, three: p.ThreeKeyDES}
		if p.ThreeKeyDES {
			d.keyType = pkcs11.CKK_DES3
		}
		return d, nil
	case suite.SM4:
		if p.SM4KeyType == 0 {
			return dialect{}, fmt.Errorf("%v: %w", alg, keyderive.ErrUnsupported)
		}
		return dialect{alg: alg, keyType: p.SM4KeyType, ecb: p.SM4ECB, cbc: p.SM4CBC, deriveECB: p.SM4Derive}, nil
	}
	return dialect{}, fmt.Errorf("%v", alg)
}

// dialectOf is the dialect whose keys have the type, or ErrAttributes.
func (p Profile) dialectOf(keyType uint) (dialect, error) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		if d, err := p.dialect(alg); err == nil && d.keyType == keyType {
			return d, nil
		}
	}
	return dialect{}, fmt.Errorf("%w: no master has the key type %#x", ErrAttributes, keyType)
}

// longKey is the most bytes of a key, or of the data that derive one.
const longKey = 24

// input extends data as the token's key type wants it: the same 16 bytes, or L‖R‖L of them.
func (d dialect) input(data [16]byte) (in [longKey]byte, n int) {
	copy(in[:], data[:])
	if !d.three {
		return in, len(data)
	}
	copy(in[16:], data[:8])
	return in, longKey
}

// value moves a 16-byte key into the form of the token's key type; it wipes key, and the caller wipes what it returns.
func (d dialect) value(key secret.Bytes) secret.Bytes {
	if !d.three {
		return key
	}
	defer key.Wipe()
	long := secret.New(longKey)
	b := long.Reveal("to write a two-key DES key as L‖R‖L")
	copy(b, key.Reveal("the same"))
	copy(b[suite.KeySize:], b[:8])
	return long
}
