package custody

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// world is an office over a real store, whose officers have keys that ssh-keygen made.
type world struct {
	testing.TB
	*Office
	store store.Store
	clock time.Time
	keys  map[string]sshKey
	reset []PurseChange
}

func newWorld(t testing.TB, quorum policy.Quorum, with func(*Options)) *world {
	t.Helper()
	w := worldOver(t, filepath.Join(t.TempDir(), "state.db"), with)
	first := Catalogue{Quorum: quorum, Rules: officersRules("alice", "bob", "carol", "dave", "eve")}
	for _, name := range []string{"alice", "bob", "carol"} {
		w.keys[name] = newSSHKey(t, "-t", "ed25519")
		first.Officers = append(first.Officers, Officer{Name: name, Key: w.keys[name].text})
	}
	_, err := w.Found(t.Context(), first)
	require.NoError(t, err)
	return w
}

func worldOver(t testing.TB, place string, with func(*Options)) *world {
	s, err := store.OpenSQLite(t.Context(), place)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	w := &world{TB: t, store: s, clock: noon, keys: map[string]sshKey{}}
	options := Options{
		Store: s, Node: "node-1", Now: func() time.Time { return w.clock },
		ResetPurse: func(p PurseChange) (store.PurseKey, func(*store.Purse) error, error) {
			key := store.PurseKey{KeySet: p.KeySet, Card: p.Card, Purse: p.Purse}
			return key, func(p *store.Purse) error {
				p.Highest = store.NoCounter
				w.reset = append(w.reset, PurseChange{KeySet: p.Key.KeySet, Card: p.Key.Card, Purse: p.Key.Purse})
				return nil
			}, nil
		},
	}
	if with != nil {
		with(&options)
	}
	w.Office, err = NewOffice(options)
	require.NoError(t, err)
	return w
}

func officer(name string) Caller { return Caller{Client: name, Role: policy.Officer, Policy: "digest"} }

// propose is a proposal that must succeed.
func (w *world) propose(author string, act policy.Act, with func(*Change)) store.ChangeRequest {
	w.Helper()
	r, err := w.tryPropose(author, act, with)
	require.NoError(w, err)
	return r
}

func (w *world) tryPropose(author string, act policy.Act, with func(*Change)) (store.ChangeRequest, error) {
	c := Change{Act: act, Reason: "a test"}
	with(&c)
	return w.Propose(w.Context(), officer(author), Proposal{Change: c})
}

// approve signs the request's bytes with the officer's key, by ssh-keygen.
func (w *world) approve(name string, r store.ChangeRequest) (store.ChangeRequest, error) {
	w.Helper()
	return w.Approve(w.Context(), officer(name), r.ID, w.keys[name].sign(w, r.Body))
}

// does has a change proposed by alice and approved by bob.
func (w *world) does(act policy.Act, with func(*Change)) store.ChangeRequest {
	w.Helper()
	r, err := w.approve("bob", w.propose("alice", act, with))
	require.NoError(w, err)
	return r
}

func (w *world) catalogue() *Catalogue {
	w.Helper()
	c, err := w.Catalogue(w.Context())
	require.NoError(w, err)
	require.NoError(w, c.Check())
	return &c
}

// entries are the whole record.
func (w *world) entries() (all []audit.Entry) {
	w.Helper()
	require.NoError(w, w.store.Entries(context.WithoutCancel(w.Context()), 0, func(_ uint64, line []byte) bool {
		e, err := audit.Decode(line)
		require.NoError(w, err)
		all = append(all, e)
		return true
	}))
	return all
}

func (w *world) last() audit.Entry {
	w.Helper()
	all := w.entries()
	return all[len(all)-1]
}

func newKeySet(name string, alg suite.Algorithm) func(*Change) {
	return func(c *Change) { d := definition(); d.Name, d.Algorithm = name, alg; c.KeySet = &d }
}

func quorumOf(n int) func(*Change) {
	return func(c *Change) { c.Quorum = &policy.Quorum{Default: n} }
}
