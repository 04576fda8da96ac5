package signer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// The power may go at every step of a command. Whatever the card has or has not taken, the client can find out, and the
// record agrees with the card's balance.

// steps is how many steps a card's CREDIT FOR LOAD has.
func steps(t *testing.T) int {
	t.Helper()
	w := newWallet(t)
	w.load()
	require.Greater(t, w.card.Steps(), 3)
	return w.card.Steps()
}

func TestALoadTornAtAnyStepIsSettled(t *testing.T) {
	took := 0
	for step := 1; step <= steps(t); step++ {
		t.Run(fmt.Sprintf("step %d", step), func(t *testing.T) {
			w := newWallet(t)
			a := w.approved(w.offer())
			w.card.TearAt(step)
			require.Equal(t, noTAC, w.credit(a), "the card answers nothing")
			w.choose()

			if tac := w.prove(7); tac != noTAC { // it was taken, and its answer lost
				took++
				require.Equal(t, "0000044C", w.balance())
				require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
				require.Equal(t, "VERIFIED TAC", w.state(a.TransactionID))
				return
			}
			require.Equal(t, "000003E8", w.balance())
			s := w.begin()
			require.Equal(t, ledger.Verified, w.settle(s, w.answerTo(s)).Outcome)
			require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(a.TransactionID))
		})
	}
	require.Greater(t, took, 0, "no step was after the card's commit")
	require.Less(t, took, steps(t), "no step was before the card's commit")
}

// Where nobody asks the card for its prove, the next request alone tells.
func TestALoadTornAtAnyStepIsToldByTheCardsNextAnswer(t *testing.T) {
	for step := 1; step <= steps(t); step++ {
		t.Run(fmt.Sprintf("step %d", step), func(t *testing.T) {
			w := newWallet(t)
			a := w.approved(w.offer())
			w.card.TearAt(step)
			require.Equal(t, noTAC, w.credit(a))
			w.choose()
			taken := w.balance() == "0000044C"

			w.approved(w.offer())
			want := "OPEN" // at the same counter nothing is proved: only a settlement tells
			if taken {
				want = "APPLIED COUNTER"
			}
			require.Equal(t, want, w.state(a.TransactionID))
		})
	}
}

func TestAnInitialiseTornAtAnyStepLeavesNothing(t *testing.T) {
	w := newWallet(t)
	w.offer()
	for step := 1; step <= w.card.Steps(); step++ {
		older := w.approved(w.offer())
		w.card.TearAt(step)
		_, ok := w.send("805000020B0100000064112233445566" + "10")
		require.False(t, ok)
		w.choose()
		require.Equal(t, noTAC, w.credit(older), "step %d: the session before is gone", step)
	}
}
