package signer

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// guess shows a wrong MAC1 of a card of its own, at a terminal.
func (w *wallet) guess(n int, terminal string) Authorization {
	w.t.Helper()
	return w.authorise(falsified(w.offer()), func(r *LoadRequest) {
		r.CardSerial, r.TerminalID = fmt.Sprintf("%d", 5000000000+n), terminal
	})
}

const refusing = `signals:
  - {watch: mac1Failures, per: terminal, alarmCount: 3, refuse: true}
  - {watch: mac1Failures, per: client, alarmCount: 5, refuse: true}
`

// Wrong MAC1s of many cards are no matter of a card's lock: the terminal is, and from its third on it gets one answer for right ones and wrong
// ones, by which nothing is proved; other terminals go on until the client is refused too; the next hour is new.
func TestATerminalThatGuesses(t *testing.T) {
	var raised []audit.Event
	w := newWallet(t, under(t, refusing), func(c *Config) { c.Alarm = func(e audit.Event) { raised = append(raised, e) } })
	w.clock = time.Date(2024, 1, 31, 15, 10, 0, 0, time.UTC)
	for n := range 3 {
		assert.Equal(t, ledger.MACMismatch, w.guess(n, testTerminal).Outcome)
	}
	assert.Equal(t, []audit.Event{audit.MAC1Failures, audit.MAC1Refused}, w.alarms(t))
	assert.Equal(t, w.alarms(t), raised)
	all := w.entries(t)
	assert.Equal(t, "3 wrong MAC1s of terminal 112233445566 in the hour that ends at 2024-01-31T16:00:00Z", all[len(all)-2].Detail)

	answer := w.offer()
	right, wrong := w.authorise(answer), w.guess(3, testTerminal)
	assert.Equal(t, ledger.LimitExceeded, right.Outcome)
	assert.Equal(t, "repeated wrong MAC1s: none is answered of terminal 112233445566 until 2024-01-31T16:00:00Z", right.Detail)
	right.AuditIndex, wrong.AuditIndex = 0, 0
	assert.Equal(t, right, wrong, "nothing is learned")
	known := w.entries(t)
	known[len(known)-1].Card, known[len(known)-2].Card = "", ""
	assert.Equal(t, known[len(known)-2].Detail, known[len(known)-1].Detail)
	require.NoError(t, w.store.Commit(t.Context(), store.Change{
		Purse: store.PurseKey{KeySet: "demo", Card: testSerial, Purse: "EP"},
		Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, store.NoCounter, p.Highest, "nothing is proved")
			return nil, nil
		},
	}))

	const other = "665544332211"
	w.guess(4, other)
	at := func(r *LoadRequest) { r.TerminalID = other }
	assert.Equal(t, ledger.Approved, w.authorise(w.initialise(100, other), at).Outcome, "another terminal")
	w.guess(5, other)
	assert.Equal(t, []audit.Event{audit.MAC1Failures, audit.MAC1Refused, audit.MAC1Failures, audit.MAC1Refused}, w.alarms(t))
	assert.Equal(t, "repeated wrong MAC1s: none is answered of client platform until 2024-01-31T16:00:00Z",
		w.authorise(w.initialise(100, other), at).Detail, "its client has five")
	s := w.begin()
	assert.Equal(t, ledger.LimitExceeded, w.settle(s, w.answerTo(s)).Outcome, "settlements are no way around it")

	w.clock = w.clock.Add(time.Hour)
	w.approved(answer)
}

// Without a word of a document nothing is refused, and the alarms are on.
func TestGuessesAlarmByDefault(t *testing.T) {
	w := newWallet(t)
	for n := range 12 {
		assert.Equal(t, ledger.MACMismatch, w.guess(n, testTerminal).Outcome)
	}
	assert.Equal(t, []audit.Event{audit.MAC1Failures}, w.alarms(t))
	w.approved(w.offer())
}

