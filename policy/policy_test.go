package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who may do what. A row for every operation, a column for every role: the test fails when either list grows without it.
func TestRolesAndOperations(t *testing.T) {
	table := []struct {
		op                                                         Operation
		platform, reader, officer, auditor, personaliser, operator rune // x may
	}{
		{AuthorizeLoad, 'x', 0, 0, 0, 0, 0},
		{ConfirmLoad, 'x', 0, 0, 0, 0, 0},
		{BeginSettlement, 'x', 0, 0, 0, 0, 0},
		{SettleLoad, 'x', 0, 0, 0, 0, 0},
		{GetTransaction, 'x', 0, 'x', 'x', 0, 0},
		{ListTransactions, 'x', 0, 'x', 'x', 0, 0},
		{UnlockCard, 0, 0, 'x', 0, 0, 0},
		{AuthorizeUnload, 'x', 0, 0, 0, 0, 0},
		{ConfirmUnload, 'x', 0, 0, 0, 0, 0},
		{AuthorizeOverdraft, 'x', 0, 0, 0, 0, 0},
		{ConfirmOverdraft, 'x', 0, 0, 0, 0, 0},
		{VerifyTac, 'x', 0, 0, 0, 0, 0},
		{VerifyTacs, 'x', 0, 0, 0, 0, 0},
		{SignCommand, 'x', 0, 0, 0, 0, 0},
		{AuthenticateCard, 'x', 0, 0, 0, 0, 0},
		{PersonaliseCard, 0, 0, 0, 0, 'x', 0},
		{PersonalisePSAM, 0, 0, 0, 0, 'x', 0},
		{BeginPurchase, 0, 'x', 0, 0, 0, 0},
		{CompletePurchase, 0, 'x', 0, 0, 0, 0},
		{Challenge, 0, 'x', 0, 0, 0, 0},
		{Authenticate, 0, 'x', 0, 0, 0, 0},
		{Seal, 0, 'x', 0, 0, 0, 0},
		{Open, 0, 'x', 0, 0, 0, 0},
		{ListKeySets, 0, 0, 'x', 'x', 0, 0},
		{Replay, 0, 0, 0, 'x', 0, 0},
		{ListEntries, 0, 0, 0, 'x', 0, 0},
		{ReadEntry, 0, 0, 0, 'x', 0, 0},
		{ProveEntry, 0, 0, 0, 'x', 0, 0},
		{LatestCheckpoint, 0, 0, 0, 'x', 0, 0},
		{ExportEntries, 0, 0, 0, 'x', 0, 0},
		{ProposeChange, 0, 0, 'x', 0, 0, 0},
		{ApproveChange, 0, 0, 'x', 0, 0, 0},
		{RejectChange, 0, 0, 'x', 0, 0, 0},
		{CancelChange, 0, 0, 'x', 0, 0, 0},
		{ListChanges, 0, 0, 'x', 'x', 0, 0},
		{ReadChange, 0, 0, 'x', 'x', 0, 0},
		{ListOfficers, 0, 0, 'x', 'x', 0, 0},
	}
	var rows []Operation
	for _, row := range table {
		rows = append(rows, row.op)
	}
	require.ElementsMatch(t, Operations(), rows)
	require.Len(t, Roles(), 6)
	for i, role := range []Role{Platform, Reader, Officer, Auditor, Personaliser, Operator} {
		p, err := New(Rules{Clients: []Client{{Name: "c", Identity: "spiffe://test/c", Role: role, KeySets: []string{"demo"}}}})
		require.NoError(t, err)
		caller, err := p.Identify([]string{"spiffe://test/c"})
		require.NoError(t, err)
		for _, row := range table {
			op := row.op
			may := []rune{row.platform, row.reader, row.officer, row.auditor, row.personaliser, row.operator}[i] == 'x'
			keySet := "demo"
			if !op.OfKeySet() {
				_, err := p.Decide(Request{Caller: caller, Operation: op, KeySet: "demo"})
				require.Error(t, err, "%s %s", role, op)
				keySet = ""
			}
			grant, err := p.Decide(Request{Caller: caller, Operation: op, KeySet: keySet})
			if may {
				require.NoError(t, err, "%s %s", role, op)
				assert.True(t, grant.Allows(op, keySet))
				assert.False(t, grant.Allows(op, "other"))
				continue
			}
			var denied *Denied
			require.ErrorAs(t, err, &denied, "%s %s", role, op)
			assert.Equal(t, Grant{}, grant)
			_, err = p.Decide(Request{Caller: caller, Operation: op, KeySet: "other"})
			require.ErrorAs(t, err, &denied)
		}
	}
}

