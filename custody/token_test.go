package custody

import (
	"context"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// softToken is a new SoftHSM token.
func softToken(t testing.TB) *hsm.Token {
	made := hsmtest.NewToken(t)
	return openToken(t, made.Module, made.Label, made.PIN)
}

func openToken(t testing.TB, module, label, pin string) *hsm.Token {
	token, err := hsm.Open(context.Background(), hsm.Config{
		Module: module, TokenLabel: label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(pin)), nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = token.Close() }) // a test may have closed it
	return token
}

func withToken(token Token) func(*Options) {
	return func(o *Options) {
		o.Token = token
		o.IssuerLevels = func(Definition) (int, error) { return 1, nil }
	}
}

// masters are the labels of the masters in the token.
func masters(t testing.TB, token *hsm.Token) (labels []string) {
	t.Helper()
	inventory, err := token.Inventory(context.Background())
	require.NoError(t, err)
	for _, o := range inventory.Objects {
		if o.Kind == hsm.ObjectMaster || o.Kind == hsm.ObjectSealed {
			labels = append(labels, o.Label)
		}
	}
	return labels
}

// valueOf is the check value of a master as the token computes it now.
func valueOf(t testing.TB, token *hsm.Token, label string) string {
	inventory, err := token.Inventory(context.Background())
	require.NoError(t, err)
	for _, o := range inventory.Objects {
		if o.Label == label && o.HasKCV {
			return o.KCV.String()
		}
	}
	return "no such key"
}

// Keys are made inside the token and destroyed there, by a quorum; what the catalogue says of them is so.
func TestKeysInTheToken(t *testing.T) {
	token := softToken(t)
	w := newWorld(t, policy.Quorum{Default: 1}, withToken(token))
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	r := w.does(policy.CreateKey, creating(load(1), tac(1)))
	require.Equal(t, store.RequestApplied, r.State)
	set := w.catalogue().KeySet("demo")
	require.Len(t, set.Keys, 2)
	assert.Empty(t, set.Changing)
	for _, k := range set.Keys {
		assert.Equal(t, PreActive, k.State)
		assert.Equal(t, k.KCV.Value, valueOf(t, token, k.Label))
	}
	assert.Equal(t, []string{"demo/load/1", "demo/tac/1"}, masters(t, token))

	w.does(policy.DestroyKey, on(*w.catalogue(), load(1)))
	assert.Equal(t, Destroyed, w.catalogue().KeySet("demo").Key(load(1)).State)
	assert.Contains(t, w.last().Detail, "none of them is there")
	assert.Equal(t, []string{"demo/tac/1"}, masters(t, token))

	// A label that an object in the token has already: nothing is made, nothing of another's is destroyed, and the set is free again.
	_, _, err := token.GenerateMaster(t.Context(), hsm.KeySpec{
		Label: "demo/load/2", Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: keyderive.BoundaryToken, IssuerLevels: 1,
	}, hsm.WithoutBackup())
	require.NoError(t, err)
	failed, err := w.approve("bob", w.propose("alice", policy.CreateKey, creating(load(2), tac(2))))
	require.ErrorIs(t, err, hsm.ErrExists)
	assert.Equal(t, store.RequestFailed, failed.State)
	assert.Equal(t, "TOKEN", w.last().Outcome)
	assert.Equal(t, []string{"demo/load/2", "demo/tac/1"}, masters(t, token))
	w.does(policy.CreateKey, creating(load(3)))
}

// brokenToken fails, or ends the process, at a step.
type brokenToken struct {
	Token
	step func() error
}

func (b brokenToken) GenerateMaster(ctx context.Context, s hsm.KeySpec, u hsm.Backup) (made hsm.KeySpec, w hsm.Wrapped, err error) {
	if err := b.step(); err != nil {
		return made, nil, err
	}
	if made, w, err = b.Token.GenerateMaster(ctx, s, u); err != nil {
		return made, nil, err
	}
	return made, w, b.step()
}

func (b brokenToken) DestroyMaster(ctx context.Context, label string, v kcv.Value) error {
	if err := b.step(); err != nil {
		return err
	}
	return errors.Join(b.Token.DestroyMaster(ctx, label, v), b.step())
}

// A token that is away keeps the change waiting, and its set with it; when the token is back, the work goes on from the start.
func TestTheTokenIsAway(t *testing.T) {
	token := softToken(t)
	away := errors.New("away")
	left := 3 // steps until it is away
	broken := brokenToken{token, func() error {
		if left--; left < 0 {
			return away
		}
		return nil
	}}
	w := newWorld(t, policy.Quorum{Default: 1}, withToken(broken))
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	r, err := w.approve("bob", w.propose("alice", policy.CreateKey, creating(load(1), tac(1))))
	require.ErrorIs(t, err, ErrToken)
	require.ErrorIs(t, err, away)
	assert.Equal(t, store.RequestExecuting, r.State)
	assert.Equal(t, r.ID, w.catalogue().KeySet("demo").Changing)
	_, err = w.tryPropose("alice", policy.UpdateKeySet, newKeySet("demo", suite.TDES))
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorIs(t, w.Resume(t.Context()), away)

	other := worldOfNode(t, w, "node-2", broken)
	require.NoError(t, other.Resume(t.Context()), "another node leaves a fresh claim alone")
	left = 1000
	other.clock = noon.Add(staleAfter + time.Second)
	require.NoError(t, other.Resume(t.Context()))
	assert.Len(t, w.catalogue().KeySet("demo").Keys, 2)
	assert.Equal(t, []string{"demo/load/1", "demo/tac/1"}, masters(t, token))
	claims := 0
	for _, e := range w.entries() {
		if e.Event == audit.ChangeClaimed {
			claims++
		}
	}
	assert.Equal(t, 2, claims)
}

