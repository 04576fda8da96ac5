package hsm

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Weak keys undo themselves, and semi-weak ones undo another of the list: so says the cipher, not the list.
func TestWeakHalvesAreWeak(t *testing.T) {
	require.Len(t, deskey.WeakParts(), 16)
	text := []byte("8 bytes.")
	undone := 0
	for _, one := range deskey.WeakParts() {
		for _, b := range binary.BigEndian.AppendUint64(nil, one) {
			assert.Equal(t, 1, bits.OnesCount8(b)%2, "odd parity")
		}
		first, err := suite.NewDES(binary.BigEndian.AppendUint64(nil, one))
		require.NoError(t, err)
		for _, other := range deskey.WeakParts() {
			second, err := suite.NewDES(binary.BigEndian.AppendUint64(nil, other))
			require.NoError(t, err)
			out := make([]byte, 8)
			first.Encrypt(out, text)
			second.Encrypt(out, out)
			if string(out) == string(text) {
				undone++
			}
		}
	}
	assert.Equal(t, 16, undone, "each is undone by one")
	assert.Len(t, weakCheckValues(), 16)
}

func TestWeakMastersAreRefused(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	for _, weak := range deskey.WeakParts() {
		for _, parity := range []uint64{0, 0x0101010101010101} {
			half := fmt.Sprintf("%016X", weak^parity)
			for _, digits := range []string{half + loadMaster[16:], loadMaster[:16] + half} {
				key := secretOf(t, digits)
				spec := specOf(t, "weak", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, digits)
				assert.ErrorContains(t, token.ImportMaster(context.Background(), spec, key), "weak", digits)
				key.Wipe()
			}
		}
	}
	assert.Zero(t, durable(t, token))
	assert.False(t, deskey.HasWeakPart(bytesOf(t, loadMaster)))
}

func TestOddParity(t *testing.T) {
	for i := range 256 {
		key := []byte{byte(i)}
		deskey.SetOddParity(key)
		assert.Equal(t, 1, bits.OnesCount8(key[0])%2)
		assert.Equal(t, byte(i)&0xFE, key[0]&0xFE)
	}
}

// The look at the halves of a derived key sees what is weak or equal, without a byte of them: the base is found by trying, for the answer to
// be a weak key is never by chance.
func TestWeakHalvesAreSeenInTheToken(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	d, err := token.config.Profile.dialect(suite.TDES)
	require.NoError(t, err)
	block, err := suite.TDES.New(bytesOf(t, loadMaster))
	require.NoError(t, err)
	var good [8]byte
	copy(good[:], "nothing!")
	dataOf := func(half uint64) (data [8]byte) { // which derives the half
		block.Decrypt(data[:], binary.BigEndian.AppendUint64(nil, half))
		return data
	}
	onAnchor(t, token, func(s *session) error {
		value := d.value(secret.Take(bytesOf(t, loadMaster)))
		defer value.Wipe()
		base, err := s.create(d.keyType, mayDerive, name{}, value)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.destroy(base)) }()
		look := func(left, right [8]byte) bool {
			weak, err := s.weakDerived(d, base, [16]byte(append(left[:], right[:]...)))
			require.NoError(t, err)
			return weak
		}
		assert.False(t, look(good, dataOf(0x1122334455667788)))
		assert.True(t, look(good, good), "equal")
		assert.True(t, look(dataOf(0x0123456789ABCDEF), dataOf(0x0022446688AACCEE)), "equal but for parity")
		for _, weak := range deskey.WeakParts() {
			assert.True(t, look(good, dataOf(weak)))
			assert.True(t, look(dataOf(weak), good))
		}
		return nil
	})
	assert.Zero(t, objects(t, token))
}

// RFC 3394 §4.3, and what is not whole.
func TestKeyWrap(t *testing.T) {
	block, err := aes.NewCipher(bytesOf(t, testWrapKey))
	require.NoError(t, err)
	encrypt := func(in, out []byte) error { block.Encrypt(out, in); return nil }
	decrypt := func(in, out []byte) error { block.Decrypt(out, in); return nil }
	key := secretOf(t, testWrapData)
	defer key.Wipe()
	wrapped, err := keyWrap(encrypt, key)
	require.NoError(t, err)
	assert.Equal(t, bytesOf(t, testWrapped), wrapped)
	opened, err := keyUnwrap(decrypt, wrapped)
	require.NoError(t, err)
	assert.True(t, opened.Equal(key))
	opened.Wipe()
	for i := range wrapped {
		wrapped[i] ^= 0x40
		_, err := keyUnwrap(decrypt, wrapped)
		assert.ErrorIs(t, err, errUnwrap)
		wrapped[i] ^= 0x40
	}
	for _, n := range []int{0, 16, 23, 25, 32} {
		_, err := keyUnwrap(decrypt, make([]byte, n))
		assert.ErrorIs(t, err, errUnwrap, n)
	}
	fails := func([]byte, []byte) error { return errTag }
	_, err = keyWrap(fails, key)
	assert.ErrorIs(t, err, errTag)
	_, err = keyUnwrap(fails, wrapped)
	assert.ErrorIs(t, err, errTag)
}
