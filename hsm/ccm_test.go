package hsm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// goEncryption is C_Encrypt by Go's own AES.
func goEncryption(t *testing.T, key []byte) encryption {
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	return func(mechanism uint, iv, in, out []byte) error {
		switch mechanism {
		case pkcs11.CKM_AES_CBC:
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, in)
		case pkcs11.CKM_AES_ECB:
			for at := 0; at < len(in); at += aesBlock {
				block.Encrypt(out[at:], in[at:])
			}
		default:
			return fmt.Errorf("mechanism %#x", mechanism)
		}
		return nil
	}
}

// CCM composed of ECB and CBC is what openssl makes, and opens as it was sealed and no other way.
func TestCCM(t *testing.T) {
	encrypt := goEncryption(t, unhex(testSealKey))
	iv, aad, plain := unhex(testSealIV), unhex(testSealAAD), unhex(testSealPlain)
	sealed, opened := make([]byte, cipherSize), make([]byte, aesBlock)
	require.NoError(t, encrypt.seal(iv, aad, plain, sealed))
	assert.Equal(t, unhex(testSealed[sealCCM]), sealed)
	require.NoError(t, encrypt.open(iv, aad, sealed, opened))
	assert.Equal(t, plain, opened)

	refused := func(iv, aad, sealed []byte) {
		t.Helper()
		copy(opened, plain)
		assert.ErrorIs(t, encrypt.open(iv, aad, sealed, opened), errTag)
		assert.Equal(t, make([]byte, aesBlock), opened, "nothing of it is left")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		refused(iv, aad, changed)
	}
	for i := range iv {
		changed := bytes.Clone(iv)
		changed[i] ^= 1
		refused(changed, aad, sealed)
	}
	for n := range len(aad) {
		refused(iv, aad[:n], sealed)
	}
	refused(iv, append(bytes.Clone(aad), 0), sealed)
}

// The associated data of any label's length are sealed over, to the last byte.
func TestCCMOfAnyLabel(t *testing.T) {
	encrypt := goEncryption(t, unhex(testSealKey))
	iv, plain := unhex(testSealIV), unhex(testSealPlain)
	sealed, opened := make([]byte, cipherSize), make([]byte, aesBlock)
	for n := 1; n < 200; n++ {
		aad := bytes.Repeat([]byte{'a'}, n)
		require.NoError(t, encrypt.seal(iv, aad, plain, sealed))
		require.NoError(t, encrypt.open(iv, aad, sealed, opened))
		require.Equal(t, plain, opened)
		aad[n-1] ^= 1
		require.ErrorIs(t, encrypt.open(iv, aad, sealed, opened), errTag, n)
	}
}

// A token without AES-GCM keeps masters of the PROCESS boundary all the same, under a sealing key that only encrypts; what one way sealed
// the other does not take for its own.
func TestProcessWithoutGCM(t *testing.T) {
	made := hsmtest.NewToken(t)
	config := configOf(made)
	config.Profile.NoGCM = true
	first, err := Open(context.Background(), config)
	require.NoError(t, err)
	spec := specOf(t, "load", keyderive.KindLoad, suite.SM4, keyderive.BoundaryProcess, 1, loadMaster)
	contractComputes(t, suite.SM4, importKey(t, first, spec, loadMaster))
	require.NoError(t, first.Ready(context.Background()))
	onAnchor(t, first, func(s *session) error {
		_, err := findKEK(s, sealCCM)
		assert.NoError(t, err)
		_, err = findKEK(s, sealGCM)
		assert.ErrorIs(t, err, ErrAttributes)
		return nil
	})
	require.NoError(t, first.Close())

	config.Keys = []KeySpec{spec}
	second := openToken(t, config)
	key, err := second.Key("load")
	require.NoError(t, err)
	contractComputes(t, suite.SM4, key)
	require.NoError(t, second.Close())

	config.Profile.NoGCM = false
	third, err := Open(context.Background(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, third.Close()) }()
	_, err = third.Key("load")
	assert.ErrorIs(t, err, ErrAttributes)
}
