package signer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Each test is a case of BeginSettlement and SettleLoad (DESIGN, §3), played with a card.

func TestASettlementAtTheHighestCounterProvesThatNothingWasTaken(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	a := w.approved(answer)
	w.card.Reset() // the power went before the card got its command
	w.choose()

	s := w.begin()
	require.Equal(t, uint32(1), s.AmountFen)
	require.NotEqual(t, testTerminal, s.TerminalID)
	settled := w.settle(s, w.answerTo(s))
	require.Equal(t, ledger.Verified, settled.Outcome)
	require.Equal(t, []store.Proved{proved(a, store.NotApplied, store.BySettlement)}, settled.Settled)

	again := w.authorise(answer)
	require.Equal(t, ledger.NotApplied, again.Outcome)
	require.Empty(t, again.MAC2)
	require.Equal(t, noTAC, w.credit(a), "the card has forgotten the session")
	require.Equal(t, "000003E8", w.balance())
}

func TestASettlementAboveProvesTheOneOpenLoad(t *testing.T) {
	w := newWallet(t)
	a, _ := w.load()
	s := w.begin()
	settled := w.settle(s, w.answerTo(s))
	require.Equal(t, ledger.Verified, settled.Outcome)
	require.Equal(t, []store.Proved{proved(a, store.Applied, store.ByCounter)}, settled.Settled)
}

// A thief collects answers in advance, takes a credit, and then shows an older answer to have the load declared not applied.
func TestAnOlderAnswerDoesNotUndoALoad(t *testing.T) {
	w := newWallet(t)
	var collected []string
	for range 3 {
		collected = append(collected, w.offer())
	}
	a, tac := w.load()

	for _, older := range collected {
		require.Equal(t, ledger.Approved, w.authorise(older).Outcome, "at the highest counter known it may be a lost answer's successor")
		require.Equal(t, "OPEN", w.state(a.TransactionID), "an older answer proves nothing about the load")
	}
	s := w.begin()
	for _, older := range collected {
		require.NotEqual(t, ledger.Verified, w.settle(s, older).Outcome, "and settles nothing")
		require.Equal(t, "OPEN", w.state(a.TransactionID))
	}
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
}

// A thief has a load granted between BeginSettlement and SettleLoad, takes it, and then shows the settlement's answer.
func TestALoadGrantedDuringASettlementCancelsIt(t *testing.T) {
	w := newWallet(t)
	s := w.begin()
	answer := w.answerTo(s)
	a, _ := w.load()
	settled := w.settle(s, answer)
	require.Equal(t, ledger.SettlementExpired, settled.Outcome)
	require.Empty(t, settled.Settled)
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

// A thief has the settlement's own answer authorised as a load of one fen, takes it, and then shows it as the settlement's.
func TestTheSettlementsOwnAnswerAuthorisedCancelsIt(t *testing.T) {
	w := newWallet(t)
	s := w.begin()
	answer := w.answerTo(s)
	a := w.approved(answer, func(r *LoadRequest) { r.AmountFen, r.TerminalID = 1, s.TerminalID })
	require.NotEqual(t, noTAC, w.credit(a))
	settled := w.settle(s, answer)
	require.Equal(t, ledger.SettlementExpired, settled.Outcome)
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

// A thief keeps a second answer to the settlement, uses the settlement up with the first, has a load granted and takes it.
func TestASecondAnswerToASettlementIsWorthless(t *testing.T) {
	w := newWallet(t)
	s := w.begin()
	first, kept := w.answerTo(s), w.answerTo(s)
	require.Equal(t, ledger.Verified, w.settle(s, first).Outcome)
	a, _ := w.load()
	require.Equal(t, ledger.SettlementExpired, w.settle(s, kept).Outcome)
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

func TestARetryOrARefusalDoesNotCancelASettlement(t *testing.T) {
	w := newWallet(t, func(c *Config) { c.Policy = limitedPolicy(t, 150) })
	granted := w.offer()
	a := w.approved(granted)
	s := w.begin()
	require.Equal(t, a, w.authorise(granted), "the recorded MAC2 again is no new authorisation")
	over := w.authorise(w.initialise(200, testTerminal), func(r *LoadRequest) { r.AmountFen = 200 })
	require.Equal(t, ledger.LimitExceeded, over.Outcome)
	require.Equal(t, ledger.Verified, w.settle(s, w.answerTo(s)).Outcome)
	require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(a.TransactionID))
}

func TestTheSameTryGetsTheSameResult(t *testing.T) {
	tests := []struct {
		name    string
		answer  func(w *wallet, s Settlement) string
		outcome ledger.Outcome
	}{
		{"right", func(w *wallet, s Settlement) string { return w.answerTo(s) }, ledger.Verified},
		{"wrong MAC1", func(w *wallet, s Settlement) string { return falsified(w.answerTo(s)) }, ledger.MACMismatch},
		{"another terminal's", func(w *wallet, _ Settlement) string { return w.initialise(1, testTerminal) }, ledger.MACMismatch},
		{"another amount's", func(w *wallet, s Settlement) string { return w.initialise(2, s.TerminalID) }, ledger.MACMismatch},
		{"too late", func(w *wallet, s Settlement) string {
			w.clock = w.clock.Add(DefaultSettlementLife + time.Second)
			return w.answerTo(s)
		}, ledger.SettlementExpired},
		{"an unknown KVER", func(w *wallet, s Settlement) string {
			answer := w.answerTo(s)
			return answer[:12] + "09" + answer[14:]
		}, ledger.KeyNotActive},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWallet(t)
			a := w.approved(w.offer())
			s := w.begin()
			answer := test.answer(w, s)
			first := w.settle(s, answer)
			require.Equal(t, test.outcome, first.Outcome)
			w.clock = w.clock.Add(-time.Hour) // not even a clock set back makes the late one good
			again := w.settle(s, answer)
			require.Equal(t, first.Outcome, again.Outcome)
			require.Equal(t, first.Settled, again.Settled)
			require.Equal(t, first.AuditIndex, again.AuditIndex, "a retry of a settlement's try is recorded once")
			require.Equal(t, ledger.SettlementExpired, w.settle(s, w.answerTo(s)).Outcome, "the number is used up")

			want := "OPEN"
			if test.outcome == ledger.Verified {
				want = "NOT_APPLIED SETTLEMENT"
			}
			require.Equal(t, want, w.state(a.TransactionID))
		})
	}
}

