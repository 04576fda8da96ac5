package signer

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Who was identified by an earlier policy, on a stream that is still open, is recorded with the role by which he was judged.
func TestTheRecordHasTheRoleOfTheDecision(t *testing.T) {
	b := newBench(t)
	sets := []KeySet{testKeySet(t, "demo", suite.TDES)}
	for _, role := range []policy.Role{policy.Reader, policy.Auditor} {
		rules, err := policy.New(policy.Rules{Clients: []policy.Client{{Name: "platform", Identity: testIdentity, Role: role, KeySets: []string{"demo"}}}})
		require.NoError(t, err)
		require.NoError(t, b.Use(0, rules, sets))
		_, err = b.AuthorizeLoad(t.Context(), b.caller, demoRequest())
		require.ErrorContains(t, err, "role "+string(role)+" may not AuthorizeLoad")
		entries := b.entries(t)
		assert.Equal(t, role, entries[len(entries)-1].Role)
		assert.Equal(t, rules.Digest(), entries[len(entries)-1].Policy)
	}
}
