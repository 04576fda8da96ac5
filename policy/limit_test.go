package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// names are the limits that a client's grant has for an operation on a key set.
func names(t *testing.T, p *Policy, identity string, op Operation, keySet string) (found []string) {
	t.Helper()
	caller, err := p.Identify([]string{identity})
	require.NoError(t, err)
	grant, err := p.Decide(Request{Caller: caller, Operation: op, KeySet: keySet})
	require.NoError(t, err)
	for _, l := range grant.Limits() {
		found = append(found, l.Name)
	}
	return found
}

// A grant has the limits of its client, role, operation and key set, in the order of the list of clients and of the document.
func TestLimitsOfAGrant(t *testing.T) {
	p, err := New(Rules{
		Clients: []Client{
			{Name: "gd", Identity: "gd", Role: Platform, KeySets: []string{"gd-purse", "gx-purse"}},
			{Name: "gx", Identity: "gx", Role: Platform, KeySets: []string{"gd-purse", "gx-purse"}, MaxAmountFen: 100},
			{Name: "shop", Identity: "shop", Role: Reader, KeySets: []string{"gd-purse"}},
		},
		Limits: &Document{Name: "limits", Text: `limits:
  - {name: every-load, per: transaction, maxFen: 1000}
  - {name: gd-set, keySets: [gd-purse], per: card, period: day, maxFen: 3000}
  - {name: gx-client, clients: [gx], per: client, period: day, maxFen: 9000}
  - {name: unloads, operations: [AuthorizeUnload], roles: [platform], per: terminal, period: hour, maxCount: 3}
  - {name: sales, operations: [BeginPurchase], roles: [reader], per: transaction, maxFen: 500}
`},
	})
	require.NoError(t, err)
	for _, test := range []struct {
		identity string
		op       Operation
		keySet   string
		want     []string
	}{
		{"gd", AuthorizeLoad, "gd-purse", []string{"every-load", "gd-set"}},
		{"gd", AuthorizeLoad, "gx-purse", []string{"every-load"}},
		{"gx", AuthorizeLoad, "gx-purse", []string{"maxAmountFen of client gx", "every-load", "gx-client"}},
		{"gx", AuthorizeUnload, "gd-purse", []string{"maxAmountFen of client gx", "unloads"}},
		{"gx", AuthorizeOverdraft, "gd-purse", []string{"maxAmountFen of client gx"}},
		{"gd", AuthorizeOverdraft, "gd-purse", nil},
		{"gd", ConfirmLoad, "gd-purse", nil},
		{"shop", BeginPurchase, "gd-purse", []string{"sales"}},
	} {
		assert.Equal(t, test.want, names(t, p, test.identity, test.op, test.keySet), "%s %s %s", test.identity, test.op, test.keySet)
	}
	assert.Empty(t, Grant{}.Limits())
	only := Limit{Purses: []string{"EP"}, Terminals: []string{"112233445566"}}
	assert.True(t, only.Covers("EP", "112233445566"))
	assert.False(t, only.Covers("ED", "112233445566"))
	assert.False(t, only.Covers("EP", "112233445567"))
}

// What a policy mentions is kept of everybody's requests, so that a policy about one client sees what the others did.
func TestMentionedTotalsAreKeptOfAll(t *testing.T) {
	p, err := New(Rules{
		Clients: []Client{
			{Name: "a", Identity: "a", Role: Platform, KeySets: []string{"demo"}},
			{Name: "b", Identity: "b", Role: Platform, KeySets: []string{"demo"}},
		},
		Policies: append(Shipped(), Document{Name: "late", Text: `@id("late")
forbid (principal == Client::"a", action == Action::"AuthorizeLoad", resource)
when { context.totals.cardDayFen > 500 };`}),
	})
	require.NoError(t, err)
	for _, who := range []string{"a", "b"} {
		assert.Equal(t, []string{"cardDayFen"}, names(t, p, who, AuthorizeLoad, "demo"), who)
		assert.Equal(t, []string{"cardDayFen"}, names(t, p, who, AuthorizeUnload, "demo"), who)
		assert.Empty(t, names(t, p, who, AuthorizeOverdraft, "demo"), who)
	}
}

// A number may change without the total; whatever else changes, it is another total.
func TestScopes(t *testing.T) {
	base := Limit{Operations: []Operation{AuthorizeLoad}, Per: PerCard, Period: Day, MaxFen: 1}
	seen := map[string]bool{base.Scope(): true}
	for i, change := range []func(*Limit){
		func(l *Limit) { l.Period = Hour }, func(l *Limit) { l.Per = PerClient }, func(l *Limit) { l.Operations = []Operation{AuthorizeUnload} },
		func(l *Limit) { l.KeySets = []string{"a"} }, func(l *Limit) { l.KeySets = []string{"a", "b"} }, func(l *Limit) { l.KeySets = []string{"a b"} },
		func(l *Limit) { l.Clients = []string{"a"} }, func(l *Limit) { l.Roles = []Role{"a"} }, func(l *Limit) { l.Purses = []string{"a"} },
		func(l *Limit) { l.Terminals = []string{"a"} },
	} {
		l := base
		change(&l)
		assert.False(t, seen[l.Scope()], "change %d", i)
		seen[l.Scope()] = true
	}
	same := base
	same.Name, same.MaxFen, same.MaxCount, same.AlarmFen, same.AlarmCount = "other", 2, 3, 4, 5
	assert.Equal(t, base.Scope(), same.Scope())
	a, b := base, base
	a.KeySets, b.KeySets = []string{"x", "y"}, []string{"y", "x"}
	assert.Equal(t, a.Scope(), b.Scope())
}

