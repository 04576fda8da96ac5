package pad

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// ISO/IEC 9797-1 padding method 2, and the partial padding of EPURSE.md §6, for both block sizes.
func TestPadding(t *testing.T) {
	for _, c := range []struct {
		data            string
		size            int
		always, partial string
	}{
		{"", 8, "8000000000000000", ""},
		{"01", 8, "0180000000000000", "0180000000000000"},
		{"01020304050607", 8, "0102030405060780", "0102030405060780"},
		{"0102030405060708", 8, "01020304050607088000000000000000", "0102030405060708"},
		{"0102030405060708", 16, "01020304050607088000000000000000", "01020304050607088000000000000000"},
		{"80", 8, "8080000000000000", "8080000000000000"},
		{"000000", 8, "0000008000000000", "0000008000000000"},
	} {
		data, err := hex.DecodeString(c.data)
		require.NoError(t, err)
		assert.Equal(t, c.always, hex.EncodeToString(Always(data, c.size)), c.data)
		assert.Equal(t, c.partial, hex.EncodeToString(Partial(data, c.size)), c.data)
	}
}

// Always is whole, grows by 1 to size bytes, and can be undone: no two messages pad to one.
func TestAlwaysIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{8, 16}).Draw(t, "size")
		data := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "data")
		padded := Always(data, size)
		require.Zero(t, len(padded)%size)
		require.Greater(t, len(padded), len(data))
		require.LessOrEqual(t, len(padded), len(data)+size)
		trimmed := bytes.TrimRight(padded, "\x00")
		require.Equal(t, byte(0x80), trimmed[len(trimmed)-1])
		require.True(t, bytes.Equal(data, trimmed[:len(trimmed)-1]))

		partial := Partial(data, size)
		if len(data)%size == 0 {
			require.True(t, bytes.Equal(data, partial))
		} else {
			require.Equal(t, padded, partial)
		}
		require.Equal(t, append([]byte("head"), padded...), Append([]byte("head"), data, size))
	})
}

// A caller's spare capacity is what follows the data in its own buffer: padding must not touch it.
func TestPaddingLeavesTheCallersBufferAlone(t *testing.T) {
	for _, pad := range []func([]byte, int) []byte{Always, Partial} {
		for _, n := range []int{3, 8} {
			buffer := bytes.Repeat([]byte{0xEE}, 32)
			before := bytes.Clone(buffer)
			padded := pad(buffer[:n], 8)
			assert.Equal(t, before, buffer)
			padded[0] = 0
			assert.Equal(t, before, buffer, "the result is fresh memory")
		}
	}
}
