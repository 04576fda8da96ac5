package retailmac

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/pad"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// under opens a 16-byte key as Sum needs it: L‖L and L‖R.
func under(t require.TestingT, key []byte) (left, whole CBC) {
	doubled := append(bytes.Clone(key[:8]), key[:8]...)
	l, err := suite.TDES.New(doubled)
	require.NoError(t, err)
	w, err := suite.TDES.New(key)
	require.NoError(t, err)
	return Under(l), Under(w)
}

// ISO/IEC 9797-1:1999, annex A: MAC algorithm 3 with DES and padding method 2.
func TestISO9797Algorithm3(t *testing.T) {
	left, whole := under(t, unhex(t, "0123456789ABCDEF FEDCBA9876543210"))
	for data, want := range map[string]string{
		"Now is the time for all ": "E9086230CA3BE796",
		"Now is the time for it":   "5A692CE64F404145",
	} {
		mac, err := Sum(left, whole, make([]byte, 8), []byte(data))
		require.NoError(t, err)
		assert.Equal(t, unhex(t, want), mac, data)
	}
}

// The two forms are one: single-DES CBC under L over every block, then decryption under R and encryption under L.
func TestSumIsAlgorithm3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key")
		iv := rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "iv")
		data := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "data")
		l, err := suite.NewDES(key[:8])
		require.NoError(t, err)
		r, err := suite.NewDES(key[8:])
		require.NoError(t, err)
		want, err := cbcmac.Chain(l, iv, pad.Always(data, 8))
		require.NoError(t, err)
		r.Decrypt(want, want)
		l.Encrypt(want, want)

		left, whole := under(t, key)
		got, err := Sum(left, whole, iv, data)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// A message of one block uses the whole key alone, and an engine's error comes through.
func TestSumAsksForWhatItNeeds(t *testing.T) {
	away := errors.New("away")
	absent := func(_, _ []byte) ([]byte, error) { return nil, away }
	left, whole := under(t, make([]byte, 16))
	_, err := Sum(absent, whole, make([]byte, 8), make([]byte, 7))
	require.NoError(t, err)
	_, err = Sum(absent, whole, make([]byte, 8), make([]byte, 8))
	require.ErrorIs(t, err, away)
	_, err = Sum(left, absent, make([]byte, 8), make([]byte, 8))
	require.ErrorIs(t, err, away)
}
