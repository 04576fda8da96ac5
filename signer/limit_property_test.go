package signer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// busyNode is one node of several on one database.
type busyNode struct {
	*Signer
	clients []policy.Caller
}

// busyWorld is few cards, terminals and clients, and the nodes that they come to.
type busyWorld struct {
	nodes     []busyNode
	clock     atomic.Int64 // of all nodes: microseconds since 1970
	terminals []string
}

const busyClients = 3

func busyRules(t testing.TB) *policy.Policy {
	t.Helper()
	rules := policy.Rules{Limits: &policy.Document{Name: "limits", Text: busyLimits}}
	for i := range busyClients {
		rules.Clients = append(rules.Clients, policy.Client{
			Name: fmt.Sprintf("client-%d", i), Identity: fmt.Sprintf("client-%d", i), Role: policy.Platform, KeySets: []string{"demo"},
		})
	}
	p, err := policy.New(rules)
	require.NoError(t, err)
	return p
}

// testLimitsHold loads few cards through nodes of one database, at the same time, from answers of one counter and of several, and lets some
// be taken, some settled, and some be left open. Whatever came of it: the record, replayed in the order of commit, is never above a limit by
// a fen, refuses nothing that a limit would have allowed, and the totals are what all attempts say. open opens one more store on the
// database.
func testLimitsHold(t *testing.T, nodes, cards, steps int, open func() store.Store) {
	w := &busyWorld{terminals: []string{"112233445566", "112233445567", "AA2233445568"}}
	w.clock.Store(time.Date(2024, 1, 31, 14, 0, 0, 0, time.UTC).UnixMicro()) // two hours before midnight of the key set
	rules := busyRules(t)
	var first store.Store
	for range nodes {
		s := open()
		if first == nil {
			first = s
		}
		signer, err := New(Config{
			Policy: rules, Store: s, Now: func() time.Time { return time.UnixMicro(w.clock.Load()) },
			KeySets: []KeySet{testKeySet(t, "demo", suite.TDES)},
		})
		require.NoError(t, err)
		node := busyNode{Signer: signer}
		for i := range busyClients {
			caller, err := signer.Identify(t.Context(), []string{fmt.Sprintf("client-%d", i)})
			require.NoError(t, err)
			node.clients = append(node.clients, caller)
		}
		w.nodes = append(w.nodes, node)
	}
	require.NoError(t, w.nodes[0].Start(t.Context(), nil))
	var all sync.WaitGroup
	for i := range cards {
		b := &busyCard{
			busyWorld: w, random: rand.New(rand.NewPCG(uint64(i), 7)),
			wallet: (&bench{}).wallet(t, fmt.Sprintf("31052280000001%02d", i), softcard.Account{Balance: 1000, Online: 7}),
		}
		all.Go(func() {
			for range steps {
				b.step()
			}
		})
	}
	all.Wait()
	var record []audit.Entry
	require.NoError(t, first.Entries(t.Context(), 0, func(_ uint64, line []byte) bool {
		e, err := audit.Decode(line)
		require.NoError(t, err)
		record = append(record, e)
		return true
	}))
	approved, refused := checkLimits(t, record, busyBounds)
	buckets := checkTotals(t, first)
	given := 0
	for _, e := range record {
		for _, s := range e.Settled {
			if s.Outcome == string(store.NotApplied) {
				given++
			}
		}
	}
	t.Logf("%d loads approved, %d refused by a limit, %d given back, %d totals", approved, refused, given, buckets)
	require.Greater(t, approved, steps)
	require.Greater(t, refused, steps)
	require.Greater(t, given, steps/4)
}

// busyCard is one card and who loads it.
type busyCard struct {
	*busyWorld
	*wallet
	random *rand.Rand
}

// step asks for loads of up to three answers of the card at once, and lets something become of the last.
func (b *busyCard) step() {
	b.clock.Add(int64(b.random.IntN(40)) * int64(time.Second/time.Microsecond))
	asked := make([]LoadRequest, 1+b.random.IntN(3))
	answers := make([]Authorization, len(asked))
	for i := range asked {
		terminal := b.terminals[b.random.IntN(len(b.terminals))]
		amount := 1 + b.random.Uint64N(1500)
		asked[i] = LoadRequest{
			KeySet: "demo", CardSerial: b.serial, Purse: purse.EP, AmountFen: amount, TerminalID: terminal,
			InitializeResponse: b.initialise(purse.Fen(amount), terminal), Date: "20240131", Time: "235959",
		}
	}
	var all sync.WaitGroup
	for i, r := range asked {
		node := b.nodes[b.random.IntN(len(b.nodes))]
		caller := node.clients[b.random.IntN(busyClients)]
		all.Go(func() {
			var err error
			answers[i], err = node.AuthorizeLoad(context.Background(), caller, r)
			require.NoError(b.t, err)
			require.Contains(b.t, []ledger.Outcome{ledger.Approved, ledger.LimitExceeded, ledger.SettlementRequired}, answers[i].Outcome)
		})
	}
	all.Wait()
	b.goOn(answers[len(answers)-1])
}

// goOn has the card take the load of its last answer and prove it, or settles, or leaves all open.
func (b *busyCard) goOn(last Authorization) {
	node := b.nodes[b.random.IntN(len(b.nodes))]
	caller := node.clients[b.random.IntN(busyClients)]
	switch n := b.random.IntN(5); {
	case last.Outcome == ledger.Approved && n < 2:
		tac := b.credit(last)
		require.NotEqual(b.t, noTAC, tac)
		if n == 1 {
			return // the card's next answer tells
		}
		c, err := node.ConfirmLoad(context.Background(), caller, last.TransactionID, tac)
		require.NoError(b.t, err)
		require.Equal(b.t, ledger.Verified, c.Outcome)
	case n < 4:
		s, err := node.BeginSettlement(context.Background(), caller, "demo", b.serial, "", purse.EP)
		require.NoError(b.t, err)
		settled, err := node.SettleLoad(context.Background(), caller, s.ID, b.answerTo(s))
		require.NoError(b.t, err)
		require.Equal(b.t, ledger.Verified, settled.Outcome)
	}
}

// sqliteFile opens stores on one file.
func sqliteFile(t *testing.T) func() store.Store {
	path := filepath.Join(t.TempDir(), "state.db")
	return func() store.Store {
		s, err := store.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
}

func TestLimitsHold(t *testing.T) { testLimitsHold(t, 1, 8, 60, sqliteFile(t)) }

// Two nodes on one file take turns at its lock.
func TestLimitsHoldOnTwoNodes(t *testing.T) { testLimitsHold(t, 2, 6, 30, sqliteFile(t)) }

// Two nodes on one PostgreSQL.
func TestLimitsHoldOnPostgres(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	testLimitsHold(t, 2, 6, 20, func() store.Store {
		s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}