func TestANewerSettlementReplacesTheOneBefore(t *testing.T) {
	w := newWallet(t)
	first := w.begin()
	older := w.answerTo(first)
	second := w.begin()
	require.NotEqual(t, first.TerminalID, second.TerminalID)
	require.Equal(t, ledger.SettlementExpired, w.settle(first, older).Outcome)
	require.Equal(t, ledger.Verified, w.settle(second, w.answerTo(second)).Outcome)
}

func TestAnotherPursesAnswerSettlesNothing(t *testing.T) {
	w := newWallet(t)
	a := w.approved(w.offer())
	s := w.begin()
	command := unhex(t, s.Command)
	command[3] = byte(purse.ED)
	raw := w.card.Transmit(command)
	require.Len(t, raw, 18)
	require.Equal(t, ledger.MACMismatch, w.settle(s, upperHex(raw[:16])).Outcome)
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

func TestASettlementIsForgottenByNoRestart(t *testing.T) {
	w := newWallet(t)
	a := w.approved(w.offer())
	s := w.begin()
	answer := w.answerTo(s)
	require.NoError(t, w.store.Close())
	w.open(t)
	require.Equal(t, ledger.Verified, w.settle(s, answer).Outcome)
	require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(a.TransactionID))
}

// Whoever has a compromised key can make a fresh answer of any card, under the KVER of that key.
func TestACompromisedKeySettlesNothing(t *testing.T) {
	for state, want := range map[custody.KeyState]ledger.Outcome{
		custody.Active: ledger.Verified, custody.Deactivated: ledger.Verified,
		custody.PreActive: ledger.KeyNotActive, custody.Suspended: ledger.KeyNotActive, custody.Compromised: ledger.KeyNotActive, custody.Destroyed: ledger.KeyNotActive,
	} {
		w := newWallet(t)
		a := w.approved(w.offer())
		s := w.begin()
		answer := w.answerTo(s)
		require.NoError(t, w.store.Close())
		w.open(t, func(c *Config) { c.KeySets[0] = inState(c.KeySets[0], state) })
		require.Equal(t, want, w.settle(s, answer).Outcome, state)
		require.Equal(t, want == ledger.Verified, w.state(a.TransactionID) == "NOT_APPLIED SETTLEMENT", state)
	}
}

func TestAnUnknownSettlementIsNotFound(t *testing.T) {
	w := newWallet(t)
	_, err := w.SettleLoad(context.Background(), w.caller, "demo/3105228000001117/EP/SETTLEMENT/0000000000000000", w.offer())
	var missing *NotFoundError
	require.True(t, errors.As(err, &missing), "%v", err)
	require.Equal(t, "settlementId", missing.Field)
}
