package hsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// use is what is done with a mechanism.
type use uint8

const (
	useECB use = iota + 1
	useCBC
	useDerive
	useXOR
	useSeal
	useWrap  // key wrap, of backup keys
	useBatch // ECB of as many blocks as one call ever has
)

var useNames = [...]string{useECB: "ecb", useBatch: "ecb in bulk", useCBC: "cbc", useDerive: "derive", useXOR: "fold", useSeal: "seal", useWrap: "key wrap"}

// feature is a mechanism that must pass its known-answer test in each generation before it is used (rule 8): a token's own list of
// mechanisms is not believed.
type feature struct {
	alg suite.Algorithm // none of useSeal and useWrap
	use use
}

func (f feature) String() string {
	if f.use == useSeal || f.use == useWrap {
		return useNames[f.use]
	}
	return fmt.Sprintf("%v %s", f.alg, useNames[f.use])
}

// prove runs the test of f once in the generation. A mechanism that the token lacks is keyderive.ErrUnsupported, a wrong answer
// ErrSelfTest: the keys that need it fail closed.
func (g *generation) prove(s *session, f feature) error {
	if err, known := g.proven[f]; known {
		return err
	}
	err := g.token.config.Profile.test(s, f)
	switch classOf(err) {
	case classNone:
	case classRequest:
		if !errors.Is(err, ErrSelfTest) {
			err = publicError("known-answer test of "+f.String(), err)
		}
	default:
		return fmt.Errorf("known-answer test of %v: %w", f, err)
	}
	g.proven[f] = err
	return err
}

// Published keys and answers: the key of the DES and SM4 standards' own examples, one message, and what openssl makes of it. A
// test computes them again with Go's own ciphers.
const (
	testKey     = "0123456789ABCDEFFEDCBA9876543210"
	testMessage = "000102030405060708090A0B0C0D0E0F"
	testIV      = "112233445566778899AABBCCDDEEFF00" // 3DES takes the first 8 bytes
	testLeft    = "0123456789ABCDEF0123456789ABCDEF" // halves to fold
	testRight   = "11223344556677881122334455667788"

	// AES-256-GCM: the key, IV and associated data of test case 16 of the mode's proposal to NIST, and its first block, whose
	// ciphertext is the published one.
	testSealKey   = "FEFFE9928665731C6D6A8F9467308308FEFFE9928665731C6D6A8F9467308308"
	testSealIV    = "CAFEBABEFACEDBADDECAF888"
	testSealAAD   = "FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2"
	testSealPlain = "D9313225F88406E5A55909C5AFF5269A"
)

// RFC 3394 §4.3: 128 bits of key data under a key of 256 bits.
const (
	testWrapKey  = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	testWrapData = "00112233445566778899AABBCCDDEEFF"
	testWrapped  = "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"
)

// testSealed is what openssl makes of the same with CCM.
var testSealed = map[sealing]string{
	sealGCM: "522DC1F099567D07F47F37A32A84427D" + "5B1CF91B45C59CA2E025E6BEC8B6A6EA",
	sealCCM: "C5CCCC57F32343875B5B95F98869AE19" + "EC6B1F013B8BD2DAD224B47ED27179FB",
}

// answers are what testMessage becomes: under the key, under the key that the message derives from it, under folded halves.
var answers = map[feature]string{
	{suite.TDES, useECB}:    "52C5C0705D9089E1DECFC0F111152B12",
	{suite.TDES, useCBC}:    "D0ACC9BA09644F7680782BB800ECB5DE",
	{suite.TDES, useDerive}: "9F986E8E29B30A06722857912B048DED",
	{suite.TDES, useXOR}:    "B643B3DC15056D7021CBA6C468C57CEC",
	{suite.SM4, useECB}:     "06989C613DA668AD2A8DF782E1A8F96A",
	{suite.SM4, useCBC}:     "66A512752ACC191A4A2B381926A655D7",
	{suite.SM4, useDerive}:  "6EC2C150F02DC398A1A96E75B21B23FE",
}

// unhex reads the constants above.
func unhex(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic("hsm: a constant is not hex: " + err.Error())
	}
	return b
}

// test runs one known-answer test on objects of the session, and destroys them.
func (p Profile) test(s *session, f feature) (err error) {
	t := &tester{session: s}
	defer func() { err = errors.Join(err, t.end()) }()
	if f.use == useSeal {
		return t.seal(p.sealing())
	}
	if f.use == useWrap {
		return t.keyWrap(p)
	}
	d, err := p.dialect(f.alg)
	if err != nil {
		return err
	}
	if f.use == useBatch {
		return t.batch(d)
	}
	want, known := answers[f]
	if !known {
		return fmt.Errorf("%v: %w", f, keyderive.ErrUnsupported)
	}
	got, err := t.run(p, d, f.use)
	if err == nil && !bytes.Equal(got, unhex(want)) {
		return fmt.Errorf("%w: %v", ErrSelfTest, f)
	}
	return err
}

// tester owns the objects of one test.
type tester struct {
	session *session
	objects []pkcs11.ObjectHandle
}

func (t *tester) end() (err error) {
	for _, object := range t.objects {
		err = errors.Join(err, t.session.destroy(object))
	}
	return err
}

func (t *tester) own(object pkcs11.ObjectHandle, err error) (pkcs11.ObjectHandle, error) {
	if err == nil {
		t.objects = append(t.objects, object)
	}
	return object, err
}

