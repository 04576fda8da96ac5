package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// fail shows the card's answer with a wrong MAC1.
func (w *wallet) fail(times int) (last ledger.Outcome) {
	w.t.Helper()
	for range times {
		last = w.authorise(falsified(w.offer())).Outcome
	}
	return last
}

func TestAWrongMAC1GetsNoMAC2AndIsRecorded(t *testing.T) {
	w := newWallet(t)
	a := w.authorise(falsified(w.offer()))
	require.Equal(t, ledger.MACMismatch, a.Outcome)
	require.Empty(t, a.MAC2)
	require.Empty(t, a.Command)
	require.Empty(t, a.TransactionID)
	last := w.entries(t)[a.AuditIndex]
	require.Equal(t, audit.Event(policy.AuthorizeLoad), last.Event)
	require.Equal(t, "MAC_MISMATCH", last.Outcome)
	require.Empty(t, last.MAC2)
}

func TestRepeatedWrongMAC1sLockTheCardUntilAnOfficerLiftsIt(t *testing.T) {
	var raised []audit.Event
	w := newWallet(t, func(c *Config) { c.Alarm = func(e audit.Event) { raised = append(raised, e) } })
	granted := w.offer()
	w.approved(granted)

	require.Equal(t, ledger.MACMismatch, w.fail(5), "the fifth locks, and is answered as the others")
	require.Equal(t, []audit.Event{audit.CardLocked}, raised)
	require.Equal(t, []audit.Event{audit.CardLocked}, w.alarms(t))

	for _, answer := range []string{w.offer(), granted, falsified(granted)} {
		locked := w.authorise(answer)
		require.Equal(t, ledger.CardLocked, locked.Outcome, "right, recorded or wrong: there is nothing to learn")
		require.Empty(t, locked.MAC2)
	}
	require.Equal(t, ledger.CardLocked, w.begin().Outcome)
	require.Equal(t, []audit.Event{audit.CardLocked}, w.alarms(t), "it locks once")

	officer := w.officer(t)
	_, err := w.UnlockCard(context.Background(), w.caller, "demo", w.serial, "", "please")
	var denied *policy.Denied
	require.ErrorAs(t, err, &denied, "a platform lifts no lock")
	require.Equal(t, ledger.CardLocked, w.authorise(granted).Outcome)

	unlocked, err := w.UnlockCard(context.Background(), officer, "demo", w.serial, "", "the holder showed the card")
	require.NoError(t, err)
	require.True(t, unlocked.WasLocked)
	entry := w.entries(t)[unlocked.AuditIndex]
	require.Equal(t, "officer UNLOCKED the holder showed the card", entry.Client+" "+entry.Outcome+" "+entry.Detail)
	w.approved(w.offer())

	again, err := w.UnlockCard(context.Background(), officer, "demo", w.serial, "", "once more")
	require.NoError(t, err)
	require.False(t, again.WasLocked)
}

func TestALockIsTheCardsAndNotThePursesNorTheProcesss(t *testing.T) {
	w := newWallet(t)
	w.fail(3)
	ed := w.request(falsified(w.offer()))
	ed.Purse = purse.ED
	for range 2 {
		_, err := w.AuthorizeLoad(context.Background(), w.caller, ed)
		require.NoError(t, err)
	}
	require.Equal(t, ledger.CardLocked, w.authorise(w.offer()).Outcome)
	require.NoError(t, w.store.Close())
	w.open(t)
	require.Equal(t, ledger.CardLocked, w.authorise(w.offer()).Outcome)
}

func TestOnlyANewAuthorisationForgetsWrongMAC1s(t *testing.T) {
	w := newWallet(t)
	granted := w.offer()
	w.approved(granted)
	w.fail(4)
	w.approved(granted) // a retry is none
	require.Equal(t, ledger.MACMismatch, w.fail(1))
	require.Equal(t, ledger.CardLocked, w.fail(1))

	other := newWallet(t)
	other.fail(4)
	other.approved(other.offer())
	require.Equal(t, ledger.MACMismatch, other.fail(4))
	other.approved(other.offer())
}

func TestSettlementsTriesCountAsWrongMAC1s(t *testing.T) {
	w := newWallet(t)
	for range 5 {
		s := w.begin()
		require.Equal(t, ledger.MACMismatch, w.settle(s, falsified(w.answerTo(s))).Outcome)
	}
	require.Equal(t, []audit.Event{audit.CardLocked}, w.alarms(t))
	require.Equal(t, ledger.CardLocked, w.authorise(w.offer()).Outcome)
}

func TestASettlementBegunBeforeTheLockSettlesNothing(t *testing.T) {
	w := newWallet(t)
	a := w.approved(w.offer())
	s := w.begin()
	w.fail(5)
	require.Equal(t, ledger.CardLocked, w.settle(s, w.answerTo(s)).Outcome)
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

func TestATACIsJudgedWhileTheCardIsLocked(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	w.fail(5)
	require.Equal(t, ledger.Verified, w.confirm(a.TransactionID, tac).Outcome)
}
