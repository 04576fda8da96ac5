package hsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/cmac"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// cmacWay is how a token computes CMACs (NIST SP 800-38B) under keys of one cipher: by its own mechanism, or, on a token that has none,
// composed of its ECB block by block. The zero value is invalid.
type cmacWay struct {
	cipher    keyblock.Cipher
	keyType   uint
	three     bool // two-key DES as L‖R‖L
	mechanism uint // CKM_AES_CMAC, CKM_DES3_CMAC; 0 is composed
	ecb       uint
}

// rights are what a key needs for it. A 3DES key may always encrypt: its check value is an encrypted block, and who may have its CMACs
// has by them the keys of every key block under it, so that there is nothing left to keep from him.
func (w cmacWay) rights() rights {
	if w.mechanism == 0 {
		return mayEncrypt
	}
	if w.cipher.Version() == keyblock.VersionB {
		return maySign | mayEncrypt
	}
	return maySign
}

func (w cmacWay) String() string {
	if w.mechanism == 0 {
		return fmt.Sprintf("%v cmac composed of ecb", w.cipher)
	}
	return fmt.Sprintf("%v cmac", w.cipher)
}

// cmacWays are the ways that a token of the profile may have, the better one first.
func (p Profile) cmacWays(c keyblock.Cipher) ([]cmacWay, error) {
	w := cmacWay{cipher: c, keyType: pkcs11.CKK_AES, mechanism: pkcs11.CKM_AES_CMAC, ecb: pkcs11.CKM_AES_ECB}
	switch c.Version() {
	case keyblock.VersionD:
	case keyblock.VersionB:
		d, err := p.dialect(suite.TDES)
		if err != nil {
			return nil, err
		}
		w.keyType, w.three, w.mechanism, w.ecb = d.keyType, d.three, pkcs11.CKM_DES3_CMAC, d.ecb
		if c == keyblock.CipherTDES3 {
			w.keyType, w.three = pkcs11.CKK_DES3, false
		}
	default:
		return nil, fmt.Errorf("%w: %v", keyblock.ErrProtector, c)
	}
	composed := w
	composed.mechanism = 0
	return []cmacWay{w, composed}, nil
}

// cmac finds the way of this token, which has passed its known-answer test just now (rule 8): keys are moved a few times a year. A
// mechanism that is there and wrong is ErrSelfTest, and no reason to try the other way.
func (s *session) cmac(p Profile, c keyblock.Cipher) (cmacWay, error) {
	ways, err := p.cmacWays(c)
	if err != nil {
		return cmacWay{}, err
	}
	for _, w := range ways {
		err = w.test(s)
		if err == nil {
			return w, nil
		}
		if !isCode(err, pkcs11.CKR_MECHANISM_INVALID) && !isCode(err, pkcs11.CKR_FUNCTION_NOT_SUPPORTED) {
			return cmacWay{}, fmt.Errorf("known-answer test of %v: %w", w, err)
		}
	}
	return cmacWay{}, fmt.Errorf("%v cmac: %w: %w", c, keyderive.ErrUnsupported, err)
}

// cmacMessage is the message of the examples of NIST SP 800-38B.
const cmacMessage = "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E5130C81C46A35CE411"

// cmacAnswer is a key of those examples, and its CMACs of the beginning of the message, in whole blocks and not.
type cmacAnswer struct {
	key     string
	answers map[int]string
}

var cmacAnswers = map[keyblock.Cipher]cmacAnswer{
	keyblock.CipherTDES2: {"4CF15134A2850DD58A3D10BA80570D38", map[int]string{8: "4FF2AB813C53CE83", 20: "62DD1B471902BD4E"}},
	keyblock.CipherTDES3: {"8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5", map[int]string{8: "8E8F293136283797", 20: "743DDBE0CE2DC2ED"}},
	keyblock.CipherAES128: {"2B7E151628AED2A6ABF7158809CF4F3C",
		map[int]string{16: "070A16B46B4D4144F79BDD9DD04A287C", 40: "DFA66747DE9AE63030CA32611497C827"}},
	keyblock.CipherAES192: {"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B",
		map[int]string{16: "9E99A7BF31E710900662F65E617C5184", 40: "8A1DE5BE2EB31AAD089A82E6EE908B0E"}},
	keyblock.CipherAES256: {"603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4",
		map[int]string{16: "28A7023F452E8F82BD4BF28D8C37C35C", 40: "AAF3D8F1DE5640C232F5B169B9C911E6"}},
}

