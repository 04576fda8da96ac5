package cmac

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	require.NoError(t, err)
	return b
}

// The message of all examples of NIST SP 800-38B and RFC 4493.
const message = "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E5130C81C46A35CE411E5FBC1191A0A52EFF69F2445DF4F9B17AD2B417BE66C3710"

// NIST SP 800-38B, the examples of its appendix D as corrected: AES-128 (also RFC 4493, §4), AES-192, AES-256, three-key and two-key TDEA.
func TestPublished(t *testing.T) {
	for _, c := range []struct {
		key    string
		tdea   bool
		length int
		want   string
	}{
		{"2B7E151628AED2A6ABF7158809CF4F3C", false, 0, "BB1D6929E95937287FA37D129B756746"},
		{"2B7E151628AED2A6ABF7158809CF4F3C", false, 16, "070A16B46B4D4144F79BDD9DD04A287C"},
		{"2B7E151628AED2A6ABF7158809CF4F3C", false, 40, "DFA66747DE9AE63030CA32611497C827"},
		{"2B7E151628AED2A6ABF7158809CF4F3C", false, 64, "51F0BEBF7E3B9D92FC49741779363CFE"},
		{"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B", false, 0, "D17DDF46ADAACDE531CAC483DE7A9367"},
		{"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B", false, 16, "9E99A7BF31E710900662F65E617C5184"},
		{"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B", false, 40, "8A1DE5BE2EB31AAD089A82E6EE908B0E"},
		{"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B", false, 64, "A1D5DF0EED790F794D77589659F39A11"},
		{"603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4", false, 0, "028962F61B7BF89EFC6B551F4667D983"},
		{"603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4", false, 16, "28A7023F452E8F82BD4BF28D8C37C35C"},
		{"603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4", false, 40, "AAF3D8F1DE5640C232F5B169B9C911E6"},
		{"603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4", false, 64, "E1992190549F6ED5696A2C056C315410"},
		{"8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5", true, 0, "B7A688E122FFAF95"},
		{"8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5", true, 8, "8E8F293136283797"},
		{"8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5", true, 20, "743DDBE0CE2DC2ED"},
		{"8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5", true, 32, "33E6B1092400EAE5"},
		{"4CF15134A2850DD58A3D10BA80570D384CF15134A2850DD5", true, 0, "BD2EBF9A3BA00361"},
		{"4CF15134A2850DD58A3D10BA80570D384CF15134A2850DD5", true, 8, "4FF2AB813C53CE83"},
		{"4CF15134A2850DD58A3D10BA80570D384CF15134A2850DD5", true, 20, "62DD1B471902BD4E"},
		{"4CF15134A2850DD58A3D10BA80570D384CF15134A2850DD5", true, 32, "31B1E431DABC4EB8"},
	} {
		open := aes.NewCipher
		if c.tdea {
			open = des.NewTripleDESCipher
		}
		block, err := open(unhex(t, c.key))
		require.NoError(t, err)
		assert.Equal(t, unhex(t, c.want), Sum(block, unhex(t, message)[:c.length]), "%s, %d bytes", c.key, c.length)
	}
}

// The key check value of X9.24-1 for AES, over a block of zeros, as X9.143:2021 §8.1 gives it of its example's key.
func TestPublishedCheckValue(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "3F419E1CB7079442AA37474C2EFBF8B8"))
	require.NoError(t, err)
	assert.Equal(t, unhex(t, "08793E25AB"), Sum(block, make([]byte, 16))[:5])
}

// The message is left alone, and any byte of it counts.
func TestEveryByteCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom([]suite.Algorithm{suite.TDES, suite.SM4}).Draw(t, "alg")
		block, err := alg.New(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
		require.NoError(t, err)
		data := rapid.SliceOfN(rapid.Byte(), 1, 70).Draw(t, "data")
		before := bytes.Clone(data)
		mac := Sum(block, data)
		require.Equal(t, before, data)
		require.Len(t, mac, alg.BlockSize())
		data[rapid.IntRange(0, len(data)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		require.NotEqual(t, mac, Sum(block, data))
		require.NotEqual(t, mac, Sum(block, append(bytes.Clone(before), 0x80)))
	})
}

type oddCipher struct{ cipher.Block }

func (oddCipher) BlockSize() int      { return 12 }
func (oddCipher) Encrypt(_, _ []byte) {}

func TestOtherBlockSizesPanic(t *testing.T) {
	assert.Panics(t, func() { Sum(oddCipher{}, nil) })
}
