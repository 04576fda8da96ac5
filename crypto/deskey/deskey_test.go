package deskey

import (
	"crypto/des"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name, key string
		want      error
	}{
		{"two good parts", "0123456789ABCDEFFEDCBA9876543210", nil},
		{"three good parts", "0123456789ABCDEFFEDCBA98765432108080808080808080", nil},
		{"single DES", "0123456789ABCDEF", nil},
		{"equal halves", "0123456789ABCDEF0123456789ABCDEF", ErrEqualParts},
		{"equal halves but for parity", "0123456789ABCDEF0022446688AACCEE", ErrEqualParts},
		{"first and last of three", "0123456789ABCDEFFEDCBA98765432100123456789ABCDEF", ErrEqualParts},
		{"weak left", "0101010101010101FEDCBA9876543210", ErrWeak},
		{"weak right, parity off", "0123456789ABCDEF0000000000000000", ErrWeak},
		{"semi-weak", "01FE01FE01FE01FEFEDCBA9876543210", ErrWeak},
		{"too short", "0123456789ABCD", ErrLength},
		{"too long", "0123456789ABCDEFFEDCBA98765432108080808080808080FEDCBA9876543211", ErrLength},
		{"none", "", ErrLength},
	}
	for _, test := range tests {
		key, err := hex.DecodeString(test.key)
		require.NoError(t, err)
		assert.Equal(t, test.want, Check(key), test.name)
	}
}

// A weak key is its own inverse, and a semi-weak one the inverse of another of the list: so none of the sixteen is mistyped.
func TestTheListIsOfWeakKeys(t *testing.T) {
	seen := map[uint64]bool{}
	for _, w := range weakParts {
		assert.False(t, seen[w])
		seen[w] = true
		key := binary.BigEndian.AppendUint64(nil, w)
		assert.Empty(t, EvenBytes(key))
		assert.Equal(t, ErrWeak, Check(key))
		undone := 0
		for _, other := range weakParts {
			first, err := des.NewCipher(key)
			require.NoError(t, err)
			second, err := des.NewCipher(binary.BigEndian.AppendUint64(nil, other))
			require.NoError(t, err)
			block := []byte("EIGHTBYT")
			first.Encrypt(block, block)
			second.Encrypt(block, block)
			if string(block) == "EIGHTBYT" {
				undone++
			}
		}
		assert.Equal(t, 1, undone, "%016X", w)
	}
}

func TestParity(t *testing.T) {
	key := []byte{0x00, 0x01, 0x03, 0xFE, 0xFF, 0x80, 0x81}
	assert.Equal(t, []int{1, 3, 5, 7}, EvenBytes(key))
	SetOddParity(key)
	assert.Equal(t, []byte{0x01, 0x01, 0x02, 0xFE, 0xFE, 0x80, 0x80}, key)
	assert.Empty(t, EvenBytes(key))
}
