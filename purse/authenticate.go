package purse

import (
	"crypto/subtle"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Cryptogram is the proof of a key in EXTERNAL and INTERNAL AUTHENTICATE: 8 bytes, or 16 where the profile sends the SM4
// block whole.
type Cryptogram []byte

// Equal compares in constant time for cryptograms of one length.
func (c Cryptogram) Equal(other Cryptogram) bool { return subtle.ConstantTimeCompare(c, other) == 1 }

// authenticationLen is the length of the challenge in one 3DES block.
const authenticationLen = 8

// ExternalCryptogram answers a challenge of the card under its control key, for EXTERNAL AUTHENTICATE (EPURSE.md §6). The
// challenge is 8 bytes, or 4 that are followed by zeros.
//
//	3DES: E(key, challenge)(8)      SM4: left8 XOR right8 of E(key, challenge 00…), or the 16 bytes whole
func ExternalCryptogram(profile Profile, alg suite.Algorithm, challenge []byte, key Encrypter) (Cryptogram, error) {
	if n := len(challenge); n != authenticationLen && n != len(Random{}) {
		return nil, fieldErrorf(challengeField, "%d bytes, expected 4 or 8", n)
	}
	return profile.cryptogram(alg, challenge, key)
}

// InternalCryptogram is what the card answers to INTERNAL AUTHENTICATE with an 8-byte challenge under its internal-auth
// key: computed as the external one [L].
func InternalCryptogram(profile Profile, alg suite.Algorithm, challenge []byte, key Encrypter) (Cryptogram, error) {
	if err := wantLen(challengeField, challenge, authenticationLen); err != nil {
		return nil, err
	}
	return profile.cryptogram(alg, challenge, key)
}

func (p Profile) cryptogram(alg suite.Algorithm, challenge []byte, key Encrypter) (Cryptogram, error) {
	if !alg.Valid() {
		return nil, fieldErrorf("algorithm", "%v", alg)
	}
	block := make([]byte, alg.BlockSize())
	copy(block, challenge)
	out, err := key.Encrypt(block)
	if err != nil {
		return nil, err
	}
	if err := wantLen("cryptogram", out, len(block)); err != nil {
		return nil, err
	}
	if alg == suite.SM4 && !p.wholeCryptogram {
		folded := make(Cryptogram, authenticationLen)
		subtle.XORBytes(folded, out[:8], out[8:])
		return folded, nil
	}
	return out, nil
}

// CryptogramLen is the length of a cryptogram in bytes: 16 for SM4 sent whole, else 8.
func (p Profile) CryptogramLen(alg suite.Algorithm) int {
	if alg == suite.SM4 && p.wholeCryptogram {
		return suite.SM4.BlockSize()
	}
	return authenticationLen
}

// Challenge is GET CHALLENGE for secure messaging, as long as the profile says.
//
//	00 84 00 00 Le 04|08
func Challenge(profile Profile) APDU {
	return APDU{CLA: claISO, INS: insChallenge, Expect: profile.smChallenge}
}

// ExternalAuthenticate is the command that proves the host to the card; id is the card's number of the key.
//
//	00 82 00 id 08 CRYPTOGRAM(8)
func ExternalAuthenticate(id byte, c Cryptogram) (APDU, error) {
	if n := len(c); n != 8 && n != 16 {
		return APDU{}, fieldErrorf("cryptogram", "%d bytes, expected 8 or 16", n)
	}
	return APDU{CLA: claISO, INS: insExternal, P2: id, Data: append([]byte(nil), c...)}, nil
}

// InternalAuthenticate is the command that has the card prove itself. EPURSE.md §6 draws no Le; the command expects an
// answer, so ISO/IEC 7816-4 gives it one.
//
//	00 88 00 id 08 challenge(8) Le 08|10
func InternalAuthenticate(profile Profile, alg suite.Algorithm, id byte, challenge [8]byte) APDU {
	return APDU{CLA: claISO, INS: insInternal, P2: id, Data: challenge[:], Expect: profile.CryptogramLen(alg)}
}

// VerifyPIN is VERIFY, the card holder's PIN in the clear.
//
//	00 20 00 00 Lc PIN
func VerifyPIN(pin PIN) (APDU, error) {
	if err := pin.check(); err != nil {
		return APDU{}, err
	}
	return APDU{CLA: claISO, INS: insVerify, Data: append([]byte(nil), pin.Reveal("to send it in VERIFY")...)}, nil
}
