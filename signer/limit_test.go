package signer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// limitedRules is the bench's policy with a document of limits, and further Cedar documents.
func limitedRules(t testing.TB, limits string, cedar ...policy.Document) *policy.Policy {
	t.Helper()
	rules := policy.Rules{
		Clients: []policy.Client{
			{Name: "platform", Identity: testIdentity, Role: policy.Platform, KeySets: []string{"demo"}},
			{Name: "officer", Identity: "spiffe://pursekeeper.test/officer", Role: policy.Officer, KeySets: []string{"demo"}},
		},
		Policies: append(policy.Shipped(), cedar...),
	}
	if limits != "" {
		rules.Limits = &policy.Document{Name: "limits", Text: limits}
	}
	p, err := policy.New(rules)
	require.NoError(t, err)
	return p
}

// under makes a bench go by a document of limits.
func under(t testing.TB, limits string, cedar ...policy.Document) func(*Config) {
	return func(c *Config) { c.Policy = limitedRules(t, limits, cedar...) }
}

const cardDay = "limits:\n  - {name: card-day, per: card, period: day, maxFen: %d}\n"

// totals are all that the attempts of the record are charged with, in fen, by bucket.
func (b *bench) totals(t testing.TB) (all []string) {
	t.Helper()
	checkTotals(t, b.store)
	listed, err := b.store.List(t.Context(), store.Filter{Limit: 1000})
	require.NoError(t, err)
	for _, l := range listed {
		for _, bucket := range l.Attempt.Buckets {
			require.NoError(t, b.store.Commit(t.Context(), store.Change{
				Totals: []store.Bucket{{Name: bucket}},
				Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
					all = append(all, fmt.Sprintf("%s: %d", bucket[strings.Index(bucket, "|")+1:], p.Total(bucket).Fen))
					return nil, nil
				},
			}))
		}
	}
	return all
}

// What a limit refuses is charged nowhere and keeps what the card's right MAC1 proved; the answer and the record name the limit.
func TestARefusedLoadCountsNothing(t *testing.T) {
	w := newWallet(t, under(t, fmt.Sprintf(cardDay, 150)))
	first, _ := w.load() // one yuan: the card is at the next counter
	refused := w.authorise(w.offer())
	assert.Equal(t, ledger.LimitExceeded, refused.Outcome)
	assert.Equal(t, "limit card-day: 100 fen would be above the 150 fen per card and day; the day ends at 2024-02-01T00:00:00+08:00", refused.Detail)
	assert.Empty(t, refused.MAC2)
	assert.Equal(t, []store.Proved{proved(first, store.Applied, store.ByCounter)}, refused.Settled, "what the card proved is kept")
	assert.Equal(t, "APPLIED COUNTER", w.state(first.TransactionID))
	entries := w.entries(t)
	last := entries[len(entries)-1]
	assert.Equal(t, []string{"LIMIT_EXCEEDED", refused.Detail, ""}, []string{last.Outcome, last.Detail, last.MAC2})
	assert.Equal(t, []string{"demo/3105228000001117|20240131: 100"}, w.totals(t))

	w.clock = w.clock.Add(time.Second) // midnight, where the key set is
	w.approved(w.offer())
	assert.Equal(t, []string{"demo/3105228000001117|20240131: 100", "demo/3105228000001117|20240201: 100"}, w.totals(t))
}

// A recorded answer is given again whatever the limits are by now: the load is authorised, and a lost answer must not lose it.
func TestARecordedLoadIsNoMatterOfLimits(t *testing.T) {
	w := newWallet(t, under(t, fmt.Sprintf(cardDay, 100)))
	answer := w.offer()
	approved := w.approved(answer)
	require.NoError(t, w.Use(0, limitedRules(t, fmt.Sprintf(cardDay, 99)), []KeySet{w.Signer.view().keys.sets["demo"].KeySet}))
	assert.Equal(t, approved, w.authorise(answer))
	assert.Equal(t, ledger.LimitExceeded, w.authorise(w.offer()).Outcome)
}

// The day is the signer's, not the one in the request: a caller does not choose what he is charged to.
func TestTheDayIsNotTheCallers(t *testing.T) {
	w := newWallet(t, under(t, fmt.Sprintf(cardDay, 150)))
	w.load()
	for _, date := range []string{"20240130", "20240201", "20300101"} {
		a := w.authorise(w.offer(), func(r *LoadRequest) { r.Date = date })
		assert.Equal(t, ledger.LimitExceeded, a.Outcome, date)
	}
}

