package limits

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// book is running totals by hand: of each bucket what it holds, and what the counter in question is charged with there already.
type book struct {
	totals  map[string]store.Total
	charged map[string]int64
}

func (b book) Total(bucket string) store.Total { return b.totals[bucket] }

func (b book) Charge(_ int, bucket string) (int64, bool) {
	fen, ok := b.charged[bucket]
	return fen, ok
}

func (b book) Alarmed(bucket string, fen, count int64) {
	t := b.totals[bucket]
	t.AlarmedFen, t.AlarmedCount = max(t.AlarmedFen, fen), max(t.AlarmedCount, count)
	b.totals[bucket] = t
}

// granted is a grant for a load under a document of limits and a Cedar document.
func granted(t *testing.T, limits, cedar string) policy.Grant {
	t.Helper()
	rules := policy.Rules{
		Clients:  []policy.Client{{Name: "gd", Identity: "gd", Role: policy.Platform, KeySets: []string{"gd-purse"}}},
		Policies: policy.Shipped(),
	}
	if limits != "" {
		rules.Limits = &policy.Document{Name: "limits", Text: "limits:\n" + limits}
	}
	if cedar != "" {
		rules.Policies = append(rules.Policies, policy.Document{Name: "late", Text: cedar})
	}
	p, err := policy.New(rules)
	require.NoError(t, err)
	caller, err := p.Identify([]string{"gd"})
	require.NoError(t, err)
	amount := uint64(100)
	grant, err := p.Decide(policy.Request{
		Caller: caller, Operation: policy.AuthorizeLoad, KeySet: "gd-purse",
		Context: policy.Context{Amount: &amount, Purse: "EP", Terminal: "112233445566", Algorithm: "3DES", Profile: "pboc-ep", Time: at},
	})
	require.NoError(t, err)
	return grant
}

var at = time.Date(2024, 1, 31, 23, 30, 0, 0, time.FixedZone("CST", 8*3600))

