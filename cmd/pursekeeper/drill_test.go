package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// drill is the loss of a token with the program alone: ceremonies, a signer over mTLS, a backup, and what is restored of it.
type drill struct {
	home
	boundary keyderive.Boundary
}

func newDrill(t *testing.T, boundary keyderive.Boundary, edits ...edit) drill {
	t.Helper()
	d := drill{home{t, t.TempDir()}, boundary}
	require.NoError(t, furnishRoom(d.dir))
	d.edit("first", edits...)
	require.NoError(t, found(d.dir))
	d.governed("first")
	return d
}

func (d drill) edit(name string, edits ...edit) {
	d.t.Helper()
	text := d.read(name + ".yaml")
	for _, e := range edits {
		place := regexp.MustCompile(`(?m)^` + e.old)
		require.Regexp(d.t, place, text)
		text = place.ReplaceAllLiteralString(text, e.new)
	}
	d.write(name+".yaml", text)
}

// governed leaves the configuration's clients and key sets out: officers decide on them.
func (d drill) governed(name string) {
	d.t.Helper()
	text, _, found := strings.Cut(d.read(name+".yaml"), "\nclients:")
	require.True(d.t, found)
	d.write(name+".yaml", text+"\n")
}

// onOpenCryptoki has a configuration name openCryptoki's token.
func (d drill) onOpenCryptoki(name string, made *hsmtest.Token) {
	d.t.Helper()
	d.write("pin8", made.PIN)
	text := d.read(name + ".yaml")
	line := regexp.MustCompile(`(?m)^token: .*$`)
	require.Regexp(d.t, line, text)
	d.write(name+".yaml", line.ReplaceAllLiteralString(text, fmt.Sprintf("token: {module: %q, profile: opencryptoki, label: %s, pin: {file: pin8}, development: true}", made.Module, made.Label)))
}

func (d drill) approved(change custody.Change) (id string) {
	d.t.Helper()
	require.NoError(d.t, inOffice(d.dir, func(o *custody.Office) (err error) {
		id, err = approve(o, change)
		return err
	}))
	return id
}

// hold holds a ceremony of the first configuration.
func (d drill) hold(id, file, script string) {
	d.t.Helper()
	d.write(id+".yaml", strings.NewReplacer("CHANGE", id, "record.txt", id+".txt").Replace(file))
	r := inRoom(d.t, d.dir, "ceremony", "run", id+".yaml", "--config", "first.yaml")
	require.NoError(d.t, r.play(script+"see written to"), r.text())
	require.NoError(d.t, r.leave())
}

const createFile = "ceremony: create-backup\nchange: \"CHANGE\"\nthreshold: 2\nholders: [alice, bob, carol]\nrecord: record.txt\n"

// keys makes the backup key and the demonstration's load key, which is active then.
func (d drill) keys() {
	d.t.Helper()
	d.hold(d.approved(custody.Change{Act: policy.CreateBackup, Backup: &custody.BackupChange{Threshold: 2, Holders: officersOfTest}}),
		createFile, "see Type backup to go on\ntype backup\n")
	name := custody.Name{Kind: keyderive.KindLoad, Version: 1}
	d.hold(d.approved(custody.Change{Act: policy.ImportKey, Keys: &custody.KeysChange{Set: "gd", Keys: []custody.KeyChange{{Name: name, Boundary: d.boundary, KCV: "26C9F7", Components: 2}}}}),
		strings.Replace(killedFile, "boundary: TOKEN", "boundary: "+d.boundary.String(), 1), toTheToken)
	d.approved(custody.Change{Act: policy.ActivateKey, Keys: &custody.KeysChange{Set: "gd", Keys: []custody.KeyChange{{Name: name, KCV: "26C9F7"}}}})
}

// serves demands the published MAC2 of the demonstration card's load, from the signer and over mTLS, and that token and catalogue agree.
func (d drill) serves(name string) {
	d.t.Helper()
	status, out := run(d.t, []string{"key", "check", "--config", d.path(name + ".yaml")})
	require.Zero(d.t, status, out)
	s := serveChild(d.home, d.path(name+".yaml"))
	load := demonstrationLoad()
	load.KeySet = "gd"
	answer, err := s.client("platform").AuthorizeLoad(d.t.Context(), load)
	require.NoError(d.t, err)
	require.Equal(d.t, "60B7B5B7", answer.Mac2)
	require.Zero(d.t, s.terminate())
}

// lose makes a backup, and loses the token and the store.
func (d drill) lose() (revision string) {
	d.t.Helper()
	status, out := run(d.t, []string{"backup", "--config", d.path("first.yaml"), "--out", d.path("backup")})
	require.Zero(d.t, status, out)
	found := regexp.MustCompile(`catalogue revision (\d+)`).FindStringSubmatch(out)
	require.NotNil(d.t, found)
	for _, part := range []string{"first", "first.db"} {
		require.NoError(d.t, os.RemoveAll(d.path(part)))
	}
	return found[1]
}

// restore brings everything back in the token and the store of another configuration.
func (d drill) restore(name, revision string) {
	d.t.Helper()
	status, out := run(d.t, []string{"restore", "--config", d.path(name + ".yaml"), "--in", d.path("backup"), "--key", d.path("first-audit.pub"), "--revision", revision,
		"--share-identity", d.path("alice.key"), "--share-identity", d.path("carol.key")})
	require.Zero(d.t, status, out)
}

// The token and the store are lost, and the signer answers the same MAC2 from another token.
func TestTheSameMACsAreServedAfterARestore(t *testing.T) {
	d := newDrill(t, keyderive.BoundaryToken)
	d.keys()
	d.serves("first")
	revision := d.lose()
	require.NoError(t, makeToken(d.dir, "fresh"))
	d.governed("fresh")
	d.restore("fresh", revision)
	d.serves("fresh")
}

// The same with the state in PostgreSQL: officers, ceremonies, the signer, a backup, and a restore into another database.
func TestDrillOnPostgres(t *testing.T) {
	first := newShared(t)
	d := newDrill(t, keyderive.BoundaryToken, first.edit)
	d.keys()
	d.serves("first")
	revision := d.lose()
	first.server.Exec(t, first.server.URL("postgres"), "DROP DATABASE test1")
	require.NoError(t, makeToken(d.dir, "fresh"))
	d.edit("fresh", first.another(t).edit)
	d.governed("fresh")
	d.restore("fresh", revision)
	d.serves("fresh")
}

// Ceremonies, a backup and the signer with openCryptoki's token; and what it wrapped is restored in SoftHSM.
func TestDrillFromOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		d := newDrill(t, keyderive.BoundaryCard)
		d.onOpenCryptoki("first", made)
		d.keys()
		d.serves("first")
		revision := d.lose()
		require.NoError(t, makeToken(d.dir, "fresh"))
		d.governed("fresh")
		d.restore("fresh", revision)
		d.serves("fresh")
	})
}

// What SoftHSM's token lost is restored in openCryptoki's, and served from it.
func TestDrillIntoOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		d := newDrill(t, keyderive.BoundaryCard)
		d.keys()
		revision := d.lose()
		require.NoError(t, makeToken(d.dir, "fresh"))
		d.governed("fresh")
		d.onOpenCryptoki("fresh", made)
		d.restore("fresh", revision)
		d.serves("fresh")
	})
}
