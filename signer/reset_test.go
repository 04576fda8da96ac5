package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// reset does to the wallet's purse what an applied change request does.
func (w *wallet) reset() {
	w.t.Helper()
	at, reset, err := w.ResetPurse(custody.PurseChange{KeySet: "demo", Card: w.serial, Purse: "EP"})
	require.NoError(w.t, err)
	require.NoError(w.t, w.store.Commit(context.Background(), store.Change{Purse: at, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Event: "Change", Time: w.clock, Outcome: "APPLIED"}}, reset(p)
	}}))
}

// A card that is issued again begins at its own counter; what its predecessor left settles nothing, and is still there to be read.
func TestAReissuedCard(t *testing.T) {
	w := newWallet(t)
	taken := w.approved(w.offer())
	tac := w.credit(taken)
	require.NotEqual(t, noTAC, tac)
	open := w.approved(w.offer())
	settlement, err := w.BeginSettlement(context.Background(), w.caller, "demo", testSerial, "", purse.EP)
	require.NoError(t, err)

	next := w.bench.wallet(t, testSerial, softcard.Account{Balance: 500, Online: 1})
	require.Equal(t, ledger.CounterStale, next.authorise(next.offer()).Outcome, "before the reset it is an old answer")
	w.reset()

	first := next.approved(next.offer())
	require.Equal(t, ledger.Verified, next.confirm(first.TransactionID, next.credit(first)).Outcome)
	settled, err := w.SettleLoad(context.Background(), w.caller, settlement.ID, next.initialise(1, settlement.TerminalID))
	require.NoError(t, err)
	require.Equal(t, ledger.SettlementExpired, settled.Outcome)

	late, err := w.ConfirmLoad(context.Background(), w.caller, open.TransactionID, "00000000")
	require.NoError(t, err)
	assert.Equal(t, ledger.Undetermined, late.Outcome)
	assert.Contains(t, late.Detail, "the tac is wrong")
	late, err = w.ConfirmLoad(context.Background(), w.caller, taken.TransactionID, tac)
	require.NoError(t, err)
	assert.Equal(t, ledger.Applied, late.Outcome, "as it was recorded")
	assert.Contains(t, late.Detail, "the tac is right")
	recorded, err := w.Transaction(context.Background(), w.caller, open.TransactionID)
	require.NoError(t, err)
	assert.Equal(t, []any{store.Undetermined, store.ByReset}, []any{recorded.Attempt.State, recorded.Attempt.Evidence})
	require.Equal(t, ledger.Approved, next.authorise(next.offer()).Outcome)
}

func TestResetPurseNamesWhatIsWrong(t *testing.T) {
	b := newBench(t)
	for says, about := range map[string]custody.PurseChange{
		`keySet: "other" is not known`: {KeySet: "other", Card: testSerial, Purse: "EP"},
		"cardSerial":                   {KeySet: "demo", Card: "x", Purse: "EP"},
		"issuerId":                     {KeySet: "demo", Card: testSerial, IssuerID: "31052280", Purse: "EP"},
		"purse":                        {KeySet: "demo", Card: testSerial, Purse: "EF"},
	} {
		_, _, err := b.ResetPurse(about)
		require.ErrorContains(t, err, says)
	}
}