// worldOfNode is another node on the same store.
func worldOfNode(t testing.TB, w *world, node string, token Token) *world {
	other := &world{TB: t, store: w.store, clock: noon, keys: w.keys}
	options := Options{Store: w.store, Node: node, Now: func() time.Time { return other.clock }}
	withToken(token)(&options)
	var err error
	other.Office, err = NewOffice(options)
	require.NoError(t, err)
	return other
}

// A claim that was taken over finishes nothing, and destroys nothing: whether by another node, or by a second process of the same.
func TestAClaimThatWasTakenOver(t *testing.T) {
	for _, node := range []string{"node-2", "node-1"} {
		t.Run(node, func(t *testing.T) { takenOverBy(t, node) })
	}
}

func takenOverBy(t *testing.T, node string) {
	token := softToken(t)
	var w *world
	taken := false
	slow := brokenToken{token, func() error {
		if !taken {
			taken = true
			other := worldOfNode(t, w, node, token)
			other.clock = noon.Add(staleAfter + time.Second)
			return other.Resume(t.Context())
		}
		return nil
	}}
	w = newWorld(t, policy.Quorum{Default: 1}, withToken(slow))
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	_, err := w.approve("bob", w.propose("alice", policy.CreateKey, creating(load(1))))
	require.Error(t, err)
	assert.Len(t, w.catalogue().KeySet("demo").Keys, 1)
	assert.Equal(t, []string{"demo/load/1"}, masters(t, token))
	applied := 0
	for _, e := range w.entries() {
		if e.Event == audit.ChangeApplied {
			applied++
		}
	}
	assert.Equal(t, 2, applied, "the key set and the key, once each")
}

// A claim that was taken over by a node whose token is away finishes nothing either; what it made goes with the next attempt.
func TestAClaimThatWasTakenOverInVain(t *testing.T) {
	token := softToken(t)
	away := errors.New("away")
	var w *world
	taken := false
	slow := brokenToken{token, func() error {
		if !taken {
			taken = true
			require.ErrorIs(t, worldOfNode(t, w, "node-1", brokenToken{token, func() error { return away }}).Resume(t.Context()), away)
		}
		return nil
	}}
	w = newWorld(t, policy.Quorum{Default: 1}, withToken(slow))
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	r, err := w.approve("bob", w.propose("alice", policy.CreateKey, creating(load(1))))
	require.ErrorIs(t, err, errClaimed)
	now, _, err := w.Request(t.Context(), r.ID)
	require.NoError(t, err)
	assert.Equal(t, store.RequestExecuting, now.State)
	assert.Equal(t, 2, now.Attempt)
	assert.Empty(t, w.catalogue().KeySet("demo").Keys)
	assert.Equal(t, []string{"demo/load/1"}, masters(t, token), "it has made the key, and nobody will know it")

	require.NoError(t, w.Resume(t.Context()))
	k := w.catalogue().KeySet("demo").Key(load(1))
	require.NotNil(t, k)
	assert.Equal(t, AttemptID(r.ID, k.Label, 3), k.ID)
	assert.Equal(t, k.KCV.Value, valueOf(t, token, k.Label))
}

// A key with a copy under the backup key: the copy is of that key, under that backup key, and goes with it.
func TestKeysWithACopy(t *testing.T) {
	token := softToken(t)
	w := newWorld(t, policy.Quorum{Default: 1}, withToken(token))
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	value := secret.Copy([]byte("a test's backup key, 32 bytes ok"))
	defer value.Wipe()
	v, err := token.ImportBackupKey(t.Context(), "escrow", value)
	require.NoError(t, err)
	r := w.does(policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "bob"}} })
	change, c, err := w.Ready(t.Context(), r.ID)
	require.NoError(t, err)
	made := madeFor(c, change)
	made.Backup.KCV.Value, made.Backup.Label = v.String(), backupLabel+"escrow"
	_, err = w.Complete(t.Context(), officer("alice"), r.ID, made, "")
	require.NoError(t, err)

	w.does(policy.CreateKey, func(c *Change) { creating(load(1))(c); c.Keys.WithoutBackup = false })
	wrapped, err := hex.DecodeString(w.catalogue().KeySet("demo").Key(load(1)).Wrapped)
	require.NoError(t, err)
	under, err := hsm.Wrapped(wrapped).BackupKCV()
	require.NoError(t, err)
	assert.Equal(t, v, under)
	w.does(policy.DestroyKey, on(*w.catalogue(), load(1)))
	assert.Empty(t, w.catalogue().KeySet("demo").Key(load(1)).Wrapped)
}
