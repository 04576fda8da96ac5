package custody

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// An approval ends with the officer who gave it, or with its key: it does not count again when the same name and key are registered later,
// and may then be given anew.
func TestApprovalsDoNotComeBack(t *testing.T) {
	another := newSSHKey(t, "-t", "ed25519").text
	for name, path := range map[string][]policy.Act{
		"removed and added":  {policy.RemoveOfficer, policy.AddOfficer},
		"replaced and again": {policy.ReplaceOfficer, policy.ReplaceOfficer},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policy.Quorum{Default: 2}, nil)
			w.keys["dave"] = newSSHKey(t, "-t", "ed25519")
			decides := func(act policy.Act, o OfficerChange) {
				w.clock = w.clock.Add(time.Minute)
				r := w.propose("alice", act, func(c *Change) { c.Officer = &o })
				for _, by := range []string{"bob", "carol"} {
					_, err := w.approve(by, r)
					require.NoError(t, err)
				}
			}
			decides(policy.AddOfficer, OfficerChange{Name: "dave", Key: w.keys["dave"].text})
			w.clock = w.clock.Add(time.Minute)
			r := w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
			_, err := w.approve("dave", r)
			require.NoError(t, err)
			between := OfficerChange{Name: "dave"}
			if path[0] == policy.ReplaceOfficer {
				between.Key = another
			}
			decides(path[0], between)
			decides(path[1], OfficerChange{Name: "dave", Key: w.keys["dave"].text})

			r, err = w.approve("bob", r)
			require.NoError(t, err)
			require.Equal(t, store.RequestOpen, r.State, "dave's approval is from before")
			assert.Contains(t, w.last().Detail, "1 of 2")
			r, err = w.approve("dave", r)
			require.NoError(t, err)
			assert.Equal(t, store.RequestApplied, r.State)
		})
	}
}

// One person is not two officers by one key under two types, or by a name that reads like another's.
func TestOneKeyHasOneOfficer(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	add := func(name, key string) func(*Change) {
		return func(c *Change) { c.Officer = &OfficerChange{Name: name, Key: key} }
	}
	for _, private := range []crypto.Signer{ed, ec} {
		plain, err := ssh.NewPublicKey(private.Public())
		require.NoError(t, err)
		c := applied(t, founded(t), policy.AddOfficer, add("dave", OfficerKeyText(plain)))
		touched := OfficerKeyText(testOnlySecurityKey{key: private}.PublicKey())
		require.NotEqual(t, OfficerKeyText(plain), touched)
		_, err = c.Propose(draft(policy.AddOfficer, add("erin", touched)), noon)
		require.ErrorIs(t, err, ErrInvalid)
		assert.ErrorContains(t, err, "officers dave and erin have one key")
		applied(t, c, policy.ReplaceOfficer, add("dave", touched))
	}
	_, err = founded(t).Propose(draft(policy.AddOfficer, add("Alice", testOnlyKeyText("Alice"))), noon)
	require.ErrorIs(t, err, ErrInvalid)
	assert.ErrorContains(t, err, "differ in their case alone")
}

// Fewer officers than an act takes cannot come to it by lowering its quorum, or by officers of their own.
func TestNoWayAroundTheLargestQuorum(t *testing.T) {
	strict := policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.ExportKey: 2}}
	for act, with := range map[policy.Act]func(*Change){
		policy.SetQuorum:      quorumOf(1),
		policy.AddOfficer:     func(c *Change) { c.Officer = &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave")} },
		policy.ReplaceOfficer: func(c *Change) { c.Officer = &OfficerChange{Name: "carol", Key: testOnlyKeyText("dave")} },
	} {
		t.Run(string(act), func(t *testing.T) {
			w := newWorld(t, strict, nil)
			before := *w.catalogue()
			r, err := w.approve("bob", w.propose("alice", act, with))
			require.NoError(t, err)
			require.Equal(t, store.RequestOpen, r.State)
			assert.Equal(t, before, *w.catalogue())
			r, err = w.approve("carol", r)
			require.NoError(t, err)
			assert.Equal(t, store.RequestApplied, r.State)
		})
	}
	w := newWorld(t, strict, nil)
	assert.Equal(t, store.RequestApplied, w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES)).State, "the others take what they took")
}
