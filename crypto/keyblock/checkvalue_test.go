package keyblock

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The check values that X9.143:2021 writes into its examples 8.5 and 8.6 (optional block KP), that of its example 8.1, and the two-key
// one of TR-31:2018 A.7.2.2, as openemv/tr31 has them.
func TestPublishedCheckValues(t *testing.T) {
	for _, c := range []struct {
		cipher       Cipher
		digits, want string
	}{
		{CipherAES128, "FA36E44278DB3AB5F298F9F7DA8F1F88", "D77F00"},
		{CipherAES256, keyD, "233155"},
		{CipherAES128, "3F419E1CB7079442AA37474C2EFBF8B8", "08793E"},
		{CipherTDES2, "3F419E1CB7079442AA37474C2EFBF8B8", "57C409"},
	} {
		v, err := CheckValue(c.cipher, secretOf(t, c.digits))
		require.NoError(t, err)
		assert.Equal(t, c.want, v.String())
	}
	_, err := CheckValue(CipherTDES2, secretOf(t, "0123456789ABCDEF0123456789ABCDEF"))
	require.ErrorIs(t, err, ErrProtector)
	_, err = CheckValue(0, secretOf(t, "00"))
	require.ErrorIs(t, err, ErrProtector)
}
