package hsm

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// The token is lost, and another that never saw the keys gives the same answers, whatever made them.
func TestRestoreIntoAnEmptyToken(t *testing.T) {
	ctx := context.Background()
	type lost struct {
		spec    KeySpec
		wrapped Wrapped
		mac     keyderive.MAC
	}
	var keys []lost
	var under Backup
	first := openToken(t, configOf(hsmtest.NewToken(t)))
	under = importBackup(t, first)
	for _, boundary := range allBoundaries {
		spec, wrapped, err := first.GenerateMaster(ctx, newSpec("made/"+boundary.String(), keyderive.KindLoad, suite.TDES, boundary), under)
		require.NoError(t, err)
		keys = append(keys, lost{spec, wrapped, macOf(t, keyOf(t, first, spec.Label))})

		spec = specOf(t, "imported/"+boundary.String(), keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
		master := secretOf(t, loadMaster)
		wrapped, err = first.ImportMasterWithBackup(ctx, spec, master, under)
		master.Wipe()
		require.NoError(t, err)
		keys = append(keys, lost{spec, wrapped, macOf(t, keyOf(t, first, spec.Label))})
		contractComputes(t, suite.TDES, keyOf(t, first, spec.Label))
	}
	require.NoError(t, first.Close())

	for _, noKeyWrap := range []bool{false, true} { // the copy is the same bytes on a token of either kind
		config := configOf(hsmtest.NewToken(t))
		config.Profile.NoKeyWrap = noKeyWrap
		second, err := Open(ctx, config)
		require.NoError(t, err)
		require.Equal(t, under, importBackup(t, second))
		for _, key := range keys {
			require.NoError(t, second.RestoreMaster(ctx, key.spec, escrowed(t), key.wrapped), key.spec.Label)
			assert.Equal(t, key.mac, macOf(t, keyOf(t, second, key.spec.Label)), key.spec.Label)
		}
		require.NoError(t, second.Ready(ctx))
		require.NoError(t, second.Close())
	}
}

// What is no copy of the key is refused by name and leaves nothing.
func TestRestoreRefusals(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	under := importBackup(t, token)
	right, wrongKey := escrowed(t), secret.Copy(make([]byte, BackupKeySize))
	t.Cleanup(wrongKey.Wipe)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryProcess} {
		spec, wrapped, err := token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, boundary), under)
		require.NoError(t, err)
		require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
		other, otherCopy, err := token.GenerateMaster(ctx, newSpec("gd/tac/1", keyderive.KindTAC, suite.TDES, keyderive.BoundaryCard), under)
		require.NoError(t, err)
		require.NoError(t, token.DestroyMaster(ctx, other.Label, other.KCV))
		before := objects(t, token)
		// The ciphertext of another key in the frame of this one: what one who can write the catalogue would try.
		forged := bytes.Clone(wrapped)
		copy(forged[wrappedOffset:], otherCopy[wrappedOffset:])
		flipped := bytes.Clone(wrapped)
		flipped[len(flipped)-1] ^= 1
		for _, c := range []struct {
			name    string
			spec    func(*KeySpec)
			key     secret.Bytes
			wrapped Wrapped
			want    error
		}{
			{"another key's copy", nil, right, otherCopy, ErrWrapped},
			{"another key's ciphertext", nil, right, forged, ErrKCVMismatch},
			{"a flipped bit", nil, right, flipped, ErrWrapped},
			{"cut", nil, right, wrapped[:len(wrapped)-1], ErrWrapped},
			{"empty", nil, right, nil, ErrWrapped},
			{"of another form", nil, right, append(Wrapped{2}, wrapped[1:]...), ErrWrapped},
			{"another label", func(s *KeySpec) { s.Label = "gd/load/2" }, right, wrapped, ErrWrapped},
			{"another kind", func(s *KeySpec) { s.Kind = keyderive.KindUnload }, right, wrapped, ErrWrapped},
			{"another check value", func(s *KeySpec) { s.KCV[0] ^= 1 }, right, wrapped, ErrWrapped},
			{"another backup key", nil, wrongKey, wrapped, ErrWrapped},
		} {
			t.Run(boundary.String()+" "+c.name, func(t *testing.T) {
				spec := spec
				if c.spec != nil {
					c.spec(&spec)
				}
				assert.ErrorIs(t, token.RestoreMaster(ctx, spec, c.key, c.wrapped), c.want)
				_, err := token.Key(spec.Label)
				assert.ErrorIs(t, err, ErrKeyNotFound)
				assert.Equal(t, before, objects(t, token))
			})
		}
		assert.Equal(t, uint64(1), token.Stats().Generation, "none of it is a fault of the device")
		require.NoError(t, token.RestoreMaster(ctx, spec, escrowed(t), wrapped))
		require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
	}
}