// A terminal is a number that a client writes: those beyond a bound are counted together, so that rows do not grow with guesses.
func TestTerminalsAreBounded(t *testing.T) {
	w := newWallet(t, under(t, "signals:\n  - {watch: mac1Failures, per: terminal, alarmCount: 3, refuse: true}\n"))
	entry := audit.Entry{Time: w.clock, Client: "platform", Event: "Tested", Outcome: "DONE"}
	s := w.Signer.view()
	count := func(terminal int) (row string) {
		subject := w.subjectAt(fmt.Sprintf("%012d", terminal))
		f := s.watch("mac1Failures", subject, entry)
		require.NoError(t, w.store.Commit(t.Context(), store.Change{
			Totals: f.totals(),
			Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				f.countTerminal(p, 1, []audit.Entry{entry}, nil)
				c, _ := f.counts(p)
				row = fmt.Sprint(c.Name == f.rest.Name, p.Total(c.Name).Count, f.refuses(p) != "")
				return nil, nil
			},
		}))
		return row
	}
	require.NoError(t, w.store.Commit(t.Context(), store.Change{
		Totals: []store.Bucket{s.watch("mac1Failures", w.subjectAt("000000000001"), entry).opened},
		Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Count(s.watch("mac1Failures", w.subjectAt("000000000001"), entry).opened.Name, mostTerminals-2)
			return nil, nil
		},
	}))
	assert.Equal(t, "false 1 false", count(1))
	assert.Equal(t, "false 1 false", count(2))
	assert.Equal(t, "false 2 false", count(1), "one that has a row keeps it")
	assert.Equal(t, "true 1 false", count(3))
	assert.Equal(t, "true 2 false", count(4))
	assert.Equal(t, "true 3 true", count(5), "and they are refused together")
	assert.Equal(t, "false 2 false", count(2))
}

// Counter conflicts are counted, and decided in one transaction with what counts them.
func TestCounterConflictsAreCounted(t *testing.T) {
	w := newWallet(t, under(t, "signals:\n  - {watch: counterConflicts, per: terminal, alarmCount: 2}\n"))
	answer := w.offer()
	approved := w.approved(answer)
	for range 3 {
		a := w.authorise(answer, func(r *LoadRequest) { r.Date = "20240201" })
		assert.Equal(t, ledger.CounterConflict, a.Outcome)
	}
	assert.Equal(t, approved, w.authorise(answer), "the right one again is none")
	assert.Equal(t, []audit.Event{audit.CounterConflicts}, w.alarms(t))
	all := w.entries(t)
	assert.Equal(t, "CounterConflicts", string(all[len(all)-2].Event), "after the second")
}

// Wrong TACs count by their number: shown for a load, alone, and in a batch; the same wrong one again for a load is none.
func TestWrongTACsAreCounted(t *testing.T) {
	w := newWallet(t, under(t, "signals:\n  - {watch: tacFailures, per: client, alarmCount: 6}\n  - {watch: tacFailures, per: terminal, alarmCount: 4}\n"))
	a, tac := w.load()
	wrong := falsified(tac)
	w.confirm(a.TransactionID, wrong)
	w.confirm(a.TransactionID, wrong)
	item := TACRequest{
		KeySet: "demo", CardSerial: testSerial, KeyVersion: 1, Type: "02", AmountFen: 100, TerminalID: testTerminal,
		Counter: "0007", BalanceFen: ptr(uint64(1000)), Date: "20240131", Time: "235959", TAC: wrong,
	}
	v, err := w.VerifyTac(t.Context(), w.caller, item)
	require.NoError(t, err)
	require.Equal(t, ledger.TACMismatch, v.Outcome)
	assert.Empty(t, w.alarms(t), "two")
	right, other := item, item
	right.TAC, other.TerminalID = tac, "665544332211"
	batch, err := w.VerifyTacs(t.Context(), w.caller, []TACRequest{item, right, item, other, other})
	require.NoError(t, err)
	assert.Equal(t, 4, batch.Mismatched)
	assert.Equal(t, []audit.Event{audit.TACFailures, audit.TACFailures}, w.alarms(t), "six of the client, four of the terminal, two of the other")
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
}

func ptr[T any](v T) *T { return &v }

// The lock of a card is before: its failures are counted there as ever.
func TestSignalsAndTheCardsLock(t *testing.T) {
	w := newBench(t).wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	for range 5 {
		w.authorise(falsified(w.offer()))
	}
	assert.Equal(t, ledger.CardLocked, w.authorise(w.offer()).Outcome)
	assert.Equal(t, []audit.Event{audit.CardLocked}, w.alarms(t))
}

// subjectAt is the wallet's request at a terminal.
func (w *wallet) subjectAt(terminal string) policy.Subject {
	return policy.Subject{KeySet: "demo", Client: "platform", Card: w.serial, Terminal: terminal}
}
