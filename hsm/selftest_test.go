package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// The known answers, computed again with Go's own ciphers.
func TestKnownAnswers(t *testing.T) {
	message, iv := unhex(testMessage), unhex(testIV)
	ecb := func(alg suite.Algorithm, key, in []byte) []byte {
		block, err := alg.New(key)
		require.NoError(t, err)
		out := make([]byte, len(in))
		for at := 0; at < len(in); at += block.BlockSize() {
			block.Encrypt(out[at:], in[at:])
		}
		return out
	}
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		key := unhex(testKey)
		derived := ecb(alg, key, message)
		assert.Equal(t, unhex(answers[feature{alg, useECB}]), derived)
		assert.Equal(t, unhex(answers[feature{alg, useDerive}]), ecb(alg, derived, message))
		block, err := alg.New(key)
		require.NoError(t, err)
		chained := bytes.Clone(message)
		cipher.NewCBCEncrypter(block, iv[:alg.BlockSize()]).CryptBlocks(chained, chained)
		assert.Equal(t, unhex(answers[feature{alg, useCBC}]), chained)
	}
	folded := unhex(testLeft)
	for i, b := range unhex(testRight) {
		folded[i] ^= b
	}
	assert.Equal(t, unhex(answers[feature{suite.TDES, useXOR}]), ecb(suite.TDES, folded, message))

	block, err := aes.NewCipher(unhex(testSealKey))
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	sealed := gcm.Seal(nil, unhex(testSealIV), unhex(testSealPlain), unhex(testSealAAD))
	assert.Equal(t, testSealed[sealGCM], strings.ToUpper(hex.EncodeToString(sealed)))
}
