package hsm

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
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

// escrowed is the backup key as its keepers bring it, for a restore.
func escrowed(t testing.TB) secret.Bytes {
	t.Helper()
	key := secretOf(t, backupBytes)
	t.Cleanup(key.Wipe)
	return key
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
			token := openToken(t, bothTokens[name](t))
			generateAndRestore(t, token, importBackup(t, token), alg, boundary)
		})
	}
}

func generateAndRestore(t *testing.T, token *Token, under Backup, alg suite.Algorithm, boundary keyderive.Boundary) {
	ctx := context.Background()
	set := alg.String() + boundary.String()
	if boundary == keyderive.BoundaryProcess { // the sealing key is made with the first, and stays
		first, _, err := token.GenerateMaster(ctx, newSpec(set+"/load/0", keyderive.KindLoad, alg, boundary), under)
		require.NoError(t, err)
		require.NoError(t, token.DestroyMaster(ctx, first.Label, first.KCV))
	}
	before := objects(t, token)
	spec, wrapped, err := token.GenerateMaster(ctx, newSpec(set+"/load/1", keyderive.KindLoad, alg, boundary), under)
	require.NoError(t, err)
	assert.NotEqual(t, kcv.Value{}, spec.KCV)
	v, err := wrapped.BackupKCV()
	require.NoError(t, err)
	assert.Equal(t, under.kcv, v)
	want := macOf(t, keyOf(t, token, spec.Label))
	require.NoError(t, token.Ready(ctx))

	other, _, err := token.GenerateMaster(ctx, newSpec(set+"/load/2", keyderive.KindLoad, alg, boundary), under)
	require.NoError(t, err)
	assert.NotEqual(t, spec.KCV, other.KCV)
	assert.ErrorIs(t, token.RestoreMaster(ctx, spec, escrowed(t), wrapped), ErrExists)

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
	assert.Equal(t, before, objects(t, token), "nothing is left")

	require.NoError(t, token.RestoreMaster(ctx, spec, escrowed(t), wrapped))
	assert.Equal(t, want, macOf(t, keyOf(t, token, spec.Label)), "the same key")
	assert.Equal(t, uint64(1), token.Stats().Generation)
}

// On a token that keeps two-key DES as L‖R‖L, and on one without key wrap, the bytes pass through locked memory; the key is the same.
func TestGenerateMasterThroughMemory(t *testing.T) {
	for name, change := range map[string]func(*Profile){
		"three keys":  func(p *Profile) { p.ThreeKeyDES = true },
		"no key wrap": func(p *Profile) { p.NoKeyWrap = true },
	} {
		t.Run(name, func(t *testing.T) {
			config := configOf(hsmtest.NewToken(t))
			change(&config.Profile)
			token := openToken(t, config)
			under := importBackup(t, token)
			for _, boundary := range allBoundaries {
				generateAndRestore(t, token, under, suite.TDES, boundary)
			}
			rightInventoryOf(t, token, under)
		})
	}
}

// openCryptoki's token derives nothing, has no two-key type and no key wrap.
func TestCustodyOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		require.True(t, config.Profile.NoKeyWrap)
		token := openToken(t, config)
		under := importBackup(t, token)
		eachKey(t, config.Profile, func(t *testing.T, alg suite.Algorithm, boundary keyderive.Boundary) {
			generateAndRestore(t, token, under, alg, boundary)
		})
		rightInventoryOf(t, token, under)
		_, _, err := token.GenerateMaster(context.Background(), newSpec("inside", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken), under)
		assert.ErrorIs(t, err, keyderive.ErrUnsupported)
	})
}

// The copy that one token made is restored in the other, whatever the key types.
func TestRestoreOnOpenCryptokiWhatSoftHSMWrapped(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		ctx := context.Background()
		first, err := Open(ctx, configOf(hsmtest.NewToken(t)))
		require.NoError(t, err)
		under := importBackup(t, first)
		spec, wrapped, err := first.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken), under)
		require.NoError(t, err)
		want := macOf(t, keyOf(t, first, spec.Label))
		require.NoError(t, first.Close())
		second := openToken(t, openCryptokiConfig(t, made))
		require.Equal(t, under, importBackup(t, second))
		spec.Boundary = keyderive.BoundaryCard
		require.NoError(t, second.RestoreMaster(ctx, spec, escrowed(t), wrapped))
		assert.Equal(t, want, macOf(t, keyOf(t, second, spec.Label)))
	})
}

// A caller who leaves while the token is at work leaves nothing: nobody learns of the key.
func TestAMakingThatNobodyWaitsForIsUndone(t *testing.T) {
	token, control, keys := faulty(t, nil)
	under := importBackup(t, token)
	before := durable(t, token)
	for _, boundary := range allBoundaries {
		spec := newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, boundary)
		function := map[bool]string{true: "C_UnwrapKey", false: "C_CreateObject"}[boundary != keyderive.BoundaryProcess]
		hanging := control.Stats().Hanging
		control.Set(hsmtest.Fault{Function: function, From: 1, To: 1, Hang: hsmtest.HangForever})
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() {
			_, _, err := token.GenerateMaster(ctx, spec, under)
			left <- err
		}()
		require.Eventually(t, func() bool { return control.Stats().Hanging > hanging }, patience, tick)
		cancel()
		assert.ErrorIs(t, <-left, context.Canceled)
		control.Clear()
		require.Eventually(t, func() bool { return durable(t, token) == before && len(unfinished(token)) == 0 }, patience, tick)
		made, _, err := token.GenerateMaster(context.Background(), spec, under)
		require.NoError(t, err)
		require.NoError(t, token.DestroyMaster(context.Background(), made.Label, made.KCV))
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	contractComputes(t, suite.TDES, keys[0])
}

func unfinished(token *Token) (labels []string) {
	token.mu.Lock()
	defer token.mu.Unlock()
	for label := range token.unfinished {
		labels = append(labels, label)
	}
	return labels
}
