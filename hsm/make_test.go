package hsm

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// backupBytes are a test's backup key, published here.
const backupBytes = "404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F"

// importBackup puts the test's backup key into the token.
func importBackup(t testing.TB, token *Token) Backup {
	t.Helper()
	key := secretOf(t, backupBytes)
	defer key.Wipe()
	v, err := token.ImportBackupKey(context.Background(), "escrow", key)
	require.NoError(t, err)
	return BackupUnder("escrow", v)
}

// newSpec is what an officer says of a key that is not made yet.
func newSpec(label string, kind keyderive.Kind, alg suite.Algorithm, boundary keyderive.Boundary) KeySpec {
	spec := KeySpec{Label: label, Kind: kind, Algorithm: alg, Boundary: boundary, IssuerLevels: 1}
	rand.Read(spec.ID[:])
	return spec
}

// eachKey runs test for every algorithm and boundary that the token of config has.
func eachKey(t *testing.T, profile Profile, test func(t *testing.T, alg suite.Algorithm, boundary keyderive.Boundary)) {
	t.Helper()
	for _, e := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, boundary := range allBoundaries {
			if boundary >= profile.Strictest(keyderive.KindLoad, e) {
				t.Run(boundary.String()+" "+e.String(), func(t *testing.T) { test(t, e, boundary) })
			}
		}
	}
}

// macOf is the answer of a key to one load: two keys that give one are one key.
func macOf(t testing.TB, key keyderive.Key) keyderive.MAC {
	t.Helper()
	mac, err := sessionMAC(key, demoPath)
	require.NoError(t, err)
	return mac
}

func keyOf(t testing.TB, token *Token, label string) *Key {
	t.Helper()
	key, err := token.Key(label)
	require.NoError(t, err)
	return key
}

// A master is made, works, has its final form, and comes back from its copy, as the same key, in the token that lost it.
func TestGenerateMaster(t *testing.T) {
	for name, config := range bothTokens {
		eachKey(t, config(t).Profile, func(t *testing.T, alg suite.Algorithm, boundary keyderive.Boundary) {
			t.Log(name)
			generateAndRestore(t, openToken(t, bothTokens[name](t)), alg, boundary)
		})
	}
}

func generateAndRestore(t *testing.T, token *Token, alg suite.Algorithm, boundary keyderive.Boundary) {
	ctx := context.Background()
	under := importBackup(t, token)
	before := objects(t, token)
	spec, wrapped, err := token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, alg, boundary), under)
	require.NoError(t, err)
	assert.NotEqual(t, kcv.Value{}, spec.KCV)
	v, err := wrapped.BackupKCV()
	require.NoError(t, err)
	assert.Equal(t, under.kcv, v)
	want := macOf(t, keyOf(t, token, spec.Label))
	require.NoError(t, token.Ready(ctx))

	other, _, err := token.GenerateMaster(ctx, newSpec("gd/load/2", keyderive.KindLoad, alg, boundary), under)
	require.NoError(t, err)
	assert.NotEqual(t, spec.KCV, other.KCV)
	assert.ErrorIs(t, token.RestoreMaster(ctx, spec, under, wrapped), ErrExists)

	require.NoError(t, token.DestroyMaster(ctx, other.Label, other.KCV))
	assert.ErrorIs(t, token.DestroyMaster(ctx, spec.Label, other.KCV), ErrKCVMismatch)
	assert.Equal(t, want, macOf(t, keyOf(t, token, spec.Label)), "a key with another check value stays")
	key := keyOf(t, token, spec.Label)
	require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
	_, err = token.Key(spec.Label)
	assert.ErrorIs(t, err, ErrKeyNotFound)
	_, err = sessionMAC(key, demoPath)
	assert.ErrorIs(t, err, ErrKeyNotFound)
	require.NoError(t, token.Ready(ctx))
	assert.ErrorIs(t, token.DestroyMaster(ctx, spec.Label, spec.KCV), ErrKeyNotFound)
	if boundary == keyderive.BoundaryProcess {
		before++ // the sealing key, which stays
	}
	assert.Equal(t, before, objects(t, token), "nothing is left")

	require.NoError(t, token.RestoreMaster(ctx, spec, under, wrapped))
	assert.Equal(t, want, macOf(t, keyOf(t, token, spec.Label)), "the same key")
	assert.Equal(t, uint64(1), token.Stats().Generation)
}