// key makes a session object of a published key.
func (t *tester) key(d dialect, digits string, may rights) (pkcs11.ObjectHandle, error) {
	value := d.value(secret.Take(unhex(digits)))
	defer value.Wipe()
	return t.own(t.session.create(d.keyType, may, name{}, value))
}

func (t *tester) run(p Profile, d dialect, u use) ([]byte, error) {
	message, iv := unhex(testMessage), unhex(testIV)[:d.alg.BlockSize()]
	out := make([]byte, len(message))
	mechanism, may := d.ecb, mayEncrypt
	if u == useDerive || u == useXOR {
		may = mayDerive
	}
	first := testKey
	if u == useXOR {
		first = testLeft
	}
	key, err := t.key(d, first, may)
	if err != nil {
		return nil, err
	}
	switch u {
	case useCBC:
		mechanism = d.cbc
	case useDerive:
		in, n := d.input([16]byte(message))
		key, err = t.own(t.session.derive(d.deriveECB, key, in[:n], d.keyType, 0, mayEncrypt))
	case useXOR:
		var other pkcs11.ObjectHandle
		if other, err = t.key(d, testRight, mayDerive); err == nil {
			key, err = t.own(t.session.combine(p.XORKeys, key, other, d.keyType, mayEncrypt))
		}
	}
	if err != nil {
		return nil, err
	}
	if u != useCBC {
		iv = nil
	}
	return out, t.session.encrypt(mechanism, key, iv, message, out)
}

// batch tests ECB over the most card keys that one call makes: a counter in each, so that an answer in its place is no other's.
// Go's own cipher has the answers.
func (t *tester) batch(d dialect) error {
	key, err := t.key(d, testKey, mayEncrypt)
	if err != nil {
		return err
	}
	block, err := d.alg.New(unhex(testKey))
	if err != nil {
		return err
	}
	in, got := make([]byte, maxBatch*suite.KeySize), make([]byte, maxBatch*suite.KeySize)
	for i := range len(in) / block.BlockSize() {
		binary.BigEndian.PutUint32(in[i*block.BlockSize():], uint32(i))
	}
	if err := t.session.encrypt(d.ecb, key, nil, in, got); err != nil {
		return err
	}
	for from := 0; from < len(in); from += block.BlockSize() {
		block.Encrypt(in[from:], in[from:])
	}
	if !bytes.Equal(got, in) {
		return fmt.Errorf("%w: ecb of %d blocks", ErrSelfTest, len(in)/block.BlockSize())
	}
	return nil
}

// seal tests the token's way to seal in both directions, and that neither a flipped bit nor other associated data opens.
func (t *tester) seal(by sealing) error {
	value := secret.Take(unhex(testSealKey))
	defer value.Wipe()
	key, err := t.own(t.session.create(pkcs11.CKK_AES, by.rights(), name{}, value))
	if err != nil {
		return err
	}
	iv, aad, plain, want := unhex(testSealIV), unhex(testSealAAD), unhex(testSealPlain), unhex(testSealed[by])
	out := make([]byte, len(want))
	if err := by.seal(t.session, key, iv, aad, plain, out); err != nil {
		return err
	}
	if !bytes.Equal(out, want) {
		return fmt.Errorf("%w: seal", ErrSelfTest)
	}
	opened := make([]byte, len(want))
	if err := by.open(t.session, key, iv, aad, want, opened); err != nil {
		return err
	}
	if !bytes.Equal(opened[:len(plain)], plain) {
		return fmt.Errorf("%w: open", ErrSelfTest)
	}
	flipped := bytes.Clone(want)
	flipped[3] ^= 0x10
	if err := by.refused(by.open(t.session, key, iv, aad, flipped, opened)); err != nil {
		return fmt.Errorf("a flipped bit: %w", err)
	}
	if err := by.refused(by.open(t.session, key, iv, aad[1:], want, opened)); err != nil {
		return fmt.Errorf("other associated data: %w", err)
	}
	return nil
}

// keyWrap tests key wrap in both directions, and that a flipped bit does not open.
func (t *tester) keyWrap(p Profile) error {
	value := secret.Take(unhex(testWrapKey))
	defer value.Wipe()
	object, err := t.own(t.session.create(pkcs11.CKK_AES, p.wrapRight()|p.unwrapRight(), name{}, value))
	if err != nil {
		return err
	}
	key, data, want := backupKey{object, p.NoKeyWrap}, secret.Take(unhex(testWrapData)), unhex(testWrapped)
	defer data.Wipe()
	got, err := key.wrap(t.session, data)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: key wrap", ErrSelfTest)
	}
	opened, err := key.unwrap(t.session, want)
	if err != nil {
		return err
	}
	defer opened.Wipe()
	if !opened.Equal(data) {
		return fmt.Errorf("%w: key unwrap", ErrSelfTest)
	}
	want[3] ^= 0x10
	other, err := key.unwrap(t.session, want)
	other.Wipe()
	switch {
	case err == nil:
		return fmt.Errorf("%w: a flipped bit: it unwrapped", ErrSelfTest)
	case errors.Is(err, errUnwrap):
		return nil
	}
	return fmt.Errorf("a flipped bit: %w", err)
}

// refused wants the answer that a wrong tag has. Another error proves nothing of the mechanism, and is returned.
func (v sealing) refused(err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("%w: it opened", ErrSelfTest)
	case v.wrongTag(err):
		return nil
	}
	return err
}
