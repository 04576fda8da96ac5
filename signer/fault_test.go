package signer

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// faultyStore fails around its next commit, once: before anything was written, or after it was durable.
type faultyStore struct {
	store.Store
	before, after bool
}

func (s *faultyStore) Commit(ctx context.Context, c store.Change) error {
	before, after := s.before, s.after
	s.before, s.after = false, false
	if before {
		return fmt.Errorf("%w: test: failed before the commit", store.ErrUnavailable)
	}
	err := s.Store.Commit(ctx, c)
	if after && err == nil {
		return fmt.Errorf("%w: test: failed, but persisted", store.ErrUnavailable)
	}
	return err
}

func newFaultyWallet(t *testing.T) (*wallet, *faultyStore) {
	t.Helper()
	var faulty *faultyStore
	w := newWallet(t, func(c *Config) {
		faulty = &faultyStore{Store: c.Store}
		c.Store = faulty
	})
	return w, faulty
}

func TestAFailedCommitLetsNoMAC2Out(t *testing.T) {
	for _, test := range []struct {
		name      string
		fail      func(*faultyStore)
		persisted int
	}{
		{"before the commit", func(s *faultyStore) { s.before = true }, 0},
		{"after it was durable", func(s *faultyStore) { s.after = true }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, faulty := newFaultyWallet(t)
			answer := w.offer()
			test.fail(faulty)
			a, err := w.AuthorizeLoad(context.Background(), w.caller, w.request(answer))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Empty(t, a)

			listed, _, err := w.Transactions(context.Background(), w.caller, ListRequest{KeySet: "demo"})
			require.NoError(t, err)
			require.Len(t, listed, test.persisted)

			retry := w.approved(answer)
			if test.persisted == 1 {
				require.Equal(t, listed[0].Attempt.MAC2, retry.MAC2, "the recorded MAC2")
				require.Equal(t, listed[0].Attempt.AuditIndex, retry.AuditIndex)
			}
			require.Equal(t, retry.MAC2, w.entries(t)[retry.AuditIndex].MAC2)
			require.Equal(t, retry, w.approved(answer))
			require.NotEqual(t, noTAC, w.credit(retry))
		})
	}
}

// What failed but was persisted has happened: a client that retries with another date learns the recorded one.
func TestAnUndatedRequestThatFailedButPersistedKeepsItsDate(t *testing.T) {
	w, faulty := newFaultyWallet(t)
	answer := w.offer()
	faulty.after = true
	r := w.request(answer)
	undated(&r)
	_, err := w.AuthorizeLoad(context.Background(), w.caller, r)
	require.ErrorIs(t, err, store.ErrUnavailable)
	w.clock = w.clock.AddDate(0, 0, 1)

	require.Equal(t, "20240131", w.approved(answer, undated).Date)
	other := w.authorise(answer, func(r *LoadRequest) { r.Date = "20240201" })
	require.Equal(t, ledger.CounterConflict, other.Outcome)
	require.Equal(t, "20240131", other.Date)
}

// Every other operation fails as a whole too, and its retry ends as if it had not.
func TestAFailedCommitFailsTheOperation(t *testing.T) {
	for name, fail := range map[string]func(*faultyStore){
		"before": func(s *faultyStore) { s.before = true }, "after": func(s *faultyStore) { s.after = true },
	} {
		t.Run(name, func(t *testing.T) {
			w, faulty := newFaultyWallet(t)
			ctx := context.Background()
			sibling := w.approved(w.offer())
			a, tac := w.load()

			fail(faulty)
			confirmed, err := w.ConfirmLoad(ctx, w.caller, a.TransactionID, tac)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Empty(t, confirmed)
			again := w.confirm(a.TransactionID, tac)
			require.Equal(t, ledger.Verified, again.Outcome)
			require.Equal(t, []store.Proved{proved(sibling, store.NotApplied, store.BySibling)}, again.Settled)

			open := w.approved(w.offer())
			fail(faulty)
			begun, err := w.BeginSettlement(ctx, w.caller, "demo", w.serial, "", purse.EP)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Empty(t, begun, "its terminal number is unknown to all, and replaced by the next")
			s := w.begin()
			answer := w.answerTo(s)
			fail(faulty)
			settled, err := w.SettleLoad(ctx, w.caller, s.ID, answer)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Empty(t, settled)
			settled = w.settle(s, answer)
			require.Equal(t, ledger.Verified, settled.Outcome)
			require.Equal(t, []store.Proved{proved(open, store.NotApplied, store.BySettlement)}, settled.Settled)
		})
	}
}

func TestADenialThatCannotBeRecordedIsTheStoresError(t *testing.T) {
	w, faulty := newFaultyWallet(t)
	faulty.before = true
	_, err := w.BeginSettlement(context.Background(), policy.Caller{}, "demo", w.serial, "", purse.EP)
	var denied *policy.Denied
	require.False(t, errors.As(err, &denied), "%v", err)
	require.ErrorIs(t, err, store.ErrUnavailable)
}

func TestAnAlarmIsRaisedOnlyAfterItsEntryIsDurable(t *testing.T) {
	var raised []audit.Event
	var faulty *faultyStore
	w := newWallet(t, func(c *Config) {
		c.Alarm = func(e audit.Event) { raised = append(raised, e) }
		faulty = &faultyStore{Store: c.Store}
		c.Store = faulty
	})
	w.fail(4)
	faulty.before = true
	_, err := w.AuthorizeLoad(context.Background(), w.caller, w.request(falsified(w.offer())))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.Empty(t, raised)
	require.Empty(t, w.alarms(t))
	w.fail(1)
	require.Equal(t, []audit.Event{audit.CardLocked}, raised)
}
