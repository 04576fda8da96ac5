package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/store"
)

const kills = 42

// A signer that is killed at any moment, again and again, under cards that load, lose commands and answers, settle and ask twice:
// after each restart the record is whole, and in the end it tells of every card what the card knows itself (DESIGN, §3).
func TestCrashes(t *testing.T) {
	h := newHome(t)
	saved := filepath.Join(t.TempDir(), "checkpoint") // the log goes on from what it was before the kills
	restore(t, filepath.Dir(saved), h.path("audit"))
	crashes(t, h, h.config("crash.yaml"), "audit", saved, h.stateFile, kills)
}

// The same over PostgreSQL, where what a killed signer left open is the server's to end.
func TestCrashesOnPostgres(t *testing.T) {
	h := newHome(t)
	state := newShared(t)
	config := h.config("crash.yaml", state.edit, edit{`audit: .*`, `audit: {directory: fresh}`})
	crashes(t, h, config, "fresh", "", state.open, 12)
}

// crashes kills the signer of a configuration so often; its log is in a folder, and goes on from a saved checkpoint, if one is named.
func crashes(t *testing.T, h home, config, log, saved string, open func() (*store.Database, error), kills int) {
	on := &platform{}
	token := t.TempDir()
	restore(t, token, h.path("token"))
	p := start(t, []string{"serve", "--config", config})
	on.use(listening(p, h))
	cards := wallets(t, on, 8)
	stop := traffic(cards, (*wallet).eventful)
	defer stop()
	watch := newAuditor(t, open, cards)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	busy := 0
	for kill := range kills {
		loads := on.loads.Load()
		if kill%4 == 3 { // as it starts
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		} else {
			if found := p.hears(serving); assert.NotNil(t, found, lastOf(p.out.String(), 3000)) {
				on.use(newServed(p, h, found))
			}
			eventually(t, "a load", func() bool { return on.loads.Load() > loads || t.Failed() })
			time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		}
		p.kill()
		if on.loads.Load() > loads {
			busy++
		}
		watch.read()
		require.False(t, t.Failed(), "after kill %d", kill)
		restore(t, h.path("token"), token)
		p = start(t, []string{"serve", "--config", config})
	}
	assert.Greater(t, busy, kills/2)
	on.use(listening(p, h))
	on.approvedSince(t, time.Now(), patience)
	stop()
	for _, w := range cards {
		w.finish()
	}
	require.Zero(t, p.terminate())
	watch.read()
	assert.Greater(t, watch.next, uint64(20*kills))
	verify := []string{"audit", "verify", h.path(log), "--key", h.path(log + ".pub")}
	if saved != "" {
		verify = append(verify, "--checkpoint", saved)
	}
	status, out := run(t, verify)
	assert.Zero(t, status, out)
	assert.Contains(t, out, fmt.Sprintf(", %d entries, root ", watch.next), "all of it is sealed")
	for _, outcome := range []string{"APPLIED", "NOT_APPLIED"} {
		assert.Contains(t, watch.settled, outcome)
	}
}

// eventful is one transaction with a mishap, as like as not.
func (w *wallet) eventful(ctx context.Context) error {
	a := w.initialize()
	answer, err := w.authorize(ctx, a)
	if err != nil {
		return err
	}
	if answer.Outcome == v1.Outcome_OUTCOME_SETTLEMENT_REQUIRED {
		return w.settle(ctx)
	}
	if !assert.Equal(w.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, "%s: %s", a.id, answer.Detail) {
		return nil
	}
	mishap := w.random.IntN(10)
	switch mishap {
	case 0: // the command is lost, and the card is loaded again at its counter
		return nil
	case 1: // the command is lost, and the platform settles
		return w.settle(ctx)
	case 2, 3: // the platform asks twice
		if answer, err = w.authorize(ctx, a); err != nil {
			return err
		}
		assert.Equal(w.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome)
	}
	tac := w.credit(a, answer.Command)
	switch mishap {
	case 4: // the TAC is lost for good: the counter tells
		return nil
	case 5: // the TAC is lost on its way: the card proves it
		tac = w.prove(a)
	}
	if err := w.confirm(ctx, a.id, tac); err != nil {
		return err
	}
	if mishap == 6 { // the platform forgot that it is done
		again, err := w.authorize(ctx, a)
		if err != nil {
			return err
		}
		assert.Equal(w.t, v1.Outcome_OUTCOME_VERIFIED, again.Outcome)
	}
	return nil
}

// prove is GET TRANSACTION PROVE of the transaction.
func (w *wallet) prove(a attempt) (tac string) {
	w.powerUp()
	var counter purse.Counter
	_, err := fmt.Sscanf(a.init[8:12], "%04X", &counter)
	assert.NoError(w.t, err)
	command, err := purse.TransactionProve(purse.EP.LoadTTI(), counter)
	assert.NoError(w.t, err)
	answer, err := purse.ParseProveAnswer(w.send(command))
	assert.NoError(w.t, err)
	return plainHex(answer.TAC[:])
}

// settle learns what became of the open attempts. A settlement whose answer was lost is asked for again, which uses it up once.
func (w *wallet) settle(ctx context.Context) error {
	begun, err := persist(w, ctx, func(ctx context.Context, c pursekeeperv1connect.SignerServiceClient) (*v1.BeginSettlementResponse, error) {
		return c.BeginSettlement(ctx, &v1.BeginSettlementRequest{KeySet: w.set, CardSerial: w.serial, Purse: v1.Purse_PURSE_EP})
	})
	if err != nil {
		return err
	}
	terminal, err := purse.ParseTerminal(begun.TerminalId)
	assert.NoError(w.t, err)
	command, err := purse.InitializeForLoad(w.profile, purse.EP, purse.Fen(begun.AmountFen), terminal)
	assert.NoError(w.t, err)
	init := plainHex(w.send(command))
	answer, err := persist(w, ctx, func(ctx context.Context, c pursekeeperv1connect.SignerServiceClient) (*v1.SettleLoadResponse, error) {
		return c.SettleLoad(ctx, &v1.SettleLoadRequest{SettlementId: begun.SettlementId, InitializeResponse: init})
	})
	if err != nil {
		return err
	}
	assert.Equal(w.t, v1.Outcome_OUTCOME_VERIFIED, answer.Outcome, answer.Detail)
	w.proved(answer.Settled)
	return nil
}

