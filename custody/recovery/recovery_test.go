package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/store"
)

// The drill: a backup, the token lost with its folder, two officers of three, a fresh token and store; and the same MACs come out, of 3DES
// at TOKEN and CARD and of SM4 at PROCESS, also in the next process.
func TestRestoreDrill(t *testing.T) {
	l := lose(t)
	made := hsmtest.NewToken(t)
	token := openToken(t, made)
	place := filepath.Join(t.TempDir(), "state.db")
	s := openStore(t, place)
	result, err := Run(t.Context(), l.config(t, token, s))
	require.NoError(t, err)
	signs(t, token)
	assert.Equal(t, []string{"des-card/load/1", "des-token/load/1", "sm4/load/1"}, result.Keys)
	assert.Equal(t, []string{"des-token/unload/1", "transport/bank"}, result.Lost)
	assert.Equal(t, l.content, result.Content)

	held, err := s.Custody(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 10, held.Revision)
	catalogue, err := custody.DecodeCatalogue(held.Document)
	require.NoError(t, err)
	assert.Equal(t, result.Catalogue, catalogue)
	assert.Equal(t, "restored", catalogue.KeySet("sm4").Keys[0].Origin)
	assert.Equal(t, custody.Active, catalogue.KeySet("sm4").Keys[0].State)
	assert.Equal(t, custody.Destroyed, catalogue.KeySet("des-token").Keys[1].State, "it had no copy")
	assert.Empty(t, catalogue.Transports)
	recorded := record(t, s)
	require.Len(t, recorded, 3)
	assert.Equal(t, audit.Restored, recorded[0].Event)
	assert.Equal(t, audit.OfficersRegistered, recorded[1].Event, "the approvals of this record are checked from it alone")
	officers, err := custody.DecodeCatalogue([]byte(recorded[1].Change.Bytes))
	require.NoError(t, err)
	assert.Equal(t, custody.Catalogue{
		Version: officers.Version, Revision: result.Catalogue.Revision, Quorum: result.Catalogue.Quorum, Officers: result.Catalogue.Officers,
	}, officers, "and nothing of keys")
	assert.Equal(t, audit.RulesRegistered, recorded[2].Event)
	rules, err := custody.DecodeRules([]byte(recorded[2].Change.Bytes))
	require.NoError(t, err)
	assert.Equal(t, catalogue.Rules, rules, "the rules of this record's decisions are found in it")
	assert.Equal(t, l.catalogue.Rules, rules)
	assert.True(t, catalogue.Client("platform").Suspended, "who is suspended stays so")
	assert.Contains(t, recorded[0].Detail, "revision 9 of token lost")
	assert.Contains(t, recorded[0].Detail, "lost without a copy: des-token/unload/1 transport/bank")

	_, err = Run(t.Context(), l.config(t, token, s))
	require.ErrorIs(t, err, ErrStoreNotEmpty, "a second time")
	signs(t, token)
	require.NoError(t, token.Close())
	var specs []hsm.KeySpec
	for _, set := range catalogue.KeySets {
		spec, err := specOf(set.Definition, set.Keys[0])
		require.NoError(t, err)
		specs = append(specs, spec)
	}
	signs(t, openToken(t, made, specs...))
}

func record(t *testing.T, s *store.Database) (all []audit.Entry) {
	t.Helper()
	require.NoError(t, s.Entries(t.Context(), 0, func(_ uint64, line []byte) bool {
		e, err := audit.Decode(line)
		require.NoError(t, err)
		all = append(all, e)
		return true
	}))
	return all
}

// The store survived, and its token alone was lost: it is the store of the backup, or it is refused.
func TestTheStoreThatSurvived(t *testing.T) {
	l := lose(t)
	s := openStore(t, filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, s.Commit(t.Context(), store.Change{Custody: true, Restores: true, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Custody().Revision, p.Custody().Document = l.catalogue.Revision, []byte(l.content.Catalogue)
		return []audit.Entry{{Event: audit.Started, Time: time.Now(), Outcome: "STARTED"}}, nil
	}}))
	token := openToken(t, hsmtest.NewToken(t))
	older := *l
	older.catalogue.Revision--
	older.seal(t)
	_, err := Run(t.Context(), older.config(t, token, s))
	require.ErrorIs(t, err, ErrStoreNotEmpty)
	require.ErrorContains(t, err, "revision 9, and not the one of the backup, revision 8")
	empty(t, token)

	_, err = Run(t.Context(), l.config(t, token, s))
	require.NoError(t, err)
	signs(t, token)
	assert.Len(t, record(t, s), 2)
}

