package custody

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// The child of TestAPowerCutLeavesNothingHalfDone works at one approved change, and kills itself at one step.
const (
	childPlace = "CUSTODY_TEST_CHILD_PLACE"
	childToken = "CUSTODY_TEST_CHILD_TOKEN" // module, label, PIN
	childStep  = "CUSTODY_TEST_CHILD_STEP"
	childID    = "CUSTODY_TEST_CHILD_ID"
	childBob   = "CUSTODY_TEST_CHILD_BOB"
)

// cutStore ends the process before a decision, and after it: what it decided is not written yet.
type cutStore struct {
	store.Store
	cut func() error
}

func (s cutStore) Commit(ctx context.Context, c store.Change) error {
	decide := c.Decide
	c.Decide = func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		_ = s.cut()
		entries, err := decide(p, index)
		_ = s.cut()
		return entries, err
	}
	return s.Store.Commit(ctx, c)
}

func TestChild(t *testing.T) {
	place := os.Getenv(childPlace)
	if place == "" {
		return // the parent's own run of the tests
	}
	var module, label, pin string
	_, err := fmt.Sscan(os.Getenv(childToken), &module, &label, &pin)
	require.NoError(t, err)
	left, err := strconv.Atoi(os.Getenv(childStep))
	require.NoError(t, err)
	cut := func() error {
		if left--; left < 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	w := worldOver(t, place, func(o *Options) {
		withToken(brokenToken{openToken(t, module, label, pin), cut})(o)
		o.Store = cutStore{o.Store, cut}
	})
	w.Office.Changed = func(uint64) { _ = cut() }
	w.keys["bob"] = sshKey{path: os.Getenv(childBob)}
	r, _, err := w.Request(t.Context(), os.Getenv(childID))
	require.NoError(t, err)
	_, err = w.approve("bob", r)
	require.NoError(t, err)
}

// Killed before, between and after each thing that creating, activating and destroying do, inside their transactions too: at the next start
// nothing has begun, or the work is done as a whole; the token holds exactly the catalogue's keys, and the record says so once.
func TestAPowerCutLeavesNothingHalfDone(t *testing.T) {
	for _, c := range []struct {
		act  policy.Act
		want []string
		cuts int
	}{
		// Around the claim's decision and after it, around each of two keys in the token, around the end's decision and after it.
		{policy.CreateKey, []string{"demo/load/1", "demo/tac/1"}, 10},
		{policy.DestroyKey, nil, 10},
		{policy.ActivateKey, []string{"demo/load/1", "demo/tac/1"}, 3}, // one transaction
		{policy.SetPolicy, nil, 3},
	} {
		t.Run(string(c.act), func(t *testing.T) {
			cuts := 0
			for step := 0; ; step++ {
				if !cutAt(t, step, c.act, c.want) {
					break
				}
				cuts++
			}
			assert.Equal(t, c.cuts, cuts)
		})
	}
}

// cutAt reports whether there was such a step.
func cutAt(t *testing.T, step int, act policy.Act, want []string) (cut bool) {
	made := hsmtest.NewToken(t)
	place := filepath.Join(t.TempDir(), "state.db")
	token := openToken(t, made.Module, made.Label, made.PIN)
	w, r := toBeApproved(t, place, token, act)
	before := *w.catalogue()
	require.NoError(t, w.store.Close())
	require.NoError(t, token.Close())

	child := exec.Command(os.Args[0], "-test.run", "^TestChild$")
	child.Env = append(os.Environ(), append(made.Env(), childPlace+"="+place, childToken+"="+made.Module+" "+made.Label+" "+made.PIN,
		childStep+"="+strconv.Itoa(step), childID+"="+r.ID, childBob+"="+w.keys["bob"].path)...)
	out, err := child.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		cut = true
	default:
		t.Fatalf("child: %v\n%s", err, out)
	}

	token = openToken(t, made.Module, made.Label, made.PIN)
	after := worldOver(t, place, withToken(token))
	require.NoError(t, after.Resume(t.Context()))
	request, _, err := after.Request(t.Context(), r.ID)
	require.NoError(t, err)
	if request.State == store.RequestOpen { // nothing was written: bob approves again
		assert.Less(t, step, 2)
		assert.Empty(t, request.Approvals)
		assert.Equal(t, before, *after.catalogue())
		after.keys = w.keys
		request, err = after.approve("bob", request)
		require.NoError(t, err)
	}
	assert.Equal(t, want, masters(t, token), "step %d", step)
	assert.Equal(t, store.RequestApplied, request.State, "step %d", step)
	if act == policy.SetPolicy {
		assert.Equal(t, testPolicy("a", "GetTransaction"), document(after.catalogue().Rules, "a"), "step %d", step)
		assert.Empty(t, document(after.catalogue().Rules, "reader"), "step %d", step)
	}
	set := after.catalogue().KeySet("demo")
	assert.Empty(t, set.Changing)
	for _, k := range set.Keys {
		switch act {
		case policy.DestroyKey:
			assert.Equal(t, Destroyed, k.State)
			continue
		case policy.ActivateKey:
			assert.Equal(t, Active, k.State)
		}
		assert.Equal(t, k.KCV.Value, valueOf(t, token, k.Label), "step %d", step)
	}
	applied := 0
	for _, e := range after.entries() {
		if e.Event == audit.ChangeApplied && e.Change.ID == r.ID {
			applied++
		}
	}
	assert.Equal(t, 1, applied, "step %d", step)
	require.NoError(t, after.store.Close())
	require.NoError(t, token.Close())
	return cut
}

// toBeApproved makes a world in which one change lacks bob's approval.
func toBeApproved(t *testing.T, place string, token *hsm.Token, act policy.Act) (*world, store.ChangeRequest) {
	w := worldOver(t, place, withToken(token))
	first := Catalogue{Quorum: policy.Quorum{Default: 1}, Rules: officersRules("alice", "bob")}
	for _, name := range []string{"alice", "bob"} {
		w.keys[name] = newSSHKey(t, "-t", "ed25519")
		first.Officers = append(first.Officers, Officer{Name: name, Key: w.keys[name].text})
	}
	_, err := w.Found(t.Context(), first)
	require.NoError(t, err)
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	if act == policy.SetPolicy {
		return w, w.propose("alice", act, func(c *Change) {
			putting("a", testPolicy("a", "GetTransaction"))(c)
			c.Policy.Remove = []DocumentRemoval{{Name: "reader"}}
		})
	}
	if act == policy.CreateKey {
		return w, w.propose("alice", act, creating(load(1), tac(1)))
	}
	w.does(policy.CreateKey, creating(load(1), tac(1)))
	return w, w.propose("alice", act, on(*w.catalogue(), load(1), tac(1)))
}
