package hsm

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A master that was made in one token signs in another, by way of its copy and a key block.
func TestExportedMaster(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	under := importBackup(t, token)
	transport := importTransport(t, token, "bank", keyblock.CipherAES256)
	spec := specOf(t, "demo/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	wrapped, err := token.ImportMasterWithBackup(ctx, spec, master, under)
	require.NoError(t, err)

	old := secretOf(t, backupBytes)
	defer old.Wipe()
	block, err := ExportKeyBlock(ctx, spec, old, wrapped, transport, 7)
	require.NoError(t, err)
	_, got, err := UnwrapMaster(ctx, transport, spec, 7, block)
	require.NoError(t, err)
	defer got.Wipe()
	assert.True(t, got.Equal(master))

	key := secretOf(t, tacMaster+loadMaster) // a test key of 32 bytes
	defer key.Wipe()
	v, err := token.ImportBackupKey(ctx, "next", key)
	require.NoError(t, err)
	anew, err := token.CopyAnew(ctx, spec, old, wrapped, BackupUnder("next", v))
	require.NoError(t, err)
	_, err = ExportKeyBlock(ctx, spec, old, anew, transport, 7)
	require.ErrorIs(t, err, ErrWrapped, "under the old key")
	_, err = ExportKeyBlock(ctx, spec, key, anew, transport, 7)
	require.NoError(t, err)
	_, err = token.CopyAnew(ctx, spec, key, wrapped, under)
	require.ErrorIs(t, err, ErrWrapped)
	_, err = token.CopyAnew(ctx, spec, old, wrapped, WithoutBackup())
	require.ErrorIs(t, err, ErrNoBackup)
	_, err = token.CopyAnew(ctx, spec, old, wrapped, BackupUnder("missing", v))
	require.ErrorIs(t, err, ErrKeyNotFound)

	other, altered := spec, bytes.Clone(wrapped)
	other.Label = "demo/load/2"
	altered[len(altered)-1] ^= 1
	_, err = ExportKeyBlock(ctx, other, old, wrapped, transport, 7)
	require.ErrorIs(t, err, ErrWrapped, "another key's copy")
	_, err = ExportKeyBlock(ctx, spec, old, altered, transport, 7)
	require.ErrorIs(t, err, ErrWrapped, "altered")
	require.NoError(t, token.Ready(ctx))
}

// A backup key whose ceremony came to nothing goes, and its name is free again.
func TestAbandonBackupKey(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	importBackup(t, token)
	require.NoError(t, token.AbandonBackupKey(ctx, "escrow"))
	require.ErrorIs(t, token.AbandonBackupKey(ctx, "escrow"), ErrKeyNotFound)
	_, err := token.BackupKey(ctx, "escrow")
	require.ErrorIs(t, err, ErrKeyNotFound)
	importBackup(t, token)
	require.Error(t, token.AbandonBackupKey(ctx, "../x"))
	assert.Equal(t, "escrow", BackupKeyName(BackupKeyLabel("escrow")))
}