// empty demands a token without any object of ours, but the sealing key of the PROCESS boundary, which seals nothing.
func empty(t *testing.T, token *hsm.Token) {
	t.Helper()
	inventory, err := token.Inventory(t.Context())
	require.NoError(t, err)
	for _, o := range inventory.Objects {
		assert.Equal(t, hsm.ObjectSealing, o.Kind, o.Label)
	}
}

// What is not empty is refused by name, and left as it is.
func TestNotEmpty(t *testing.T) {
	l := lose(t)
	token := openToken(t, hsmtest.NewToken(t))
	s := openStore(t, filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, s.Commit(t.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Event: audit.Started, Time: time.Now(), Outcome: "STARTED"}}, nil
	}}))
	_, err := Run(t.Context(), l.config(t, token, s))
	require.ErrorIs(t, err, ErrStoreNotEmpty)
	require.ErrorContains(t, err, "its record has 1 entries")
	empty(t, token)

	spec := hsm.KeySpec{Label: "somebody/load/1", Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: keyderive.BoundaryToken, IssuerLevels: 1}
	_, _, err = token.GenerateMaster(t.Context(), spec, hsm.WithoutBackup())
	require.NoError(t, err)
	fresh := openStore(t, filepath.Join(t.TempDir(), "state.db"))
	_, err = Run(t.Context(), l.config(t, token, fresh))
	require.ErrorIs(t, err, ErrTokenNotEmpty)
	require.ErrorContains(t, err, `the master "somebody/load/1"`)
	nothing(t, fresh)
}

func nothing(t *testing.T, s *store.Database) {
	t.Helper()
	held, err := s.Custody(t.Context())
	require.NoError(t, err)
	assert.Zero(t, held)
	assert.Empty(t, record(t, s))
}

// A backup whose copies do not give its keys is refused as a whole: nothing of it is left in the token or the store.
func TestABackupThatDoesNotHold(t *testing.T) {
	l := lose(t)
	key := func(c *custody.Catalogue) *custody.Key { return &c.KeySets[2].Keys[0] } // the last to be restored
	tests := []struct {
		name  string
		alter func(c *custody.Catalogue)
		want  error
	}{
		{"another check value", func(c *custody.Catalogue) { key(c).KCV.Value = "000000" }, hsm.ErrWrapped},
		{"the copy of another key", func(c *custody.Catalogue) { key(c).Wrapped = c.KeySets[0].Keys[0].Wrapped }, hsm.ErrWrapped},
		{"an altered copy", func(c *custody.Catalogue) { key(c).Wrapped = flipLast(key(c).Wrapped) }, hsm.ErrWrapped},
		{"a cut copy", func(c *custody.Catalogue) { key(c).Wrapped = key(c).Wrapped[:20] }, ErrCopy},
		{"no copy in hex", func(c *custody.Catalogue) { key(c).Wrapped = "xx" }, ErrCopy},
		{"another backup key", func(c *custody.Catalogue) { c.Backup.KCV.Value = "000000" }, ErrCheckValue},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			altered := *l
			var err error
			altered.catalogue, err = custody.DecodeCatalogue([]byte(l.content.Catalogue))
			require.NoError(t, err)
			test.alter(&altered.catalogue)
			altered.seal(t)
			token := openToken(t, hsmtest.NewToken(t))
			s := openStore(t, filepath.Join(t.TempDir(), "state.db"))
			_, err = Run(t.Context(), altered.config(t, token, s))
			require.ErrorIs(t, err, test.want)
			empty(t, token)
			nothing(t, s)
		})
	}
}

func flipLast(digits string) string {
	last := "0"
	if strings.HasSuffix(digits, "0") {
		last = "1"
	}
	return digits[:len(digits)-1] + last
}

// refusing is a store that commits nothing.
type refusing struct{ Store }

var errNoCommit = errors.New("the disk is full")

func (refusing) Commit(context.Context, store.Change) error { return errNoCommit }

// The store fails last: the token is as it was.
func TestAStoreThatFails(t *testing.T) {
	l := lose(t)
	token := openToken(t, hsmtest.NewToken(t))
	s := openStore(t, filepath.Join(t.TempDir(), "state.db"))
	_, err := Run(t.Context(), l.config(t, token, refusing{s}))
	require.ErrorIs(t, err, errNoCommit)
	empty(t, token)
	nothing(t, s)
}

