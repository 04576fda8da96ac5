package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Each test is a case of a repeated counter (DESIGN, §3), played with a card.

func undated(r *LoadRequest) { r.Date, r.Time = "", "" }

func TestTheSameRequestGetsTheSameMAC2(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	first := w.approved(answer)
	entries := len(w.entries(t))

	require.Equal(t, first, w.approved(answer))
	require.Equal(t, first, w.approved(answer, undated), "date and time left out are the recorded ones")
	require.Len(t, w.entries(t), entries, "the recorded answer has its entry already")
	require.NotEqual(t, noTAC, w.credit(first), "the card takes it")
}

func TestAnUndatedRequestAndItsRetryHaveOneDate(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	first := w.approved(answer, undated)
	require.Equal(t, "20240131 235959", first.Date+" "+first.Time, "the signer's clock in the key set's time zone")
	w.clock = w.clock.AddDate(0, 0, 1)
	require.Equal(t, first, w.approved(answer, undated))
}

func TestAnotherRequestOnARecordedAnswerIsAConflict(t *testing.T) {
	// The same random at one counter for another amount or terminal is what only a bad card answers: its random stands still.
	tests := []struct {
		name     string
		amount   purse.Fen
		terminal string
		change   func(*LoadRequest)
	}{
		{"date", 100, testTerminal, func(r *LoadRequest) { r.Date = "20240201" }},
		{"time", 100, testTerminal, func(r *LoadRequest) { r.Time = "000000" }},
		{"amount", 200, testTerminal, func(r *LoadRequest) { r.AmountFen = 200 }},
		{"terminal", 100, "665544332211", func(r *LoadRequest) { r.TerminalID = "665544332211" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWallet(t)
			blank, err := w.card.Snapshot()
			require.NoError(t, err)
			first := w.approved(w.offer())

			w.card, err = softcard.Restore(blank, new(counting))
			require.NoError(t, err)
			w.choose()
			second := w.authorise(w.initialise(test.amount, test.terminal), test.change)
			require.Equal(t, ledger.CounterConflict, second.Outcome)
			require.Equal(t, "20240131 235959", second.Date+" "+second.Time, "the recorded date and time")
			require.Empty(t, second.MAC2)
			require.Empty(t, second.Command)
			require.Equal(t, "OPEN", w.state(first.TransactionID))
		})
	}
}

func TestALowerCounterIsStale(t *testing.T) {
	w := newWallet(t)
	older := w.offer()
	w.load()
	w.approved(w.offer())
	stale := w.authorise(older)
	require.Equal(t, ledger.CounterStale, stale.Outcome)
	require.Empty(t, stale.MAC2)
}

func TestARightTACMakesOlderAnswersStale(t *testing.T) {
	w := newWallet(t)
	older := w.offer()
	a, tac := w.load()
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
	require.Equal(t, ledger.CounterStale, w.authorise(older).Outcome, "the card has moved on, and has not answered since")
}

func TestAHigherCounterProvesTheOneOpenLoad(t *testing.T) {
	w := newWallet(t)
	a, _ := w.load() // its TAC is lost
	next := w.approved(w.offer())
	require.Equal(t, []store.Proved{proved(a, store.Applied, store.ByCounter)}, next.Settled)
	require.Equal(t, "APPLIED COUNTER", w.state(a.TransactionID))
	require.Empty(t, w.alarms(t))
}

func TestAHigherCounterAmongSeveralOpenTellsNothingUntilATAC(t *testing.T) {
	w := newWallet(t)
	first := w.approved(w.offer())
	second := w.approved(w.offer())
	tac := w.credit(second)
	require.NotEqual(t, noTAC, tac)

	next := w.approved(w.offer())
	require.ElementsMatch(t, []store.Proved{
		proved(first, store.Undetermined, store.ByCounter), proved(second, store.Undetermined, store.ByCounter),
	}, next.Settled)

	// The two differ in nothing that a TAC covers, so the one named is verified; see certificate_test.go.
	confirmed := w.confirm(second.TransactionID, tac)
	require.Equal(t, ledger.Verified, confirmed.Outcome)
	require.Equal(t, []store.Proved{proved(first, store.NotApplied, store.BySibling)}, confirmed.Settled)
	require.Equal(t, "VERIFIED TAC", w.state(second.TransactionID))
	require.Equal(t, "NOT_APPLIED SIBLING", w.state(first.TransactionID))
}

func TestASettledLoadAnswersHowAndNoMAC2(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	a := w.approved(answer)
	tac := w.credit(a)
	w.confirm(a.TransactionID, tac)
	again := w.authorise(answer)
	require.Equal(t, ledger.Verified, again.Outcome)
	require.Empty(t, again.MAC2)
	require.Empty(t, again.Command)
	require.Equal(t, a.TransactionID, again.TransactionID)
}

func TestACounterPassedWithNothingAuthorisedIsAnAlarm(t *testing.T) {
	b := newBench(t)
	here := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	here.approved(here.offer())
	there := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 10}) // the same card, loaded three times elsewhere

	next := there.approved(there.offer())
	require.Len(t, next.Settled, 1, "the open load at 0007 is the one taken there")
	require.Equal(t, []audit.Event{audit.UnexplainedCounter}, b.alarms(t))
	all := b.entries(t)
	require.Contains(t, all[len(all)-1].Detail, "counters 0008 to 0009")
}

func TestACardSeenForTheFirstTimeIsNoAlarm(t *testing.T) {
	w := newBench(t).wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 4711})
	w.approved(w.offer())
	require.Empty(t, w.alarms(t))
}

func TestTenOpenAtOneCounterNeedASettlement(t *testing.T) {
	w := newWallet(t)
	var granted []Authorization
	for range ledger.OpenAtOneCounter {
		granted = append(granted, w.approved(w.offer()))
	}
	eleventh := w.authorise(w.offer())
	require.Equal(t, ledger.SettlementRequired, eleventh.Outcome)
	require.Empty(t, eleventh.MAC2)

	s := w.begin()
	settled := w.settle(s, w.answerTo(s))
	require.Equal(t, ledger.Verified, settled.Outcome)
	require.Len(t, settled.Settled, len(granted))
	for _, a := range granted {
		require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(a.TransactionID))
	}
	w.approved(w.offer())
}

func TestARefusedRequestKeepsWhatMAC1Proved(t *testing.T) {
	w := newWallet(t, func(c *Config) { c.Policy = limitedPolicy(t, 150) })
	older := w.offer()
	a, _ := w.load()

	refused := w.authorise(w.initialise(200, testTerminal), func(r *LoadRequest) { r.AmountFen = 200 })
	require.Equal(t, ledger.LimitExceeded, refused.Outcome)
	require.Empty(t, refused.MAC2)
	require.Equal(t, []store.Proved{proved(a, store.Applied, store.ByCounter)}, refused.Settled)
	require.Equal(t, ledger.CounterStale, w.authorise(older).Outcome)

	listed, _, err := w.Transactions(context.Background(), w.caller, ListRequest{KeySet: "demo"})
	require.NoError(t, err)
	require.Len(t, listed, 1, "a refused request is no transaction")
}

func TestOneAnswerAtOnceGetsOneMAC2(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	const callers = 16
	answers := make(chan Authorization, callers)
	for range callers {
		go func() {
			a, err := w.AuthorizeLoad(context.Background(), w.caller, w.request(answer))
			if err != nil {
				a.Detail = err.Error()
			}
			answers <- a
		}()
	}
	first := <-answers
	require.Equal(t, ledger.Approved, first.Outcome, first.Detail)
	for range callers - 1 {
		require.Equal(t, first, <-answers)
	}
}
