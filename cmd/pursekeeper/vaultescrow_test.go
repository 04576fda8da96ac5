package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/source/vaulttest"
	"github.com/pursekeeper/pursekeeper/policy"
)

// A real Vault keeps the seed of a backup key, and gives it back for a restore; a sealed one, and another transit key, do not.
func TestVaultKeepsTheBackupKey(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, furnish(dir))
	v := vaulttest.New(t)
	v.Policy("escrow", `path "transit/*" { capabilities = ["read", "update"] }`)
	v.Write("transit/keys/escrow", nil)
	v.Write("transit/keys/other", nil)
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write("vault-token", v.Token(time.Hour, true, "escrow"))
	for _, key := range []string{"escrow", "other"} {
		write(key+"-vault.yaml", fmt.Sprintf("address: %s\ncaFile: %s\nkey: %s\ntoken: {file: vault-token}\n", v.Address, v.CAFile, key))
	}
	var id string
	require.NoError(t, inOffice(dir, func(o *custody.Office) (err error) {
		id, err = approve(o, custody.Change{Act: policy.CreateBackup, Backup: &custody.BackupChange{Vault: "escrow"}})
		return err
	}))
	write("c.yaml", "ceremony: create-backup\nchange: \""+id+"\"\nvault: escrow\nrecord: record.txt\n")
	hold := func(script string, flags ...string) error {
		command := exec.Command(executable, append([]string{"ceremony", "run", "c.yaml", "--config", "first.yaml"}, flags...)...)
		command.Dir = dir
		r, err := enterRoom(command)
		require.NoError(t, err)
		require.NoError(t, r.play(script))
		return r.leave()
	}
	const confirmed = "see Vault's transit key escrow brings it back\nsee Type backup\ntype backup\n"
	require.Error(t, hold(confirmed+"see vault: missing"))
	require.Error(t, hold(confirmed+"see the file says transit key other, the change escrow", "--vault", "other-vault.yaml"))
	require.NoError(t, hold(confirmed+"see written to", "--vault", "escrow-vault.yaml"))

	status, out := run(t, []string{"backup", "--config", "first.yaml", "--out", "b.backup"}, inFolder(dir))
	require.Zero(t, status, out)
	require.NoError(t, makeToken(dir, "fresh"))
	restores := func(flags ...string) (int, string) {
		return run(t, append([]string{"restore", "--config", "fresh.yaml", "--in", "b.backup", "--key", "first-audit.pub", "--revision", "3"}, flags...), inFolder(dir))
	}
	status, out = restores("--vault", "other-vault.yaml")
	assert.NotZero(t, status)
	assert.Contains(t, out, "it was not wrapped so")
	status, out = restores("--share-identity", "alice.key")
	assert.NotZero(t, status, out)
	v.Seal()
	status, out = restores("--vault", "escrow-vault.yaml")
	assert.NotZero(t, status)
	assert.Contains(t, out, "vault is sealed")
	v.Unseal()
	status, out = restores("--vault", "escrow-vault.yaml")
	assert.Zero(t, status, out)
	assert.Contains(t, out, "catalogue revision 4")
}
