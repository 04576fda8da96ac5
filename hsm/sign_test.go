package hsm

import (
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// The pair is made once, is found by another process's token, and signs what its public key verifies.
func TestSigningKey(t *testing.T) {
	ctx := context.Background()
	made := hsmtest.NewToken(t)
	token := openToken(t, configOf(made))
	key, err := token.SigningKey(ctx, "audit")
	require.NoError(t, err)
	message := []byte("log\n1\nAAAA\n")
	signature, err := key.Sign(ctx, message)
	require.NoError(t, err)
	assert.True(t, ed25519.Verify(key.Public(), message, signature))
	again, err := key.Sign(ctx, message)
	require.NoError(t, err)
	assert.Equal(t, signature, again, "RFC 8032 draws nothing")

	same, err := token.SigningKey(ctx, "audit")
	require.NoError(t, err)
	assert.Equal(t, key.Public(), same.Public())
	other, err := token.SigningKey(ctx, "reports")
	require.NoError(t, err)
	assert.NotEqual(t, key.Public(), other.Public())
	for _, name := range []string{"", "Audit", "a/b", "a\x00"} {
		_, err := token.SigningKey(ctx, name)
		require.Error(t, err, "%q", name)
	}

	onAnchor(t, token, func(s *session) error {
		private, err := s.find(pkcs11.CKO_PRIVATE_KEY, "pursekeeper/audit")
		require.NoError(t, err)
		_, _, err = s.attribute(private, pkcs11.CKA_VALUE)
		require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE))
		return nil
	})
}

// The key is found anew in each generation.
func TestSigningKeyOutlivesAGeneration(t *testing.T) {
	token, control, _ := faulty(t, nil)
	key, err := token.SigningKey(context.Background(), "audit")
	require.NoError(t, err)
	control.LoseSessions()
	require.Eventually(t, func() bool {
		_, err := key.Sign(context.Background(), []byte("m"))
		if err != nil {
			require.ErrorIs(t, err, ErrUnavailable)
		}
		return err == nil && token.Stats().Generation > 1
	}, recoveryLimit, tick)
	rulesKept(t, control)
}

// A token that has no Ed25519 says so, for a development signer to sign in software.
func TestTokenWithoutEd25519(t *testing.T) {
	token, control, _ := faulty(t, nil)
	control.Set(hsmtest.Fault{Function: "C_GenerateKeyPair", Code: pkcs11.CKR_MECHANISM_INVALID})
	_, err := token.SigningKey(context.Background(), "audit")
	require.ErrorIs(t, err, keyderive.ErrUnsupported)
	control.Clear()
	_, err = token.SigningKey(context.Background(), "audit")
	require.NoError(t, err)
	rulesKept(t, control)
}

// A pair whose halves do not belong together signs nothing that leaves, and a rest of a making is made anew.
func TestWrongPairs(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	first, err := token.SigningKey(ctx, "audit")
	require.NoError(t, err)
	destroy := func(class uint) {
		onAnchor(t, token, func(s *session) error {
			object, err := s.find(class, "pursekeeper/audit")
			require.NoError(t, err)
			return s.destroy(object)
		})
	}
	destroy(pkcs11.CKO_PRIVATE_KEY)
	_, err = first.Sign(ctx, []byte("m"))
	require.ErrorIs(t, err, ErrKeyNotFound)
	second, err := token.SigningKey(ctx, "audit")
	require.NoError(t, err)
	assert.NotEqual(t, first.Public(), second.Public())
	_, err = first.Sign(ctx, []byte("m"))
	require.ErrorIs(t, err, ErrSelfTest, "another key under the label")

	destroy(pkcs11.CKO_PUBLIC_KEY)
	_, err = token.SigningKey(ctx, "audit")
	require.ErrorIs(t, err, ErrKeyNotFound)
	require.ErrorContains(t, err, "public key of a private one")

	onAnchor(t, token, func(s *session) error {
		_, _, err := s.makePair("pursekeeper/double")
		require.NoError(t, err)
		_, _, err = s.makePair("pursekeeper/double")
		return err
	})
	_, err = token.SigningKey(ctx, "double")
	require.ErrorIs(t, err, ErrAmbiguous)
}

// A private key that may leave the token is not used.
func TestOpenSigningKeyIsRefused(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	onAnchor(t, token, func(s *session) error {
		flag := pkcs11.NewAttribute
		_, _, err := s.module.ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmECEdwardsKeyPairGen, nil)},
			[]*pkcs11.Attribute{flag(pkcs11.CKA_EC_PARAMS, ed25519Curve), flag(pkcs11.CKA_TOKEN, true), flag(pkcs11.CKA_LABEL, "pursekeeper/audit")},
			[]*pkcs11.Attribute{flag(pkcs11.CKA_TOKEN, true), flag(pkcs11.CKA_LABEL, "pursekeeper/audit"), flag(pkcs11.CKA_EXTRACTABLE, true),
				flag(pkcs11.CKA_SIGN, true)})
		return err
	})
	_, err := token.SigningKey(context.Background(), "audit")
	require.ErrorIs(t, err, ErrAttributes)
}
