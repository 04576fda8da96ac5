package ceremony

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // the purse is specified with DES
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/emmansun/gmsm/sm4"

	"github.com/pursekeeper/pursekeeper/crypto/cmac"
	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// The algorithms, and how the check value of an AES key is named.
const (
	tdes     = "3DES"
	chinese  = "SM4"
	rijndael = "AES"
	byCMAC   = "AES-CMAC"
)

// Material is what a key is made of: algorithm and length. NewMaterial makes it.
type Material struct {
	Algorithm string // 3DES, SM4 or AES
	Bits      int    // without parity: 112 or 168 of 3DES
}

// sizes are the lengths in bytes, by algorithm and bits.
var sizes = map[Material]int{
	{tdes, 112}: 16, {tdes, 168}: 24, {chinese, 128}: 16, {rijndael, 128}: 16, {rijndael, 192}: 24, {rijndael, 256}: 32,
}

var masterBits = map[string]int{tdes: 112, chinese: 128}

// NewMaterial accepts the algorithms and lengths that keys have here.
func NewMaterial(algorithm string, bits int) (Material, error) {
	m := Material{algorithm, bits}
	if _, known := sizes[m]; !known {
		return Material{}, fmt.Errorf("%s with %d bits: expected 3DES (112, 168), SM4 (128) or AES (128, 192, 256)", algorithm, bits)
	}
	return m, nil
}

// Size is the length in bytes.
func (m Material) Size() int { return sizes[m] }

func (m Material) String() string { return fmt.Sprintf("%s, %d bits", m.Algorithm, m.Bits) }

// checkValueName is how a check value of it is computed: of AES by CMAC (X9.24-1), of the others by the encryption of a zero block.
func (m Material) checkValueName() string {
	if m.Algorithm == rijndael {
		return byCMAC
	}
	return m.Algorithm
}

// CheckValue computes the check value, three bytes.
func (m Material) CheckValue(key secret.Bytes) (kcv.Value, error) {
	long, err := m.longCheckValue(key)
	if err != nil {
		return kcv.Value{}, err
	}
	return kcv.Value(long[:kcv.Size]), nil
}

// longSize is the length of a check value of AES as X9.24-1 has it; other systems show its first three bytes.
const longSize = 5

// longCheckValue is as long as a check value of the algorithm may be: five bytes of AES, three of the others.
func (m Material) longCheckValue(key secret.Bytes) ([]byte, error) {
	if key.Len() != m.Size() {
		return nil, fmt.Errorf("%d bytes, expected %d", key.Len(), m.Size())
	}
	raw := key.Reveal("to compute a check value")
	var block cipher.Block // its schedule is in Go memory until it is collected
	var err error
	switch m.Algorithm {
	case rijndael:
		if block, err = aes.NewCipher(raw); err != nil {
			return nil, err
		}
		return cmac.Sum(block, make([]byte, aes.BlockSize))[:longSize], nil
	case chinese:
		block, err = sm4.NewCipher(raw)
	default:
		ede := secret.New(3 * des.BlockSize)
		defer ede.Wipe()
		three := ede.Reveal("to write two-key DES as three keys")
		copy(three[copy(three, raw):], raw)
		block, err = des.NewTripleDESCipher(three)
	}
	if err != nil {
		return nil, err
	}
	short := kcv.Of(block)
	return short[:], nil
}

var errZeros = errors.New("the key is all zeros")

// CheckWhole refuses a whole key that is no key: zeros, and of 3DES weak, semi-weak and equal parts. Components may be anything.
func (m Material) CheckWhole(key secret.Bytes) error {
	raw := key.Reveal("to refuse a weak key")
	if m.nothing(raw) {
		return errZeros
	}
	if m.Algorithm == tdes {
		return deskey.Check(raw)
	}
	return nil
}

// nothing reports, in constant time, whether bytes add nothing to a key: zeros, and of 3DES whatever is in the parity bits.
func (m Material) nothing(b []byte) bool {
	used, any := byte(0xFF), byte(0)
	if m.Algorithm == tdes {
		used = 0xFE
	}
	for _, x := range b {
		any |= x & used
	}
	return any == 0
}

// sameKey reports, in constant time, whether two keys of the length do the same.
func (m Material) sameKey(a, b secret.Bytes) bool {
	difference := secret.New(m.Size())
	defer difference.Wipe()
	d := difference.Reveal("to compare keys")
	subtle.XORBytes(d, a.Reveal("to compare it"), b.Reveal("to compare it"))
	return m.nothing(d)
}