// What is allowed, row by row: a total that holds something already, what this purse's counter is charged with in it already, and the amount
// that is asked. In fen.
func TestLimits(t *testing.T) {
	const (
		transaction = "  - {name: one, per: transaction, maxFen: 1000}\n"
		balance     = "  - {name: purse, per: balance, maxFen: 1500}\n"
		cardDay     = "  - {name: card-day, per: card, period: day, maxFen: 5000}\n"
		cardHour    = "  - {name: card-hour, per: card, period: hour, maxCount: 3}\n"
		both        = "  - {name: client-day, per: client, period: day, maxFen: 5000, maxCount: 3}\n"
		onlyED      = "  - {name: ed, per: card, period: day, purses: [ED], maxFen: 5}\n"
		elsewhere   = "  - {name: there, per: terminal, period: day, terminals: [\"000000000001\"], maxFen: 5}\n"
		alarm       = "  - {name: alarm, per: card, period: day, alarmFen: 5}\n"
	)
	nothing := int64(-1) // the counter is not charged yet
	for _, row := range []struct {
		name    string
		limits  string
		holds   store.Total
		charged int64
		balance uint32
		amount  uint32
		refused string // "" is allowed
	}{
		{"no limit", "  - {name: other, per: transaction, clients: [gd], operations: [AuthorizeUnload], maxFen: 1}\n", store.Total{}, nothing, 0, 1 << 31, ""},
		{"one transaction at the maximum", transaction, store.Total{}, nothing, 900, 1000, ""},
		{"a fen more", transaction, store.Total{}, nothing, 0, 1001, "limit one: 1001 fen, allowed are 1000 fen per transaction"},
		{"a balance at the maximum", balance, store.Total{}, nothing, 500, 1000, ""},
		{"a fen more", balance, store.Total{}, nothing, 501, 1000, "limit purse: 1000 fen on a balance of 501, allowed is a balance of 1500 fen"},
		{"a balance of four bytes", balance, store.Total{}, nothing, 1<<32 - 1, 1<<32 - 1, "limit purse: 4294967295 fen on a balance of 4294967295, allowed is a balance of 1500 fen"},
		{"a day at the maximum", cardDay, store.Total{Fen: 4000, Count: 9}, nothing, 0, 1000, ""},
		{"a fen more", cardDay, store.Total{Fen: 4001, Count: 9}, nothing, 0, 1000,
			"limit card-day: 1000 fen would be above the 5000 fen per card and day; the day ends at 2024-02-01T00:00:00+08:00"},
		{"the same counter again, no larger", cardDay, store.Total{Fen: 5000, Count: 9}, 1000, 0, 1000, ""},
		{"the same counter again, larger by what is left", cardDay, store.Total{Fen: 4800, Count: 9}, 1000, 0, 1200, ""},
		{"and a fen more", cardDay, store.Total{Fen: 4800, Count: 9}, 1000, 0, 1201,
			"limit card-day: 1201 fen would be above the 5000 fen per card and day; the day ends at 2024-02-01T00:00:00+08:00"},
		{"a total above a maximum that was lowered since", cardDay, store.Total{Fen: 9000, Count: 9}, nothing, 0, 1,
			"limit card-day: 1 fen would be above the 5000 fen per card and day; the day ends at 2024-02-01T00:00:00+08:00"},
		{"the last of an hour", cardHour, store.Total{Fen: 1 << 40, Count: 2}, nothing, 0, 1 << 31, ""},
		{"one more", cardHour, store.Total{Count: 3}, nothing, 0, 1,
			"limit card-hour: it would be more than 3 per card and hour; the hour ends at 2024-02-01T00:00:00+08:00"},
		{"the same counter again counts none", cardHour, store.Total{Count: 3}, 5, 0, 10, ""},
		{"two maxima: the amount", both, store.Total{Fen: 4500, Count: 1}, nothing, 0, 501,
			"limit client-day: 501 fen would be above the 5000 fen per client and day; the day ends at 2024-02-01T00:00:00+08:00"},
		{"two maxima: the count", both, store.Total{Fen: 1, Count: 3}, nothing, 0, 1,
			"limit client-day: it would be more than 3 per client and day; the day ends at 2024-02-01T00:00:00+08:00"},
		{"another purse", onlyED, store.Total{Fen: 5}, nothing, 0, 100, ""},
		{"another terminal", elsewhere, store.Total{Fen: 5}, nothing, 0, 100, ""},
		{"an alarm refuses nothing", alarm, store.Total{Fen: 5000}, nothing, 0, 100, ""},
		{"the first that refuses is named", cardDay + transaction, store.Total{Fen: 5000}, nothing, 0, 1001,
			"limit card-day: 1001 fen would be above the 5000 fen per card and day; the day ends at 2024-02-01T00:00:00+08:00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan := For(granted(t, row.limits, ""), asked(row.amount, row.balance))
			b := book{map[string]store.Total{}, map[string]int64{}}
			for _, bucket := range plan.Buckets() {
				b.totals[bucket] = row.holds
				if row.charged != nothing {
					b.charged[bucket] = row.charged
				}
			}
			assert.Equal(t, row.refused, plan.Judge(b))
		})
	}
	assert.Empty(t, For(policy.Grant{}, asked(1, 1)).Judge(nil), "the zero Grant has no limit, and allows nothing anyway")
}

func asked(amount, balance uint32) Asked {
	return Asked{
		Subject: policy.Subject{
			Operation: policy.AuthorizeLoad, KeySet: "gd-purse", Client: "gd", Role: policy.Platform, Card: "3105228000001117", Purse: "EP",
			Terminal: "112233445566",
		},
		At: at, Counter: 7, Amount: amount, Balance: balance,
	}
}