// A backup key is for wrapping alone, is found once, and is what it is said to be.
func TestBackupKeys(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	under := importBackup(t, token)
	v, err := token.BackupKey(ctx, "escrow")
	require.NoError(t, err)
	assert.Equal(t, under.kcv, v, "the token computes what the ceremony does")
	key := secretOf(t, backupBytes)
	defer key.Wipe()
	_, err = token.ImportBackupKey(ctx, "escrow", key)
	assert.ErrorIs(t, err, ErrExists)
	v, err = token.BackupKey(ctx, "escrow")
	require.NoError(t, err)
	assert.Equal(t, under.kcv, v, "a refused import leaves the key that has the name")
	_, err = token.BackupKey(ctx, "none")
	assert.ErrorIs(t, err, ErrKeyNotFound)
	for _, name := range []string{"", "Escrow", "../kek", "a/b"} {
		_, err = token.ImportBackupKey(ctx, name, key)
		assert.ErrorContains(t, err, "name", name)
	}
	short := secret.Copy(make([]byte, 16))
	defer short.Wipe()
	_, err = token.ImportBackupKey(ctx, "short", short)
	assert.ErrorContains(t, err, "16 bytes")

	for label, change := range map[string]map[uint]any{
		"extractable": {pkcs11.CKA_EXTRACTABLE: true},
		"encrypts":    {pkcs11.CKA_ENCRYPT: true},
		"decrypts":    {pkcs11.CKA_DECRYPT: true},
		"unwraps":     {pkcs11.CKA_UNWRAP: true},
		"wraps not":   {pkcs11.CKA_WRAP: false},
		"short":       {pkcs11.CKA_VALUE: bytesOf(t, backupBytes)[:16]},
	} {
		name := string(bytes.ReplaceAll([]byte(label), []byte(" "), []byte("-")))
		all := map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES, pkcs11.CKA_DERIVE: false, pkcs11.CKA_WRAP: true}
		for kind, value := range change {
			all[kind] = value
		}
		createRaw(t, token, rawKey(backupPrefix+name, bytesOf(t, backupBytes), all))
		_, err := token.BackupKey(ctx, name)
		assert.ErrorIs(t, err, ErrAttributes, label)
	}
	createRaw(t, token, rawKey(backupPrefix+"escrow", bytesOf(t, backupBytes), map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES, pkcs11.CKA_DERIVE: false,
		pkcs11.CKA_WRAP: true}))
	_, _, err = token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken), under)
	assert.ErrorIs(t, err, ErrAmbiguous)
	assert.ErrorIs(t, token.DestroyBackupKey(ctx, "escrow", under.kcv), ErrAmbiguous)

	other, err := token.ImportBackupKey(ctx, "next", key)
	require.NoError(t, err)
	assert.ErrorIs(t, token.DestroyBackupKey(ctx, "next", kcv.Value{1}), ErrKCVMismatch)
	require.NoError(t, token.DestroyBackupKey(ctx, "next", other))
	assert.ErrorIs(t, token.DestroyBackupKey(ctx, "next", other), ErrKeyNotFound)
}

