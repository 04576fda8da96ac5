package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a policy of some documents, with a platform and an officer that know them all by "gd".
func small(t testing.TB, documents ...string) (*Policy, Caller) {
	t.Helper()
	rules := Rules{Clients: []Client{{Name: "gd", Identity: "spiffe://test/gd", Role: Platform, KeySets: []string{"gd-purse"}}}}
	for i, text := range documents {
		rules.Policies = append(rules.Policies, Document{string(rune('a' + i)), text})
	}
	p, err := New(rules)
	require.NoError(t, err)
	caller, err := p.Identify([]string{"spiffe://test/gd"})
	require.NoError(t, err)
	return p, caller
}

func load(caller Caller, fen uint64) Request {
	return Request{
		Caller: caller, Operation: AuthorizeLoad, KeySet: "gd-purse",
		Context: Context{Amount: &fen, Purse: "EP", Terminal: "112233445566", Profile: "pboc-ep", Algorithm: "3DES"},
	}
}

const (
	permitLoads = `@id("loads") permit (principal, action == Action::"AuthorizeLoad", resource);`
	dayForbids  = `@id("day") forbid (principal, action in [Action::"AuthorizeLoad", Action::"AuthorizeUnload"], resource)
		when { context.totals.cardDayFen > 1000 || context.totals.cardHourCount > 3 };`
)

func TestLatePoliciesWaitForTotals(t *testing.T) {
	p, caller := small(t, permitLoads, dayForbids)
	grant, err := p.Decide(load(caller, 100))
	require.NoError(t, err)
	require.True(t, grant.Late())
	assert.Equal(t, []TotalName{CardDayFen, CardHourCount}, grant.Needs())
	require.NoError(t, grant.Judge(Totals{CardDayFen: 1000, CardHourCount: 3, ClientDayFen: 9e9, TerminalDayFen: 9e9}))
	for _, beyond := range []Totals{{CardDayFen: 1001}, {CardHourCount: 4}, {CardDayFen: 1<<64 - 1}} {
		var denied *Denied
		require.ErrorAs(t, grant.Judge(beyond), &denied)
		assert.Equal(t, "policy day (b:1) forbids it", denied.Reason)
	}
	require.NoError(t, grant.Judge(Totals{CardDayFen: 1000}), "a judgement leaves nothing behind")
}

// A permit that needs totals is no permission before them.
func TestALatePermitIsJudgedToo(t *testing.T) {
	p, caller := small(t, `@id("a") permit (principal, action == Action::"AuthorizeLoad", resource) when { context.totals.clientDayFen <= 500 };`)
	grant, err := p.Decide(load(caller, 100))
	require.NoError(t, err)
	require.True(t, grant.Late())
	assert.Equal(t, []TotalName{ClientDayFen}, grant.Needs())
	require.NoError(t, grant.Judge(Totals{ClientDayFen: 500}))
	require.EqualError(t, grant.Judge(Totals{ClientDayFen: 501}),
		"permission denied: client gd may not AuthorizeLoad with these running totals: no policy permits it")
	r := load(caller, 100)
	r.Operation = AuthorizeUnload
	_, err = p.Decide(r)
	require.EqualError(t, err, "permission denied: role platform may not AuthorizeUnload with Key::\"gd-purse/unload\": no policy permits it")
}

func TestWhatIsNotLateNeedsNoTotals(t *testing.T) {
	p, caller := small(t, permitLoads, `@id("b") forbid (principal, action == Action::"AuthorizeUnload", resource) when { context.totals.cardDayFen > 1 };`)
	grant, err := p.Decide(load(caller, 100))
	require.NoError(t, err)
	assert.False(t, grant.Late())
	assert.Empty(t, grant.Needs())
	require.NoError(t, grant.Judge(Totals{}))
	require.Error(t, Grant{}.Judge(Totals{}))
	assert.False(t, Grant{}.Late())
}

// Whoever takes the totals, or the context, as a whole needs all of them.
func TestTotalsThatAreTakenAsAWhole(t *testing.T) {
	for _, condition := range []string{
		`context.totals == {cardDayFen: 1, cardHourCount: 1, clientDayFen: 1, terminalDayFen: 1}`,
		`context has totals && context.hour > 1`,
		`context.totals has cardDayFen && true`,
		`context == context && context.hour > 1`,
		`(if context.hour > 1 then context.totals else context.totals).cardDayFen > 1`,
	} {
		p, caller := small(t, permitLoads, `@id("b") forbid (principal, action == Action::"AuthorizeLoad", resource) when { `+condition+` };`)
		grant, err := p.Decide(load(caller, 100))
		require.NoError(t, err, condition)
		assert.Equal(t, TotalNames(), grant.Needs(), condition)
	}
}

// A forbid that cannot be judged forbids, early or late; a permit that cannot be judged permits nothing.
func TestWhatCannotBeJudgedDenies(t *testing.T) {
	noTime := `context.hour > 22` // the request has no time
	p, caller := small(t, permitLoads, `@id("night") forbid (principal, action == Action::"AuthorizeLoad", resource) when { `+noTime+` };`)
	_, err := p.Decide(load(caller, 100))
	require.ErrorContains(t, err, "policy night (b:1) forbids something, and could not be judged: ")
	require.ErrorContains(t, err, "hour")

	p, caller = small(t, `@id("night") permit (principal, action == Action::"AuthorizeLoad", resource) when { `+noTime+` };`)
	_, err = p.Decide(load(caller, 100))
	require.ErrorContains(t, err, "client gd may not AuthorizeLoad: policy night (a:1) could not be judged: ")

	p, caller = small(t, permitLoads, `@id("sum") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context.totals.cardDayFen * 2 > 9 };`)
	grant, err := p.Decide(load(caller, 100))
	require.NoError(t, err)
	require.NoError(t, grant.Judge(Totals{CardDayFen: 1}))
	require.ErrorContains(t, grant.Judge(Totals{CardDayFen: 1 << 62}), "policy sum (b:1) forbids something, and could not be judged: ")

	p, caller = small(t, permitLoads, `@id("known") forbid (principal, action == Action::"AuthorizeLoad", resource) when { 9223372036854775807 + 1 > 0 };`)
	_, err = p.Decide(load(caller, 100))
	require.ErrorContains(t, err, "policy known (b:1) forbids something, and could not be judged: ")
}
