package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pursekeeper/pursekeeper/policy"
)

// A folder's clients are no part of a proposal of documents; where they are others than those in force, whoever proposes is told.
func TestOtherClientsAreSaid(t *testing.T) {
	clients := []policy.Client{{Name: "a", Identity: "a", Role: policy.Reader, KeySets: []string{"y", "x"}}, {Name: "b", Identity: "b", Role: policy.Reader}}
	now := policy.Rules{Clients: clients}
	same := policy.Rules{Clients: []policy.Client{clients[1], {Name: "a", Identity: "a", Role: policy.Reader, KeySets: []string{"x", "y"}}}}
	assert.Empty(t, otherClients(same, now))
	assert.Empty(t, otherClients(policy.Rules{}, now), "a folder of documents alone")
	same.Clients[0].Role = policy.Platform
	assert.Contains(t, otherClients(same, now), "NOTE: clients.yaml of the folder is not the list in force")
}