// killedChild makes the test binary a process that restores and is killed after so many steps; its value is "module label pin steps".
const killedChild = "PURSEKEEPER_TEST_KILLED_RESTORE"

// TestKilledChild is the child of TestKilledInTheMiddle, and nothing otherwise.
func TestKilledChild(t *testing.T) {
	arguments := strings.Fields(os.Getenv(killedChild))
	if len(arguments) == 0 {
		return
	}
	require.Len(t, arguments, 6)
	steps, err := strconv.Atoi(arguments[5])
	require.NoError(t, err)
	l := readLoss(t, arguments[4])
	token := openToken(t, &hsmtest.Token{Module: arguments[0], Label: arguments[1], PIN: arguments[2]})
	c := l.config(t, token, openStore(t, arguments[3]))
	c.Tell = func(string) {
		if steps--; steps == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	_, err = Run(t.Context(), c)
	require.NoError(t, err)
}

// A restore that is killed after any of its steps is taken up by the next.
func TestKilledInTheMiddle(t *testing.T) {
	l := lose(t)
	folder := t.TempDir()
	l.write(t, folder)
	made := hsmtest.NewToken(t)
	place := filepath.Join(folder, "state.db")
	for step := 1; step <= 2*(1+len(masters)); step++ { // what is there from the step before is told, and made anew
		child := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s %s %d", killedChild, made.Module, made.Label, made.PIN, place, folder, step))
		out, err := child.CombinedOutput()
		var status *exec.ExitError
		require.ErrorAs(t, err, &status, "%s", out)
		require.Equal(t, syscall.SIGKILL, status.Sys().(syscall.WaitStatus).Signal(), "%s", out)
	}
	s := openStore(t, place)
	nothing(t, s)
	token := openToken(t, made)
	_, err := Run(t.Context(), l.config(t, token, s))
	require.NoError(t, err)
	signs(t, token)
	assert.Len(t, record(t, s), 3)
}

// A key that was swapped between a kill and the next run is not taken for one of the backup's.
func TestWhatIsThereMustBeTheBackups(t *testing.T) {
	l := lose(t)
	token := openToken(t, hsmtest.NewToken(t))
	c := l.config(t, token, openStore(t, filepath.Join(t.TempDir(), "state.db")))
	key := secret.New(hsm.BackupKeySize)
	defer key.Wipe()
	key.Reveal("test")[0] = 1
	_, err := token.ImportBackupKey(t.Context(), "first", key)
	require.NoError(t, err)
	_, err = Run(t.Context(), c)
	require.ErrorIs(t, err, ErrTokenNotEmpty)
	require.ErrorContains(t, err, `the backup key "pursekeeper/backup/first"`)
}

// collided is a token in which every backup key has the check value of the backup's: a holder of the PIN finds one in 2²⁴ tries.
type collided struct {
	*hsm.Token
	value kcv.Value
}

func (c collided) Inventory(ctx context.Context) (hsm.Inventory, error) {
	inventory, err := c.Token.Inventory(ctx)
	for i := range inventory.Objects {
		if inventory.Objects[i].Kind == hsm.ObjectBackup {
			inventory.Objects[i].KCV = c.value
		}
	}
	return inventory, err
}

// A backup key that somebody put into the fresh token beforehand is not taken over: copies would be made under it, for whoever has its bytes.
func TestAPlantedBackupKeyIsNotTakenOver(t *testing.T) {
	l := lose(t)
	value, err := kcv.Parse(l.catalogue.Backup.KCV.Value)
	require.NoError(t, err)
	token := openToken(t, hsmtest.NewToken(t))
	planted := secret.New(hsm.BackupKeySize)
	defer planted.Wipe()
	planted.Reveal("test")[0] = 1
	_, err = token.ImportBackupKey(t.Context(), "first", planted)
	require.NoError(t, err)
	_, err = Run(t.Context(), l.config(t, collided{token, value}, openStore(t, filepath.Join(t.TempDir(), "state.db"))))
	require.NoError(t, err)
	got, err := token.BackupKey(t.Context(), "first")
	require.NoError(t, err)
	assert.Equal(t, value, got)
	signs(t, token)
}
