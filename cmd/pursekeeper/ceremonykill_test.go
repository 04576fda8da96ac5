package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

const killedFile = `ceremony: import-key
change: "CHANGE"
keySet: gd
kind: load
version: 1
boundary: TOKEN
algorithm: 3DES
kcv: "26C9F7"
parity: any
custodians: [{name: dave}, {name: erin}]
record: record.txt
`

// toTheToken plays a ceremony of killedFile up to the point where the token takes the key.
const toTheToken = `see not shown:
type 4C34 3BF8 B694 49A7 29A2 DC4C 5B57 200E
see yes, or
type yes
see not shown:
type BBF5 48B2 1D21 278B CF41 723A DD78 FC35
see yes, or
type yes
see Type gd/load/1 to go on
type gd/load/1
`

// A ceremony that is killed when the key is in the token and not yet in the catalogue has changed nothing that is used; the ceremony is
// held again with the same change, and there is one key then.
func TestACeremonyKilledBetweenTokenAndCatalogue(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, furnish(dir))
	var id string
	require.NoError(t, inOffice(dir, func(o *custody.Office) (err error) {
		id, err = approve(o, custody.Change{Act: policy.ImportKey, Keys: &custody.KeysChange{Set: "gd", WithoutBackup: true, Keys: []custody.KeyChange{{
			Name: custody.Name{Kind: keyderive.KindLoad, Version: 1}, Boundary: keyderive.BoundaryToken, KCV: "26C9F7", Components: 2,
		}}}})
		return err
	}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(strings.Replace(killedFile, "CHANGE", id, 1)), 0o600))
	hold := func() *room { return inRoom(t, dir, "ceremony", "run", "c.yaml", "--config", "first.yaml") }

	r := hold()
	require.NoError(t, r.play(toTheToken[:strings.LastIndex(toTheToken, "type")]))
	locked, err := lockStore(filepath.Join(dir, "first.db"))
	require.NoError(t, err)
	require.NoError(t, r.play("type gd/load/1"))
	eventually(t, "the key is in the token", func() bool { return mastersOf(t, dir) == 1 })
	require.NoError(t, r.play("signal KILL"))
	require.Error(t, r.leave())
	require.NoError(t, locked())
	require.NoFileExists(t, filepath.Join(dir, "record.txt"))
	require.NoError(t, inOffice(dir, func(o *custody.Office) error {
		c, err := o.Catalogue(context.Background())
		assert.Empty(t, c.KeySet("gd").Keys)
		return err
	}))

	r = hold()
	require.NoError(t, r.play(toTheToken+"see written to"))
	require.NoError(t, r.leave())
	assert.Equal(t, 1, mastersOf(t, dir))
	require.NoError(t, inOffice(dir, func(o *custody.Office) error {
		c, err := o.Catalogue(context.Background())
		assert.Len(t, c.KeySet("gd").Keys, 1)
		return err
	}))
}

// inRoom starts the program at a terminal of its own.
func inRoom(t *testing.T, dir string, arguments ...string) *room {
	t.Helper()
	command := exec.Command(executable, arguments...)
	command.Dir = dir
	r, err := enterRoom(command)
	require.NoError(t, err)
	return r
}

// The change of one ceremony is not held at two terminals: the second, which is refused by the store in the end, would destroy the key that
// the first one gave the catalogue.
func TestOneCeremonyAtATime(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, furnish(dir))
	var id string
	require.NoError(t, inOffice(dir, func(o *custody.Office) (err error) {
		id, err = approve(o, custody.Change{Act: policy.ImportKey, Keys: &custody.KeysChange{Set: "gd", WithoutBackup: true, Keys: []custody.KeyChange{{
			Name: custody.Name{Kind: keyderive.KindLoad, Version: 1}, Boundary: keyderive.BoundaryToken, KCV: "26C9F7", Components: 2,
		}}}})
		return err
	}))
	for _, file := range []string{"first", "second"} {
		text := strings.NewReplacer("CHANGE", id, "record.txt", file+".txt").Replace(killedFile)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file+"-c.yaml"), []byte(text), 0o600))
	}
	first := inRoom(t, dir, "ceremony", "run", "first-c.yaml", "--config", "first.yaml")
	require.NoError(t, first.play(toTheToken[:strings.LastIndex(toTheToken, "type")]))
	second := inRoom(t, dir, "ceremony", "run", "second-c.yaml", "--config", "first.yaml")
	refused := second.play("see another ceremony or restore is held over this store")
	if refused != nil { // so what it would do is seen below
		_ = second.play(toTheToken[:strings.LastIndex(toTheToken, "type")])
	}
	require.NoError(t, first.play("type gd/load/1\nsee written to"))
	require.NoError(t, first.leave())
	if refused != nil {
		_ = second.play("type gd/load/1")
	}
	require.Error(t, second.leave())
	assert.Equal(t, 1, mastersOf(t, dir), "the catalogue has the key")
	assert.NoError(t, refused)
}

// The keys that make a terminal quit or stop a program do neither while a component is typed: the one prints stacks, and both leave the echo off.
func TestQuitAtTheKeyboard(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, furnish(dir))
	var id string
	require.NoError(t, inOffice(dir, func(o *custody.Office) (err error) {
		id, err = approve(o, custody.Change{Act: policy.ImportKey, Keys: &custody.KeysChange{Set: "gd", WithoutBackup: true, Keys: []custody.KeyChange{{
			Name: custody.Name{Kind: keyderive.KindLoad, Version: 1}, Boundary: keyderive.BoundaryToken, KCV: "26C9F7", Components: 2,
		}}}})
		return err
	}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(strings.Replace(killedFile, "CHANGE", id, 1)), 0o600))
	r := inRoom(t, dir, "ceremony", "run", "c.yaml", "--config", "first.yaml")
	require.NoError(t, r.play("see not shown:"))
	_, err := r.keyboard.Write([]byte{'Z' - '@', '\\' - '@', '\n'})
	require.NoError(t, err)
	require.NoError(t, r.play("see Not taken: character 1 is no hex digit\nsee not shown:\npress ^C"))
	require.Error(t, r.leave())
	assert.Contains(t, r.text(), "interrupted")
	assert.NotContains(t, r.text(), "goroutine")
}

// mastersOf counts the whole masters of the first token, as another process sees them.
func mastersOf(t *testing.T, dir string) (whole int) {
	t.Helper()
	t.Setenv(softhsm.ConfVariable, "") // tokenConfig sets it
	cfg, err := config.Read(filepath.Join(dir, "first.yaml"))
	require.NoError(t, err)
	c, err := tokenConfig(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	c.Keys = nil
	token, err := hsm.Open(context.Background(), c)
	require.NoError(t, err)
	defer func() { require.NoError(t, token.Close()) }()
	inventory, err := token.Inventory(context.Background())
	require.NoError(t, err)
	for _, o := range inventory.Objects {
		if o.Kind == hsm.ObjectMaster && o.HasKCV {
			assert.Equal(t, "gd/load/1", o.Label)
			whole++
		}
	}
	return whole
}

// lockStore keeps every other connection from committing until unlock.
func lockStore(file string) (unlock func() error, err error) {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return nil, err
	}
	one, err := db.Conn(context.Background())
	if err == nil {
		_, err = one.ExecContext(context.Background(), "PRAGMA busy_timeout = 30000; BEGIN IMMEDIATE")
	}
	return func() error {
		_, err := one.ExecContext(context.Background(), "ROLLBACK")
		return errors.Join(err, one.Close(), db.Close())
	}, err
}
