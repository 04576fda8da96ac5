package hsm

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Profile is what a token can do and no standard fixes. A number 0 means that the token lacks it; the zero Profile is SoftHSM's,
// without its name. What a profile promises is believed only after the known-answer test of each generation (rule 8).
type Profile struct {
	Name   string // for logs
	Tested bool   // the tests of the project passed on such a token

	XORKeys uint // key-XOR-key derivation (CKM_XOR_BASE_AND_KEY): its parameter is the handle of the other key

	SM4KeyType uint // CKK_SM4
	SM4ECB     uint // CKM_SM4_ECB
	SM4CBC     uint // CKM_SM4_CBC
	SM4Derive  uint // CKM_SM4_ECB_ENCRYPT_DATA; without it SM4 is at the CARD boundary, by ECB

	// Serial: the library does one call at a time however many sessions there are, and sessions beside each other only wait for its locks.
	// Crossings into it take turns then.
	Serial bool

	NoDerivation bool // the token derives nothing: CARD by ECB alone, with issuer-level keys in locked memory too
	ThreeKeyDES  bool // the token has no CKK_DES2: two-key DES is CKK_DES3 with L‖R‖L
	NoKeyWrap    bool // the token has no CKM_AES_KEY_WRAP: backup copies are wrapped by its AES in ECB mode, and pass through locked memory
	NoGCM        bool // the token has no CKM_AES_GCM: masters of the PROCESS boundary are sealed with AES-CCM, by its ECB and CBC
}

// Strictest is the strictest boundary that such a token can give a key of the kind (DESIGN, §2): TOKEN, but CARD for the folding
// kinds of 3DES on a token without key-XOR-key derivation and for all where the token does not derive with the algorithm, and PROCESS
// for SM4 on a token that lacks it. A mechanism that the profile promises and that fails its test makes no boundary less strict: the
// keys that need it fail closed.
func (p Profile) Strictest(kind keyderive.Kind, alg suite.Algorithm) keyderive.Boundary {
	switch {
	case alg == suite.SM4 && p.SM4KeyType == 0:
		return keyderive.BoundaryProcess
	case !p.derives(alg), alg == suite.TDES && kind.Folds() && p.XORKeys == 0:
		return keyderive.BoundaryCard
	}
	return keyderive.BoundaryToken
}

// derives reports whether keys of the suite can be derived inside the token.
func (p Profile) derives(alg suite.Algorithm) bool {
	return !p.NoDerivation && (alg != suite.SM4 || p.SM4Derive != 0)
}

// validate names a field as a profile file does.
func (p Profile) validate() error {
	sm4 := []struct {
		field  string
		number uint
	}{{"sm4.keyType", p.SM4KeyType}, {"sm4.ecb", p.SM4ECB}, {"sm4.cbc", p.SM4CBC}}
	for _, f := range sm4 {
		if f.number == 0 && p.SM4KeyType|p.SM4ECB|p.SM4CBC|p.SM4Derive != 0 {
			return fmt.Errorf("profile: %s: missing: SM4 needs its key type, ECB and CBC, or none of them", f.field)
		}
	}
	if p.NoDerivation && p.XORKeys|p.SM4Derive != 0 {
		return fmt.Errorf("profile: noDerivation: has a mechanism that derives beside it")
	}
	seen := map[uint]string{}
	for _, f := range append(sm4[1:], []struct {
		field  string
		number uint
	}{{"sm4.deriveEcb", p.SM4Derive}, {"xorKeys", p.XORKeys}}...) {
		if other, taken := seen[f.number]; taken && f.number != 0 {
			return fmt.Errorf("profile: %s: %#x is the number of %s too", f.field, f.number, other)
		}
		seen[f.number] = f.field
	}
	return nil
}
