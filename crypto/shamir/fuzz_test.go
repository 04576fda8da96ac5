package shamir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParse: no text makes Parse panic, and what it takes reads the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		defer s.Wipe()
		written := s.Encode()
		defer written.Wipe()
		again, err := Parse(written.Reveal("test"))
		require.NoError(t, err)
		defer again.Wipe()
		assert.Equal(t, s.String(), again.String())
		assert.True(t, s.value.Equal(again.value))
	})
}

// A fuzz target that starts from nothing tests nothing in a short run.
func TestFuzzParseHasSeeds(t *testing.T) {
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzParse"))
	require.NoError(t, err)
	assert.NotEmpty(t, seeds)
}
