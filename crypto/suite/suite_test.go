package suite

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// Published numbers: NIST SP 800-20 (Table A.1, variable plaintext, K1 = K2 = K3), FIPS 81 (Table B1, single DES), the
// two-key value of the key 0123456789ABCDEF FEDCBA9876543210 that HSM manuals use, and GB/T 32907-2016 (example 1).
func TestKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		source          string
		alg             Algorithm
		key, clear, out string
	}{
		{"SP 800-20", TDES, "0101010101010101 0101010101010101", "8000000000000000", "95F8A5E5DD31D900"},
		{"SP 800-20", TDES, "0101010101010101 0101010101010101", "0000000000000001", "166B40B44ABA4BD6"},
		{"FIPS 81", TDES, "0123456789ABCDEF 0123456789ABCDEF", "4E6F772069732074", "3FA40E8A984D4815"},
		{"FIPS 81", TDES, "0123456789ABCDEF 0123456789ABCDEF", "68652074696D6520", "6A271787AB8883F9"},
		{"FIPS 81", TDES, "0123456789ABCDEF 0123456789ABCDEF", "666F7220616C6C20", "893D51EC4B563B53"},
		{"two-key", TDES, "0123456789ABCDEF FEDCBA9876543210", "0000000000000000", "08D7B4FB629D0885"},
		{"GB/T 32907", SM4, "0123456789ABCDEFFEDCBA9876543210", "0123456789ABCDEFFEDCBA9876543210", "681EDF34D206965E86B3E94F536E4246"},
	} {
		block, err := c.alg.New(unhex(t, c.key))
		require.NoError(t, err)
		require.Equal(t, c.alg.BlockSize(), block.BlockSize())
		out := make([]byte, block.BlockSize())
		block.Encrypt(out, unhex(t, c.clear))
		assert.Equal(t, unhex(t, c.out), out, c.source)
		block.Decrypt(out, out)
		assert.Equal(t, unhex(t, c.clear), out, c.source)
	}
}

// GB/T 32907-2016, example 2: a million encryptions of one block.
func TestSM4MillionTimes(t *testing.T) {
	state := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	block, err := SM4.New(state)
	require.NoError(t, err)
	for range 1_000_000 {
		block.Encrypt(state, state)
	}
	assert.Equal(t, unhex(t, "595298C7C6FD271F0402F804C33D3F66"), state)
}

// A key K‖K is single DES under K (EPURSE.md §3); parity bits do not count.
func TestDoubledKeyIsSingleDES(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "key")
		clear := rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "block")
		single, err := NewDES(key)
		require.NoError(t, err)
		odd := bytes.Clone(key)
		for i := range odd {
			odd[i] ^= rapid.Byte().Draw(t, "parity") & 1
		}
		double, err := TDES.New(append(bytes.Clone(key), odd...))
		require.NoError(t, err)
		a, b := make([]byte, 8), make([]byte, 8)
		single.Encrypt(a, clear)
		double.Encrypt(b, clear)
		require.Equal(t, a, b)
	})
}

func TestNewLeavesItsKeyAlone(t *testing.T) {
	for _, alg := range []Algorithm{TDES, SM4} {
		key := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
		before := bytes.Clone(key)
		block, err := alg.New(key)
		require.NoError(t, err)
		one, two := make([]byte, alg.BlockSize()), make([]byte, alg.BlockSize())
		block.Encrypt(one, make([]byte, alg.BlockSize()))
		assert.Equal(t, before, key)
		clear(key) // a caller wipes its key while the cipher lives on
		block.Encrypt(two, make([]byte, alg.BlockSize()))
		assert.Equal(t, one, two)
	}
}

func TestAlgorithmNames(t *testing.T) {
	for _, alg := range []Algorithm{TDES, SM4} {
		again, err := Parse(alg.String())
		require.NoError(t, err)
		assert.Equal(t, alg, again)
		encoded, err := json.Marshal(alg)
		require.NoError(t, err)
		var decoded Algorithm
		require.NoError(t, json.Unmarshal(encoded, &decoded))
		assert.Equal(t, alg, decoded)
	}
	assert.Equal(t, "3DES", TDES.String())
	assert.Equal(t, "SM4", SM4.String())
	for _, name := range []string{"", "3des", "TDES", "DES", "sm4", "AES", " SM4"} {
		_, err := Parse(name)
		require.ErrorContains(t, err, `expected "3DES" or "SM4"`, name)
		var alg Algorithm
		require.Error(t, alg.UnmarshalText([]byte(name)))
		assert.False(t, alg.Valid())
	}
}

func TestZeroAlgorithmIsInvalid(t *testing.T) {
	for _, alg := range []Algorithm{0, 3, 255} {
		assert.False(t, alg.Valid())
		assert.Zero(t, alg.BlockSize())
		_, err := alg.New(make([]byte, KeySize))
		require.ErrorContains(t, err, "invalid algorithm")
		_, err = alg.MarshalText()
		require.ErrorContains(t, err, "invalid algorithm")
	}
}

// Single-DES and three-key keys are refused, without their bytes in the error.
func TestKeyLengths(t *testing.T) {
	for _, n := range []int{0, 8, 15, 17, 24, 32} {
		for _, alg := range []Algorithm{TDES, SM4} {
			_, err := alg.New(bytes.Repeat([]byte{0xAB}, n))
			require.ErrorContains(t, err, "expected 16")
			assert.NotContains(t, strings.ToLower(err.Error()), "abab")
		}
	}
	_, err := NewDES(make([]byte, 16))
	require.Error(t, err)
}