// finish settles the card and compares all that the signer says of it with what the card knows.
func (w *wallet) finish() {
	ctx := context.Background()
	require.NoError(w.t, w.settle(ctx))
	client := *w.on.client.Load()
	listed := map[string]*v1.Transaction{}
	for request := (&v1.ListTransactionsRequest{KeySet: w.set, CardSerial: w.serial, Purse: v1.Purse_PURSE_EP, PageSize: 1000}); ; {
		page, err := client.ListTransactions(ctx, request)
		require.NoError(w.t, err)
		for _, transaction := range page.Transactions {
			listed[transaction.TransactionId] = transaction
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			break
		}
	}
	appliedAt := map[uint32]string{}
	for id, transaction := range listed {
		tac, taken := w.taken[id]
		switch transaction.State {
		case v1.State_STATE_VERIFIED, v1.State_STATE_APPLIED:
			assert.True(w.t, taken, "%v: %s", transaction.State, id)
			assert.Empty(w.t, appliedAt[transaction.Counter], "two at one counter")
			appliedAt[transaction.Counter] = id
		case v1.State_STATE_NOT_APPLIED:
			assert.False(w.t, taken, "%v: %s", transaction.State, id)
		case v1.State_STATE_UNDETERMINED: // only the TAC tells among several, and it does
			if taken {
				require.NoError(w.t, w.confirm(ctx, id, tac))
			}
		default:
			assert.Fail(w.t, "after a settlement", "%v: %s", transaction.State, id)
		}
		assert.False(w.t, transaction.Contradicted, id)
	}
	for id := range w.taken {
		assert.NotNil(w.t, listed[id], "the card took what is not recorded: %s", id)
	}
}

// auditor reads the record that a dead process left, and holds the MAC2s that the cards got against it.
type auditor struct {
	t        *testing.T
	open     func() (*store.Database, error)
	cards    []*wallet
	next     uint64            // index of the next entry
	mac2     map[string]string // approved transactions by their INITIALIZE answer
	settled  map[string]string // one transaction of each outcome that was inferred
	counters map[string]string // the transaction that was applied at each counter of each card
}

// stateFile opens the store of dev's own configuration.
func (h home) stateFile() (*store.Database, error) {
	return store.OpenSQLite(context.Background(), h.path("state.db"))
}

func newAuditor(t *testing.T, open func() (*store.Database, error), cards []*wallet) *auditor {
	return &auditor{
		t: t, open: open, cards: cards, mac2: map[string]string{}, settled: map[string]string{}, counters: map[string]string{},
	}
}

// read takes in what is new in the record. What the cards had got before must be in it; another signer may be at work meanwhile.
func (a *auditor) read() {
	a.t.Helper()
	got := map[string]string{}
	for _, w := range a.cards {
		w.mu.Lock()
		for init, mac2 := range w.mac2 {
			got[w.set+w.serial+init] = mac2
		}
		w.mu.Unlock()
	}
	record, err := a.open()
	require.NoError(a.t, err)
	require.NoError(a.t, record.Entries(context.Background(), a.next, func(index uint64, line []byte) bool {
		assert.Equal(a.t, a.next, index, "a gap")
		a.next++
		entry, err := audit.Decode(line)
		assert.NoError(a.t, err)
		a.take(entry)
		return true
	}))
	require.NoError(a.t, record.Close())
	for init, mac2 := range got {
		assert.Equal(a.t, mac2, a.mac2[init], "a MAC2 that left without its record")
	}
}

// take looks at one entry. A repeated request has none, so that each INITIALIZE answer is approved once in the whole record.
func (a *auditor) take(entry audit.Entry) {
	assert.NotContains(a.t, []audit.Event{audit.UnexplainedCounter, audit.Contradiction, audit.CardLocked}, entry.Event, entry.Transaction)
	if entry.MAC2 != "" {
		assert.Equal(a.t, "APPROVED", entry.Outcome)
		init := entry.KeySet + entry.Card + entry.Inputs.Initialize
		assert.Empty(a.t, a.mac2[init], "approved twice: %s", entry.Transaction)
		a.mac2[init] = entry.MAC2
	}
	if entry.Event == "ConfirmLoad" && entry.Outcome == "VERIFIED" {
		a.applied(entry.Transaction)
	}
	for _, s := range entry.Settled {
		a.settled[s.Outcome] = s.Transaction
		if s.Outcome == "APPLIED" || s.Outcome == "VERIFIED" {
			a.applied(s.Transaction)
		}
	}
}

func (a *auditor) applied(id string) {
	counter := id[:len(id)-len("/A1B2C3D4")]
	if other, known := a.counters[counter]; known {
		assert.Equal(a.t, other, id, "two applied at one counter")
	}
	a.counters[counter] = id
}

// restore makes folder what it was in saved. SoftHSM rewrites its token's file in place at a login, so a kill at that moment can
// leave no token: that is SoftHSM's loss, and an HSM has no such file. The signer's own state is never restored.
func restore(t *testing.T, folder, saved string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.CopyFS(folder, os.DirFS(saved)))
}