// test runs the known-answer test on an object of the session, and destroys it.
func (w cmacWay) test(s *session) error { return w.compare(s, cmacAnswers[w.cipher]) }

func (w cmacWay) compare(s *session, known cmacAnswer) (err error) {
	value := secret.Take(unhex(known.key))
	defer value.Wipe()
	t := &tester{session: s}
	defer func() { err = errors.Join(err, t.end()) }()
	key, err := t.own(w.create(s, w.rights(), "", value))
	if err != nil {
		return err
	}
	for n, want := range known.answers {
		got, err := w.sum(s, key, unhex(cmacMessage)[:n])
		if err != nil {
			return err
		}
		right := bytes.Equal(got.Reveal("to compare a published answer"), unhex(want))
		got.Wipe()
		if !right {
			return ErrSelfTest
		}
	}
	return nil
}

// create puts a key of these bytes into the token, in the form of its type.
func (w cmacWay) create(s *session, may rights, label string, key secret.Bytes) (pkcs11.ObjectHandle, error) {
	value := secret.Copy(key.Reveal("to write it as the token's key type"))
	if w.three {
		value = dialect{three: true}.value(value)
	}
	defer value.Wipe()
	return s.create(w.keyType, may, name{label: label}, value)
}

// sum is the CMAC of a message under a key of the token, in locked memory that the caller wipes.
func (w cmacWay) sum(s *session, key pkcs11.ObjectHandle, message []byte) (secret.Bytes, error) {
	if w.mechanism == 0 {
		block := &tokenBlock{session: s, mechanism: w.ecb, key: key, size: w.blockSize()}
		mac := secret.Take(cmac.Sum(block, message))
		if block.err != nil {
			mac.Wipe()
			return secret.Bytes{}, block.err
		}
		return mac, nil
	}
	mac := secret.New(w.blockSize())
	if err := s.sign(w.mechanism, key, message, mac.Reveal("to receive a CMAC from the token")); err != nil {
		mac.Wipe()
		return secret.Bytes{}, err
	}
	return mac, nil
}

func (w cmacWay) blockSize() int {
	if w.cipher.Version() == keyblock.VersionB {
		return 8
	}
	return aesBlock
}

// tokenBlock is a block cipher of the token for package cmac, which knows no errors: it keeps the first, and computes nothing after it.
type tokenBlock struct {
	session   *session
	mechanism uint
	key       pkcs11.ObjectHandle
	size      int
	err       error
}

func (b *tokenBlock) BlockSize() int { return b.size }

// Encrypt lends the token memory of its own on both sides: no token has to bear one buffer for both.
func (b *tokenBlock) Encrypt(dst, src []byte) {
	if b.err != nil {
		return
	}
	in, out := secret.Copy(src[:b.size]), secret.New(b.size)
	defer in.Wipe()
	defer out.Wipe()
	o := out.Reveal("to receive a block of a CMAC from the token")
	b.err = b.session.encrypt(b.mechanism, b.key, nil, in.Reveal("to encrypt a block of a CMAC"), o)
	copy(dst, o)
}

func (b *tokenBlock) Decrypt(_, _ []byte) { panic("hsm: a CMAC decrypts nothing") }

func (s *session) sign(mechanism uint, key pkcs11.ObjectHandle, in, out []byte) error {
	return s.call(func() error { return s.module.cryptoki.sign(s.handle, mechanism, key, in, out) })
}
