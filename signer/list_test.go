package signer

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

func TestTransactionsAreListedInTheOrderOfCommit(t *testing.T) {
	b := newBench(t)
	first := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	other := b.wallet(t, "3105228000002228", softcard.Account{Balance: 1000, Online: 7})
	var all []string
	for range 3 {
		all = append(all, first.approved(first.offer()).TransactionID, other.approved(other.offer()).TransactionID)
	}
	a, tac := first.load()
	all = append(all, a.TransactionID)
	first.confirm(a.TransactionID, tac)

	list := func(r ListRequest) (ids []string, next string) {
		r.KeySet = "demo"
		page, next, err := b.Transactions(context.Background(), b.caller, r)
		require.NoError(t, err)
		for _, l := range page {
			ids = append(ids, l.Attempt.ID)
		}
		return ids, next
	}
	ids, next := list(ListRequest{})
	require.Equal(t, all, ids)
	require.Empty(t, next)
	ids, _ = list(ListRequest{CardSerial: "0000" + other.serial, Purse: purse.EP})
	require.Equal(t, []string{all[1], all[3], all[5]}, ids)
	ids, _ = list(ListRequest{OpenOnly: true, CardSerial: first.serial})
	require.Empty(t, ids, "its TAC settled all of the first card's")
	ids, _ = list(ListRequest{Purse: purse.ED})
	require.Empty(t, ids)

	var paged []string
	for token, pages := "", 0; pages == 0 || token != ""; pages++ {
		require.Less(t, pages, 4)
		var page []string
		page, token = list(ListRequest{PageSize: 3, PageToken: token})
		paged = append(paged, page...)
	}
	require.Equal(t, all, paged)
}

func TestAMalformedListRequestNamesItsField(t *testing.T) {
	b := newBench(t)
	for field, r := range map[string]ListRequest{
		"pageSize": {PageSize: 1001}, "pageToken": {PageToken: "x"}, "cardSerial": {CardSerial: "x"},
	} {
		r.KeySet = "demo"
		_, _, err := b.Transactions(context.Background(), b.caller, r)
		var wrong *purse.FieldError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, field, wrong.Field)
	}
	_, _, err := b.Transactions(context.Background(), b.caller, ListRequest{KeySet: "none"})
	var missing *NotFoundError
	require.ErrorAs(t, err, &missing)
	_, _, err = b.Transactions(context.Background(), policy.Caller{}, ListRequest{KeySet: "demo"})
	var denied *policy.Denied
	require.ErrorAs(t, err, &denied)
}

func TestALockIsLiftedWithAReason(t *testing.T) {
	w := newWallet(t)
	officer := w.officer(t)
	for _, reason := range []string{"", strings.Repeat("x", longestReason+1)} {
		_, err := w.UnlockCard(context.Background(), officer, "demo", w.serial, "", reason)
		var wrong *purse.FieldError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, "reason", wrong.Field)
	}
	_, err := w.UnlockCard(context.Background(), officer, "demo", w.serial, "", strings.Repeat("x", longestReason))
	require.NoError(t, err)
}

func TestAMalformedSettlementRequestNamesItsField(t *testing.T) {
	w := newWallet(t)
	s := w.begin()
	ctx := context.Background()
	var wrong *purse.FieldError
	_, err := w.BeginSettlement(ctx, w.caller, "demo", "x", "", purse.EP)
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "cardSerial", wrong.Field)
	_, err = w.BeginSettlement(ctx, w.caller, "demo", w.serial, "", 0)
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "purse", wrong.Field)
	_, err = w.SettleLoad(ctx, w.caller, "nothing", w.answerTo(s))
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "settlementId", wrong.Field)
	_, err = w.SettleLoad(ctx, w.caller, s.ID, "00")
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "initializeResponse", wrong.Field)
	require.NotEmpty(t, w.settle(s, w.answerTo(s)).Key.KCV, "what is malformed is no try")
}