// One counter counts once, at its largest amount; a settlement, and a TAC that leaves its siblings behind, give back.
func TestWhatIsGivenBack(t *testing.T) {
	w := newWallet(t, under(t, fmt.Sprintf(cardDay, 300)))
	ask := func(amount uint64) Authorization {
		t.Helper()
		return w.authorise(w.initialise(purse.Fen(amount), testTerminal), func(r *LoadRequest) { r.AmountFen = amount })
	}
	assert.Equal(t, ledger.Approved, ask(100).Outcome)
	assert.Equal(t, ledger.Approved, ask(300).Outcome, "the same counter: it counts at the largest")
	assert.Equal(t, ledger.LimitExceeded, ask(301).Outcome)
	assert.Equal(t, ledger.Approved, ask(50).Outcome, "no larger")
	assert.Equal(t, []string{"300", "300", "300"}, amounts(w.totals(t)))

	s := w.begin()
	require.Equal(t, ledger.Verified, w.settle(s, w.answerTo(s)).Outcome)
	assert.Equal(t, []string{"0", "0", "0"}, amounts(w.totals(t)), "none was taken")

	ask(200)
	taken := ask(80)
	tac := w.credit(taken)
	assert.Equal(t, "200", amounts(w.totals(t))[0])
	require.Equal(t, ledger.Verified, w.confirm(taken.TransactionID, tac).Outcome)
	assert.Equal(t, "80", amounts(w.totals(t))[0], "the card took the one, so not the other")
	assert.Equal(t, ledger.Approved, ask(220).Outcome)
}

func amounts(totals []string) (fen []string) {
	for _, line := range totals {
		fen = append(fen, line[strings.LastIndex(line, " ")+1:])
	}
	return fen
}

// A purse that is reset, for a card that was issued again, is charged with what its old card may have taken; what is charged later counts beside
// it.
func TestAResetGivesNothingBack(t *testing.T) {
	w := newWallet(t, under(t, fmt.Sprintf(cardDay, 150)))
	w.approved(w.offer())
	require.NoError(t, w.store.Commit(t.Context(), store.Change{
		Purse: store.PurseKey{KeySet: "demo", Card: testSerial, Purse: "EP"},
		Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			w.ledger.Reset(p)
			return nil, nil
		},
	}))
	again := w.wallet(t, testSerial, softcard.Account{Balance: 0, Online: 7})
	assert.Equal(t, ledger.LimitExceeded, again.authorise(again.offer()).Outcome, "the old card's counter 7 and the new card's are two")
	assert.Equal(t, []string{"100"}, amounts(w.totals(t)))
}

// An alarm is recorded with the load that first reaches it, once, and raised after that is durable.
func TestAnAlarmComesBeforeTheRefusal(t *testing.T) {
	var raised []audit.Event
	w := newWallet(t, under(t, "limits:\n  - {name: card-day, per: card, period: day, maxFen: 350, alarmFen: 200}\n"), func(c *Config) {
		c.Alarm = func(e audit.Event) { raised = append(raised, e) }
	})
	w.load()
	assert.Empty(t, w.alarms(t))
	second, _ := w.load()
	w.load()
	w.authorise(w.offer())
	assert.Equal(t, []audit.Event{audit.LimitAlarm}, w.alarms(t))
	assert.Equal(t, []audit.Event{audit.LimitAlarm}, raised)
	alarm := w.entries(t)[second.AuditIndex+1]
	assert.Equal(t, []string{"LimitAlarm", "ALARM", second.TransactionID, "limit card-day: 200 fen per card and day, the alarm is at 200"},
		[]string{string(alarm.Event), alarm.Outcome, alarm.Transaction, alarm.Detail})
}

// A policy on running totals is judged on them, and names itself; it sees what everybody did.
func TestAPolicyOnTotals(t *testing.T) {
	w := newWallet(t, under(t, "", policy.Document{Name: "late", Text: `@id("no-more-than-two-yuan-a-day")
forbid (principal, action == Action::"AuthorizeLoad", resource) when { context.totals.cardDayFen > 200 };`}))
	w.load()
	w.load()
	refused := w.authorise(w.offer())
	assert.Equal(t, ledger.LimitExceeded, refused.Outcome)
	assert.Contains(t, refused.Detail, "no-more-than-two-yuan-a-day")
	w.clock = w.clock.Add(24 * time.Hour)
	w.approved(w.offer())
}

// The ceiling of a purse: the card's balance and the amount.
func TestTheCeilingOfAPurse(t *testing.T) {
	w := newWallet(t, under(t, "limits:\n  - {name: purse, purses: [EP], per: balance, maxFen: 1100}\n")) // its card has ten yuan
	w.load()
	refused := w.authorise(w.offer())
	assert.Equal(t, "limit purse: 100 fen on a balance of 1100, allowed is a balance of 1100 fen", refused.Detail)
}
