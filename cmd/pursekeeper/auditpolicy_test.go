package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Rules that another version of this program decided by are found too: an auditor reads what was in force, whether or not it could be still.
func TestRulesOfAnotherProgramAreFound(t *testing.T) {
	rules := policy.Rules{
		Clients:  []policy.Client{{Name: "gd", Identity: "spiffe://test/gd", Role: "treasurer"}},
		Policies: []policy.Document{{Name: "later", Text: `@id("later") permit (principal, action == Action::"Redeem", resource);`}},
	}
	_, err := policy.New(rules)
	require.Error(t, err)
	line, err := json.Marshal(rules)
	require.NoError(t, err)
	r := &rulesRoll{}
	changed, err := r.follow(audit.Entry{Event: audit.RulesRegistered, Change: &audit.Change{Bytes: string(line), Revision: 1}})
	require.NoError(t, err)
	assert.True(t, changed)
	assert.Equal(t, rules.Digest(), r.digest())
	compiled, err := policy.New(policy.Rules{Clients: []policy.Client{{Name: "gd", Identity: "i", Role: policy.Platform}}})
	require.NoError(t, err)
	assert.Equal(t, compiled.Digest(), policy.Rules{Clients: []policy.Client{{Name: "gd", Identity: "i", Role: policy.Platform}}}.Digest())
	assert.Empty(t, (&rulesRoll{}).digest())
}
