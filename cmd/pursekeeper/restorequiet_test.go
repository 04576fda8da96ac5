package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
)

// A restore that waits for a share is a process that is not dumped: parts of the seed lie in ordinary memory from the first share on.
func TestARestoreKeepsItsMemoryToItself(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, furnish(dir))
	seed, err := escrow.NewSeed(rand.Reader)
	require.NoError(t, err)
	defer seed.Wipe()
	private, public, err := note.GenerateKey(rand.Reader, "pursekeeper/test")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	var c custody.Catalogue
	require.NoError(t, inOffice(dir, func(o *custody.Office) (err error) {
		c, err = o.Catalogue(t.Context())
		return err
	}))
	c.Backup = &custody.Backup{Threshold: 2, Label: "pursekeeper/backup/first"}
	c.Backup.Recipient, err = escrow.FileRecipient(seed)
	require.NoError(t, err)
	document, err := c.Encode()
	require.NoError(t, err)
	file, err := escrow.Seal(escrow.Header{Created: time.Unix(1_800_000_000, 0).UTC()}, escrow.Content{Catalogue: string(document)}, signer)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "backup"), file, 0o600))

	r := inRoom(t, dir, "restore", "--config", "first.yaml", "--in", "backup", "--key", public, "--revision", fmt.Sprint(c.Revision), "--type-shares")
	require.NoError(t, r.play("see Share 1 of 2"))
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.command.Process.Pid))
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^Max core file size +0 +0 +bytes`, string(limits))
	require.NoError(t, r.play("press ^C"))
	require.Error(t, r.leave())
}
