package cbcmac

import (
	"crypto/cipher"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/pad"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

func singleDES(t testing.TB) cipher.Block {
	t.Helper()
	block, err := suite.NewDES(unhex(t, "0123456789ABCDEF"))
	require.NoError(t, err)
	return block
}

// ISO/IEC 9797-1:1999, annex A: MAC algorithm 1 with DES and padding method 2.
func TestISO9797Algorithm1(t *testing.T) {
	for data, want := range map[string]string{
		"Now is the time for all ": "10E1F0F1",
		"Now is the time for it":   "A924C721",
	} {
		last, err := Sum(singleDES(t), nil, []byte(data))
		require.NoError(t, err)
		mac := Leftmost(last)
		assert.Equal(t, unhex(t, want), mac[:], data)
	}
}

// FIPS 113, appendix: the data authentication code of "7654321 Now is the time for ", zero-padded (method 1).
func TestFIPS113(t *testing.T) {
	padded := append([]byte("7654321 Now is the time for "), 0, 0, 0, 0)
	last, err := Chain(singleDES(t), nil, padded)
	require.NoError(t, err)
	assert.Equal(t, unhex(t, "F1D30F6849312CA4"), last)
}

// draft-ribose-cfrg-sm4, appendix A.2: the last block of a CBC encryption from an IV is the chain.
func TestSM4CBC(t *testing.T) {
	block, err := suite.SM4.New(unhex(t, "0123456789ABCDEFFEDCBA9876543210"))
	require.NoError(t, err)
	last, err := Chain(block, unhex(t, "000102030405060708090A0B0C0D0E0F"),
		unhex(t, "AAAAAAAABBBBBBBBCCCCCCCCDDDDDDDD EEEEEEEEFFFFFFFFAAAAAAAABBBBBBBB"))
	require.NoError(t, err)
	assert.Equal(t, unhex(t, "4CB7016951909226979B0D15DC6A8F6D"), last)
}

// The chain is the last block of the standard library's CBC, and can be taken up where it was left.
func TestChainIsCBC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom([]suite.Algorithm{suite.TDES, suite.SM4}).Draw(t, "alg")
		size := alg.BlockSize()
		block, err := alg.New(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
		require.NoError(t, err)
		iv := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "iv")
		data := rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "data")
		padded := pad.Always(data, size)
		whole := make([]byte, len(padded))
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(whole, padded)

		last, err := Sum(block, iv, data)
		require.NoError(t, err)
		require.Equal(t, whole[len(whole)-size:], last)
		if cut := rapid.IntRange(0, len(padded)/size-1).Draw(t, "cut") * size; cut > 0 {
			head, err := Chain(block, iv, padded[:cut])
			require.NoError(t, err)
			tail, err := Chain(block, head, padded[cut:])
			require.NoError(t, err)
			require.Equal(t, last, tail)
		}
	})
}

func TestChainRefuses(t *testing.T) {
	block := singleDES(t)
	for _, n := range []int{0, 1, 7, 9} {
		_, err := Chain(block, nil, make([]byte, n))
		require.ErrorContains(t, err, "cbc-mac input: ")
	}
	for _, n := range []int{0, 7, 16} {
		_, err := Chain(block, make([]byte, n), make([]byte, 8))
		require.ErrorContains(t, err, "cbc-mac iv: ")
	}
}

// Neither data nor IV is written to.
func TestSumLeavesItsInputsAlone(t *testing.T) {
	iv, buffer := make([]byte, 8), []byte("Now is the time for all good men")
	_, err := Sum(singleDES(t), iv, buffer[:10])
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 8), iv)
	assert.Equal(t, "Now is the time for all good men", string(buffer))
}

func TestEqualComparesEveryByte(t *testing.T) {
	a := [Size]byte{1, 2, 3, 4}
	assert.True(t, Equal(a, a))
	for i := range a {
		b := a
		b[i] ^= 0x80
		assert.False(t, Equal(a, b), i)
	}
}
