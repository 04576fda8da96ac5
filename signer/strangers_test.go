package signer

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
)

// A certificate may carry more names than an entry has room for; whoever has one is denied, and recorded, like any other stranger.
func TestStrangersWithLongNamesAreRecorded(t *testing.T) {
	b := newBench(t)
	names := []string{strings.Repeat("\x01", 1<<16), "spiffe://test/" + strings.Repeat("x", 1<<16)}
	for range 20 {
		names = append(names, "stranger.test")
	}
	_, err := b.Identify(t.Context(), names)
	var denied *policy.Denied
	require.True(t, errors.As(err, &denied), "%.200v", err)
	entries := b.entries(t)
	last := entries[len(entries)-1]
	assert.Equal(t, "PERMISSION_DENIED", last.Outcome)
	assert.Contains(t, last.Detail, "the certificate names no client of this signer: ")
	assert.Contains(t, last.Detail, "and 14 more")
}

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
