package hsm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// cardKeyInMemory is what the schedule in memory derives for the bench's card.
func cardKeyInMemory(t *testing.T, alg suite.Algorithm, path keyderive.Path) []byte {
	t.Helper()
	value := secretOf(t, loadMaster)
	defer value.Wipe()
	key, err := keyderive.InMemory(alg, value)
	require.NoError(t, err)
	issued, err := keyderive.NewMaster(key, path).DangerousIssue(context.Background(), benchCard)
	require.NoError(t, err)
	defer issued.Wipe()
	var all []byte
	require.NoError(t, issued.Under(context.Background(), keyderive.NewMaster(key, path), benchCard, func(k keyderive.KeyBytes, _ keyderive.Messaging) error {
		all = append(all, k.Reveal("test")...)
		return nil
	}))
	return all
}

// The keys of every kind of a master whose boundary is CARD or PROCESS can be issued, byte for byte those of the schedule; those of
// a TOKEN master cannot, and a TOKEN control key is good to write under.
func TestIssuedKeys(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	control := importKey(t, token, specOf(t, "control", keyderive.KindControl, suite.TDES, keyderive.BoundaryToken, 1, tacMaster), tacMaster)
	under := keyderive.NewMaster(control, demoPath)
	for _, c := range []struct {
		alg      suite.Algorithm
		boundary keyderive.Boundary
		levels   int
	}{
		{suite.TDES, keyderive.BoundaryCard, 1}, {suite.TDES, keyderive.BoundaryCard, 0}, {suite.TDES, keyderive.BoundaryProcess, 1},
		{suite.SM4, keyderive.BoundaryProcess, 1}, {suite.TDES, keyderive.BoundaryToken, 1},
	} {
		path := demoPath
		if c.levels == 0 {
			path = keyderive.Path{}
		}
		want := cardKeyInMemory(t, c.alg, path)
		for _, kind := range keyderive.Kinds() {
			name := c.alg.String() + c.boundary.String() + kind.String() + path.String()
			key := importKey(t, token, specOf(t, name, kind, c.alg, c.boundary, c.levels, loadMaster), loadMaster)
			issued, err := keyderive.NewMaster(key, path).DangerousIssue(context.Background(), benchCard)
			if c.boundary == keyderive.BoundaryToken {
				require.ErrorIs(t, err, keyderive.ErrStays, name)
				continue
			}
			require.NoError(t, err, name)
			require.NoError(t, issued.Under(context.Background(), under, benchCard, func(k keyderive.KeyBytes, _ keyderive.Messaging) error {
				assert.Equal(t, want, k.Reveal("test"), name)
				return nil
			}), name)
			issued.Wipe()
		}
	}
}

// Nothing but a card's key leaves: not of another depth, and not after the loan.
func TestOnlyCardKeysLeave(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		spec := specOf(t, boundary.String(), keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
		key := importKey(t, token, spec, loadMaster)
		var source, card keyderive.DangerousIssuer
		var left secret.Bytes
		require.NoError(t, key.Lend(context.Background(), demoPath, func(unit keyderive.Unit) error {
			source = unit.(keyderive.DangerousIssuer)
			derived, err := unit.Derive([16]byte{1}, keyderive.ToDerive)
			require.NoError(t, err)
			card = derived.(keyderive.DangerousIssuer)
			_, err = card.DangerousIssue([16]byte{2})
			assert.ErrorIs(t, err, errRight, "a session key")
			session, err := derived.Derive([16]byte{2}, keyderive.ToEncrypt)
			require.NoError(t, err)
			_, err = session.(keyderive.DangerousIssuer).DangerousIssue([16]byte{3})
			assert.ErrorIs(t, err, errRight)
			left, err = source.DangerousIssue([16]byte{4})
			require.NoError(t, err)
			require.Equal(t, suite.KeySize, left.Len())
			require.NotEqual(t, make([]byte, suite.KeySize), left.Reveal("test"))
			return nil
		}))
		_, err := source.DangerousIssue([16]byte{5})
		require.ErrorIs(t, err, errOver, boundary)
		assert.Equal(t, make([]byte, suite.KeySize), left.Reveal("test"), "the loan wipes what it issued")
	}
	assert.ErrorIs(t, mayLeave(&KeySpec{Kind: keyderive.KindLoad, Boundary: keyderive.BoundaryToken}, depthCard), keyderive.ErrStays)
	assert.ErrorIs(t, mayLeave(&KeySpec{Kind: keyderive.KindLoad}, depthCard), keyderive.ErrStays)
	assert.ErrorIs(t, mayLeave(&KeySpec{Boundary: keyderive.BoundaryCard}, depthCard), errRight)
	assert.ErrorIs(t, mayLeave(&KeySpec{Kind: keyderive.KindLoad, Boundary: keyderive.BoundaryCard}, depthLent), errRight)
}
