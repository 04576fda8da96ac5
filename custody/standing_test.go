package custody

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
