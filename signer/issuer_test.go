package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

const testIssuer = "1000100010001000" // of the test cards' keys

// A key set may take its one issuer factor from the card: then the issuer is part of what a card is.
func TestAnIssuerTakenFromTheCardIsPartOfIt(t *testing.T) {
	b := newBench(t, func(c *Config) { c.KeySets[0].Issuer = Issuer{FromCard: true} })
	w := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	answer := w.offer()
	with := func(issuer string) func(*LoadRequest) { return func(r *LoadRequest) { r.IssuerID = issuer } }

	_, err := w.AuthorizeLoad(context.Background(), w.caller, w.request(answer))
	var field *purse.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "issuerId", field.Field)

	require.Equal(t, ledger.MACMismatch, w.authorise(answer, with("2000200020002000")).Outcome, "another issuer's card")
	a := w.approved(answer, with(testIssuer))
	require.Equal(t, "demo/1000100010001000-3105228000001117/EP/LOAD/0007/9E3779B1", a.TransactionID)
	tac := w.credit(a)
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)

	lost := w.approved(w.offer(), with(testIssuer))
	s, err := w.BeginSettlement(context.Background(), w.caller, "demo", w.serial, testIssuer, purse.EP)
	require.NoError(t, err)
	require.Equal(t, ledger.Verified, w.settle(s, w.answerTo(s)).Outcome)
	require.Equal(t, "NOT_APPLIED SETTLEMENT", w.state(lost.TransactionID))
}

func TestTheIssuerOfAKeySetMayBeRepeated(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	first := w.approved(answer)
	require.Equal(t, first, w.authorise(answer, func(r *LoadRequest) { r.IssuerID = testIssuer }))
}