// Days and hours by the clock of a place: where an hour comes twice it is two, a day may have 23 or 25 hours, and zones need not be whole hours.
func TestPeriods(t *testing.T) {
	for _, test := range []struct {
		zone, at     string // at in UTC
		day, hour    string
		dayEnds      string
		hourEnds     string
		whyItMatters string
	}{
		{"Asia/Shanghai", "2024-01-31T15:59:59Z", "20240131", "20240131T1500Z", "2024-01-31T16:00:00Z", "2024-01-31T16:00:00Z", "the last second of a day"},
		{"Asia/Shanghai", "2024-01-31T16:00:00Z", "20240201", "20240131T1600Z", "2024-02-01T16:00:00Z", "2024-01-31T17:00:00Z", "the first of the next"},
		{"Europe/Berlin", "2024-10-27T00:30:00Z", "20241027", "20241027T0000Z", "2024-10-27T23:00:00Z", "2024-10-27T01:00:00Z", "02:30, in summer"},
		{"Europe/Berlin", "2024-10-27T01:30:00Z", "20241027", "20241027T0100Z", "2024-10-27T23:00:00Z", "2024-10-27T02:00:00Z", "02:30 again, in winter"},
		{"Europe/Berlin", "2024-03-31T20:00:00Z", "20240331", "20240331T2000Z", "2024-03-31T22:00:00Z", "2024-03-31T21:00:00Z", "a day of 23 hours"},
		{"Asia/Kathmandu", "2024-06-01T18:14:00Z", "20240601", "20240601T1715Z", "2024-06-01T18:15:00Z", "2024-06-01T18:15:00Z", "+05:45"},
		{"Asia/Kathmandu", "2024-06-01T18:15:00Z", "20240602", "20240601T1815Z", "2024-06-02T18:15:00Z", "2024-06-01T19:15:00Z", "its midnight"},
		{"UTC", "2024-12-31T23:59:59Z", "20241231", "20241231T2300Z", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "the end of a year"},
	} {
		zone, err := time.LoadLocation(test.zone)
		require.NoError(t, err)
		at, err := time.Parse(time.RFC3339, test.at)
		require.NoError(t, err)
		day, dayEnds := Day.of(at.In(zone))
		hour, hourEnds := Hour.of(at.In(zone))
		assert.Equal(t, []string{test.day, test.hour, test.dayEnds, test.hourEnds},
			[]string{day, hour, dayEnds.UTC().Format(time.RFC3339), hourEnds.UTC().Format(time.RFC3339)}, test.whyItMatters)
	}
}

// Whose total it is: a card and a terminal are of their key set, and no name can pass for another's.
func TestBuckets(t *testing.T) {
	at := time.Date(2024, 1, 31, 12, 0, 0, 0, time.UTC)
	s := Subject{KeySet: "gd-purse", Client: "a|b,c/d", Card: "3105228000001117", Terminal: "112233445566"}
	for per, want := range map[Per]string{
		PerCard: "|gd-purse/3105228000001117|20240131", PerTerminal: "|gd-purse/112233445566|20240131", PerClient: "|a%7Cb%2Cc/d|20240131",
	} {
		l := Limit{Operations: []Operation{AuthorizeLoad}, Per: per, Period: Day}
		name, until := l.Bucket(s, at)
		assert.Equal(t, l.Scope()+want, name)
		assert.Equal(t, time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC), until)
	}
	name, until := Signals{}.Of(MAC1Failures, PerTerminal).Bucket(s, at.In(time.FixedZone("", 20700)))
	assert.Equal(t, "mac1Failures-terminal|gd-purse/112233445566|20240131T1200Z", name)
	assert.True(t, until.Equal(at.Add(time.Hour)))
}

// Signals are on by default, and a document changes those that it names.
func TestSignals(t *testing.T) {
	p, err := New(Rules{Limits: &Document{Name: "limits", Text: "signals:\n  - {watch: mac1Failures, per: client, alarmCount: 7, refuse: true}\n"}})
	require.NoError(t, err)
	assert.Equal(t, Signal{MAC1Failures, PerClient, 7, true}, p.Signals().Of(MAC1Failures, PerClient))
	for _, watch := range []Watch{MAC1Failures, CounterConflicts, TACFailures} {
		for _, per := range []Per{PerTerminal, PerClient} {
			assert.Positive(t, (&Policy{}).Signals().Of(watch, per).AlarmCount)
			assert.Positive(t, p.Signals().Of(watch, per).AlarmCount)
		}
	}
}
