package kcv

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Check values that every HSM manual gives: the all-zero keys, and 0123456789ABCDEF alone and with its reverse.
func TestKnownCheckValues(t *testing.T) {
	for _, c := range []struct {
		alg       suite.Algorithm
		key, want string
	}{
		{suite.TDES, "00000000000000000000000000000000", "8CA64D"},
		{suite.TDES, "0123456789ABCDEF0123456789ABCDEF", "D5D44F"},
		{suite.TDES, "0123456789ABCDEFFEDCBA9876543210", "08D7B4"},
		{suite.SM4, "00000000000000000000000000000000", "9F1F7B"},
	} {
		key, err := hex.DecodeString(c.key)
		require.NoError(t, err)
		block, err := c.alg.New(key)
		require.NoError(t, err)
		assert.Equal(t, c.want, Of(block).String())
	}
}

func TestParse(t *testing.T) {
	v, err := Parse("8ca64D")
	require.NoError(t, err)
	assert.Equal(t, Value{0x8C, 0xA6, 0x4D}, v)
	for _, text := range []string{"", "8CA6", "8CA64", "8CA64DE9", "8CA64G", "8C A64D", " 8CA64D"} {
		_, err := Parse(text)
		require.ErrorContains(t, err, "expected 6 hex digits", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := Parse(text); err == nil {
			assert.Equal(t, strings.ToUpper(text), v.String())
		}
	})
}

// A fuzz target that starts from nothing tests nothing in a short run.
func TestFuzzParseHasSeeds(t *testing.T) {
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzParse"))
	require.NoError(t, err)
	assert.NotEmpty(t, seeds)
}