// An alarm is raised by the request that first reaches it, once, whatever is given back and reached again; a higher one is another.
func TestAlarms(t *testing.T) {
	document := "  - {name: day, per: card, period: day, maxFen: 9000, alarmFen: %d, alarmCount: 3}\n"
	first := For(granted(t, fmt.Sprintf(document, 5000), ""), asked(1000, 0))
	bucket := first.Buckets()[0]
	b := book{map[string]store.Total{bucket: {Fen: 3999, Count: 1}}, map[string]int64{}}
	assert.Empty(t, first.Alarms(b))
	b.totals[bucket] = store.Total{Fen: 4000, Count: 1}
	assert.Equal(t, []string{"limit day: 5000 fen per card and day, the alarm is at 5000"}, first.Alarms(b))
	assert.Empty(t, first.Alarms(b), "once")
	b.totals[bucket] = store.Total{Fen: 6000, Count: 2, AlarmedFen: 5000}
	assert.Equal(t, []string{"limit day: 3 per card and day, the alarm is at 3"}, first.Alarms(b))
	higher := For(granted(t, fmt.Sprintf(document, 7000), ""), asked(1000, 0))
	require.Equal(t, first.Buckets(), higher.Buckets(), "a number is no part of the scope")
	assert.Equal(t, []string{"limit day: 7000 fen per card and day, the alarm is at 7000"}, higher.Alarms(b))
}

// Two limits may be over one total: it is named once, and an attempt is charged to it once.
func TestBucketsAreNamedOnce(t *testing.T) {
	cedar := `@id("late")
forbid (principal, action == Action::"AuthorizeLoad", resource) when { context.totals.cardDayFen > 5000 };`
	document := "  - {name: day, per: card, period: day, operations: [AuthorizeLoad, AuthorizeUnload], maxFen: 9000}\n"
	plan := For(granted(t, document, cedar), asked(1000, 0))
	require.Len(t, plan.applied, 2)
	assert.Len(t, plan.Buckets(), 1)
	assert.True(t, strings.HasSuffix(plan.Buckets()[0], "|gd-purse/3105228000001117|20240131"))
}

// Policies that mention totals are judged on them as they are once the request is charged, and are named by what they refuse.
func TestPoliciesOnTotals(t *testing.T) {
	for name, test := range map[string]struct {
		condition string
		holds     map[policy.TotalName]store.Total
		refused   bool
	}{
		"a day at its bound":          {"context.totals.cardDayFen > 5000", map[policy.TotalName]store.Total{policy.CardDayFen: {Fen: 4000}}, false},
		"a day above it":              {"context.totals.cardDayFen > 5000", map[policy.TotalName]store.Total{policy.CardDayFen: {Fen: 4001}}, true},
		"an hour at its bound":        {"context.totals.cardHourCount > 2", map[policy.TotalName]store.Total{policy.CardHourCount: {Count: 1}}, false},
		"an hour above it":            {"context.totals.cardHourCount > 2", map[policy.TotalName]store.Total{policy.CardHourCount: {Count: 2}}, true},
		"a client":                    {"context.totals.clientDayFen > 5000", map[policy.TotalName]store.Total{policy.ClientDayFen: {Fen: 4001}}, true},
		"a terminal":                  {"context.totals.terminalDayFen > 5000", map[policy.TotalName]store.Total{policy.TerminalDayFen: {Fen: 4001}}, true},
		"each total is its own":       {"context.totals.clientDayFen > 5000 && context.totals.cardDayFen > 0", map[policy.TotalName]store.Total{policy.CardDayFen: {Fen: 9000}}, false},
		"together with what is asked": {"context has amountFen && context.totals.cardDayFen > 1500 && context.amountFen == 100", map[policy.TotalName]store.Total{policy.CardDayFen: {Fen: 501}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			cedar := "@id(\"late\")\nforbid (principal, action == Action::\"AuthorizeLoad\", resource) when { " + test.condition + " };"
			plan := For(granted(t, "", cedar), asked(1000, 0))
			b := book{map[string]store.Total{}, map[string]int64{}}
			for _, one := range plan.applied {
				b.totals[one.bucket.Name] = test.holds[one.Total]
			}
			detail := plan.Judge(b)
			if !test.refused {
				assert.Empty(t, detail)
				return
			}
			assert.Contains(t, detail, "late")
		})
	}
}
