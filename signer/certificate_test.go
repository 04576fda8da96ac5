package signer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Each test is a case of ConfirmLoad (DESIGN, §3), played with a card.

func TestARightTACVerifies(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	for range 2 {
		c := w.confirm(a.TransactionID, tac)
		require.Equal(t, ledger.Verified, c.Outcome)
		require.Equal(t, "tac", c.Key.Kind)
	}
	require.Equal(t, "VERIFIED TAC", w.state(a.TransactionID))
	require.Equal(t, ledger.TACMismatch, w.confirm(a.TransactionID, falsified(tac)).Outcome)
	require.Equal(t, "VERIFIED TAC", w.state(a.TransactionID), "a wrong one after the right one changes nothing")
}

func TestARightTACShownAgainTellsTheSameOfItsSiblings(t *testing.T) {
	w := newWallet(t)
	lost := w.approved(w.offer())
	a, tac := w.load()
	first := w.confirm(a.TransactionID, tac)
	require.Equal(t, []store.Proved{proved(lost, store.NotApplied, store.BySibling)}, first.Settled)
	require.Equal(t, first.Settled, w.confirm(a.TransactionID, tac).Settled)
}

func TestARightTACProvesALoadThatTheCounterLeftOpen(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	w.approved(w.offer())
	require.Equal(t, "APPLIED COUNTER", w.state(a.TransactionID))
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
	require.Equal(t, "VERIFIED TAC", w.state(a.TransactionID))
}

func TestAWrongTACSettlesNothing(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	for range ledger.WrongTACs + 2 {
		require.Equal(t, ledger.TACMismatch, w.confirm(a.TransactionID, falsified(tac)).Outcome)
	}
	require.Equal(t, "OPEN", w.state(a.TransactionID))
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome, "one wrong value, however often, is one")
}

func TestAfterFiveWrongTACsNoMoreIsTaken(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	for i := range ledger.WrongTACs {
		require.Equal(t, ledger.TACMismatch, w.confirm(a.TransactionID, fmt.Sprintf("0000000%d", i)).Outcome)
	}
	require.Equal(t, ledger.TACMismatch, w.confirm(a.TransactionID, tac).Outcome)
	require.Equal(t, "OPEN", w.state(a.TransactionID))

	next := w.approved(w.offer())
	require.Equal(t, []store.Proved{proved(a, store.Applied, store.ByCounter)}, next.Settled, "its counter still tells")
}

func TestTheTACOfAnotherLoadIsWrong(t *testing.T) {
	w := newWallet(t)
	first, tac := w.load()
	second, _ := w.load()
	require.Equal(t, ledger.TACMismatch, w.confirm(second.TransactionID, tac).Outcome)
	require.Equal(t, ledger.Verified, w.confirm(first.TransactionID, tac).Outcome)
}

// Two loads at one counter with equal amount, balance, terminal, date and time have one TAC: it covers no random.
func TestOfTwoThatATACCannotTellApartTheOneNamedIsVerified(t *testing.T) {
	w := newWallet(t)
	first := w.approved(w.offer())
	second := w.approved(w.offer())
	tac := w.credit(second)

	require.Equal(t, ledger.Verified, w.confirm(first.TransactionID, tac).Outcome)
	require.Equal(t, ledger.NotApplied, w.confirm(second.TransactionID, tac).Outcome)
	require.Empty(t, w.alarms(t), "that the TAC is right for both contradicts nothing")
}

// The first is settled, and the second like it is taken: its TAC, shown for the first, is no contradiction either.
func TestATACOfALoadLikeASettledOneIsNoContradiction(t *testing.T) {
	w := newWallet(t)
	first := w.approved(w.offer())
	s := w.begin()
	w.settle(s, w.answerTo(s))
	second, tac := w.load()

	require.Equal(t, ledger.NotApplied, w.confirm(first.TransactionID, tac).Outcome)
	require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(first.TransactionID))
	require.Equal(t, "OPEN", w.state(second.TransactionID))
	require.Equal(t, ledger.Verified, w.confirm(second.TransactionID, tac).Outcome)
	require.Empty(t, w.alarms(t))
}

// A card that takes a load after its session is gone does what no card may: here it is set back to an older state.
func TestARightTACForWhatWasNotAppliedIsAContradiction(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	a := w.approved(answer)
	twin := newWallet(t) // the same card, copied before the settlement
	require.Equal(t, answer, twin.offer())

	s := w.begin()
	require.Len(t, w.settle(s, w.answerTo(s)).Settled, 1)
	tac := twin.credit(a)
	require.NotEqual(t, noTAC, tac)

	for range 2 {
		require.Equal(t, ledger.Contradiction, w.confirm(a.TransactionID, tac).Outcome)
	}
	require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(a.TransactionID), "what was declared stays declared")
	require.Contains(t, w.alarms(t), audit.Contradiction)
}