func TestTheDefaultIsDeny(t *testing.T) {
	var denied *Denied
	_, err := (&Policy{}).Identify([]string{""})
	require.ErrorAs(t, err, &denied)
	_, err = (&Policy{}).Decide(Request{Operation: AuthorizeLoad})
	require.ErrorAs(t, err, &denied)
	assert.False(t, Grant{}.Allows("", ""))
	assert.False(t, Grant{}.Allows(AuthorizeLoad, "demo"))

	p, err := New(Rules{Clients: []Client{{Name: "c", Identity: "spiffe://test/c", Role: Platform, KeySets: []string{"demo"}}}})
	require.NoError(t, err)
	caller, err := p.Identify([]string{"spiffe://test/c"})
	require.NoError(t, err)
	_, err = p.Decide(Request{Caller: caller, Operation: "authorizeload", KeySet: "demo"})
	require.ErrorAs(t, err, &denied)
	_, err = p.Decide(Request{Caller: caller, Operation: AuthorizeLoad, KeySet: "demo2"})
	require.ErrorAs(t, err, &denied)
}

func TestIdentityIsExactAndUnique(t *testing.T) {
	p, err := New(Rules{Clients: []Client{
		{Name: "a", Identity: "spiffe://test/a", Role: Platform},
		{Name: "b", Identity: "spiffe://test/b", Role: Auditor},
	}})
	require.NoError(t, err)
	for _, names := range [][]string{nil, {"spiffe://test/"}, {"spiffe://test/a/"}, {"SPIFFE://test/a"}, {"spiffe://test/a", "spiffe://test/b"}} {
		_, err := p.Identify(names)
		var denied *Denied
		require.ErrorAs(t, err, &denied, "%v", names)
	}
	for name, clients := range map[string][]Client{
		"no name":          {{Identity: "i", Role: Platform}},
		"no identity":      {{Name: "a", Role: Platform}},
		"unknown role":     {{Name: "a", Identity: "i", Role: "root"}},
		"no role":          {{Name: "a", Identity: "i"}},
		"name twice":       {{Name: "a", Identity: "i", Role: Platform}, {Name: "a", Identity: "j", Role: Platform}},
		"identity twice":   {{Name: "a", Identity: "i", Role: Platform}, {Name: "b", Identity: "i", Role: Platform}},
		"identity differs": {{Name: "a", Identity: "", Role: Platform}},
	} {
		_, err := New(Rules{Clients: clients})
		require.Error(t, err, name)
	}
}

func TestDigestCoversEveryField(t *testing.T) {
	base := Client{Name: "a", Identity: "i", Role: Platform, KeySets: []string{"x", "y"}, MaxAmountFen: 1}
	digest := func(cs ...Client) string {
		p, err := New(Rules{Clients: cs})
		require.NoError(t, err)
		return p.Digest()
	}
	seen := map[string]bool{digest(base): true}
	for _, change := range []func(*Client){
		func(c *Client) { c.Name = "b" }, func(c *Client) { c.Identity = "j" }, func(c *Client) { c.Role = Auditor },
		func(c *Client) { c.KeySets = []string{"x"} }, func(c *Client) { c.KeySets = []string{"x y"} }, func(c *Client) { c.MaxAmountFen = 2 }, func(c *Client) { c.Suspended = true },
	} {
		c := base
		change(&c)
		assert.False(t, seen[digest(c)])
		seen[digest(c)] = true
	}
	assert.Equal(t, digest(base), digest(Client{Name: "a", Identity: "i", Role: Platform, KeySets: []string{"y", "x"}, MaxAmountFen: 1}))
}

// A client that officers suspended may do nothing, whoever identified it before by an earlier policy.
func TestSuspendedClients(t *testing.T) {
	client := Client{Name: "c", Identity: "i", Role: Platform, KeySets: []string{"demo"}}
	before, err := New(Rules{Clients: []Client{client}})
	require.NoError(t, err)
	caller, err := before.Identify([]string{"i"})
	require.NoError(t, err)
	client.Suspended = true
	after, err := New(Rules{Clients: []Client{client}})
	require.NoError(t, err)
	var denied *Denied
	_, err = after.Identify([]string{"i"})
	require.ErrorAs(t, err, &denied)
	_, err = after.Decide(Request{Caller: caller, Operation: AuthorizeLoad, KeySet: "demo"})
	require.ErrorAs(t, err, &denied)
	client.Suspended, client.Name = false, "another"
	renamed, err := New(Rules{Clients: []Client{client}})
	require.NoError(t, err)
	_, err = renamed.Decide(Request{Caller: caller, Operation: AuthorizeLoad, KeySet: "demo"})
	require.ErrorAs(t, err, &denied)
}