// Who makes a master says what becomes of its copy, and no key that is not made has a check value.
func TestGenerateRefusals(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	spec := newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken)
	before := objects(t, token)
	_, _, err := token.GenerateMaster(ctx, spec, Backup{})
	assert.ErrorIs(t, err, ErrNoBackup)
	_, _, err = token.GenerateMaster(ctx, spec, BackupUnder("escrow", kcv.Value{1}))
	assert.ErrorIs(t, err, ErrKeyNotFound)
	known := spec
	known.KCV = kcv.Value{1}
	_, _, err = token.GenerateMaster(ctx, known, WithoutBackup())
	assert.ErrorContains(t, err, "check value")
	sm4 := newSpec("gd/load/1", keyderive.KindLoad, suite.SM4, keyderive.BoundaryToken)
	_, _, err = token.GenerateMaster(ctx, sm4, WithoutBackup())
	assert.ErrorIs(t, err, keyderive.ErrUnsupported)
	assert.Equal(t, before, objects(t, token))

	made, wrapped, err := token.GenerateMaster(ctx, spec, WithoutBackup())
	require.NoError(t, err)
	assert.Nil(t, wrapped)
	assert.Equal(t, before+1, objects(t, token), "the master alone")
	_, _, err = token.GenerateMaster(ctx, spec, WithoutBackup())
	assert.ErrorIs(t, err, ErrExists)
	other := spec
	other.Boundary = keyderive.BoundaryProcess
	_, _, err = token.GenerateMaster(ctx, other, WithoutBackup())
	assert.ErrorIs(t, err, ErrExists)
	macOf(t, keyOf(t, token, made.Label))
}

// The holder of the PIN, with the catalogue's copies, has no key by the backup key: it does not unwrap.
func TestTheBackupKeyDoesNotUnwrap(t *testing.T) {
	for title, noKeyWrap := range map[string]bool{"key wrap": false, "ECB": true} {
		t.Run(title, func(t *testing.T) {
			config := configOf(hsmtest.NewToken(t))
			config.Profile.NoKeyWrap = noKeyWrap
			token := openToken(t, config)
			under := importBackup(t, token)
			_, wrapped, err := token.GenerateMaster(context.Background(), newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard), under)
			require.NoError(t, err)
			onAnchor(t, token, func(s *session) error {
				object, err := s.find(pkcs11.CKO_SECRET_KEY, backupPrefix+"escrow")
				require.NoError(t, err)
				_, err = s.unwrap(pkcs11.CKM_AES_KEY_WRAP, object, wrapped[wrappedOffset:], pkcs11.CKK_GENERIC_SECRET, extractable, name{})
				assert.ErrorContains(t, err, "CKR_KEY_FUNCTION_NOT_PERMITTED")
				var block [aesBlock]byte
				err = s.decrypt(pkcs11.CKM_AES_ECB, object, block[:], block[:])
				assert.ErrorContains(t, err, "CKR_KEY_FUNCTION_NOT_PERMITTED")
				return nil
			})
		})
	}
}

// A master that came in a key block has its copy before its final form, and comes back from it.
func TestKeyBlockWithBackup(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	under := importBackup(t, token)
	transport := importTransport(t, token, "t", keyblock.CipherAES256)
	spec := specOf(t, "gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	header, err := MasterHeader(spec, 1, transport)
	require.NoError(t, err)
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	block, err := WrapKeyBlock(ctx, transport, header, master)
	require.NoError(t, err)
	_, _, err = token.ImportKeyBlockWithBackup(ctx, transport, spec, 1, block, Backup{})
	require.ErrorIs(t, err, ErrNoBackup)
	_, wrapped, err := token.ImportKeyBlockWithBackup(ctx, transport, spec, 1, block, under)
	require.NoError(t, err)
	require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
	require.NoError(t, token.RestoreMaster(ctx, spec, escrowed(t), wrapped))
	contractComputes(t, suite.TDES, keyOf(t, token, spec.Label))
	inventory := inventoryOf(t, token)
	assert.Empty(t, inventory.Compare([]KeySpec{spec}), "a transport key is no difference")
	assert.True(t, slices.ContainsFunc(inventory.Objects, func(o Object) bool { return o.Kind == ObjectTransport && o.Label == transportPrefix+"t" }))
}
