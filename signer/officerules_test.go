package signer

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// rulesOf are rules of an officer and a platform, in the catalogue's order.
func rulesOf(change func(*policy.Client)) policy.Rules {
	officer := policy.Client{Name: "officer", Identity: "spiffe://pursekeeper.test/officer", Role: policy.Officer, KeySets: []string{"demo"}}
	platform := policy.Client{Name: "platform", Identity: testIdentity, Role: policy.Platform, KeySets: []string{"demo"}}
	change(&officer)
	change(&platform)
	return policy.Rules{Clients: []policy.Client{officer, platform}, Policies: policy.Shipped()}
}

// An officer decides, and looks, by the policy of the newest revision: one whose client was stopped on another node a moment ago, or given another
// role, is refused here at once, and so is a client that only looks at transactions.
func TestOfficersDecideByTheNewestPolicy(t *testing.T) {
	o := &office{t: t}
	rules := rulesOf(func(*policy.Client) {})
	b := &bench{}
	follow := func(ctx context.Context) error {
		kept, err := b.store.Custody(ctx)
		if err != nil || kept.Revision == 0 {
			return err
		}
		compiled, err := policy.New(rules)
		return errors.Join(err, b.Use(kept.Revision, compiled, []KeySet{testKeySet(t, "demo", suite.TDES)}))
	}
	b = o.governed(t, t.TempDir()+"/state.db", func(c *Config) {
		c.Reload = follow
		var err error
		c.Office, err = custody.NewOffice(custody.Options{Store: c.Store, Node: "node"})
		require.NoError(t, err)
	})
	decide := func() { // as another node's officers do: this one does not know of it
		t.Helper()
		require.NoError(t, b.store.Commit(t.Context(), store.Change{Custody: true, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			now := p.Custody()
			document, err := custody.Catalogue{Revision: now.Revision + 1}.Encode()
			now.Revision, now.Document = now.Revision+1, document
			return []audit.Entry{{Event: "Change", Time: b.clock, Outcome: "APPLIED"}}, err
		}}))
	}
	decide()
	require.NoError(t, follow(t.Context()))
	officer, err := b.Identify(t.Context(), []string{"spiffe://pursekeeper.test/officer"})
	require.NoError(t, err)
	_, _, err = b.Transactions(t.Context(), b.caller, ListRequest{KeySet: "demo"})
	require.NoError(t, err)

	rules = rulesOf(func(c *policy.Client) { c.Suspended = true })
	decide()
	var denied *policy.Denied
	_, err = b.ProposeChange(t.Context(), officer, custody.Proposal{})
	require.ErrorAs(t, err, &denied)
	assert.ErrorContains(t, err, "client officer is suspended")
	last := b.entries(t)
	assert.Equal(t, outcomeDenied, last[len(last)-1].Outcome)

	for name, looks := range map[string]func() error{
		"officers": func() error { _, err := b.Officers(t.Context(), officer); return err },
		"changes":  func() error { _, err := b.Changes(t.Context(), officer, store.RequestFilter{Limit: 1}); return err },
		"transactions": func() error {
			_, _, err := b.Transactions(t.Context(), b.caller, ListRequest{KeySet: "demo"})
			return err
		},
		"transaction": func() error {
			_, err := b.Transaction(t.Context(), b.caller, "demo/0000310522800000/EP/LOAD/0007/A1B2C3D4")
			return err
		},
		"checkpoint": func() error { _, err := b.LatestCheckpoint(t.Context(), b.caller); return err },
	} {
		rules = rulesOf(func(*policy.Client) {})
		decide()
		require.NoError(t, follow(t.Context()))
		rules = rulesOf(func(c *policy.Client) { c.Suspended = true })
		decide()
		require.ErrorAs(t, looks(), &denied, name)
		assert.ErrorContains(t, looks(), "suspended", name)
	}
}
