package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

const (
	keySet         = "demo"
	mac1Failures   = 3 // lock a card of the machine
	settlementLife = 5 * time.Minute
	ceiling        = 10 // fen, of the limited client
)

// world is a signer, or several, over a database, and the names that its callers' certificates proved. Many plays run in one world,
// each with cards of its own.
type world struct {
	connect func() (*store.Database, error)
	rules   ledger.Ledger
	policy  *policy.Policy
	profile purse.Profile
	keys    []signer.Version
	clock   time.Time
	random  *rand.ChaCha8 // of settlements: the same in each run
	nodes   int
	turn    atomic.Int64      // requests so far
	stores  []*store.Database // one a node
	signers []*signer.Signer
	store   *store.Database // the first of them
	client  policy.Caller
	limited policy.Caller // a client whose ceiling refuses every load of the machine
	officer policy.Caller
	cards   int
	audited uint64                 // entries read so far
	entries map[uint64]audit.Entry // those with a MAC2
}

func newWorld(t testing.TB, rules ledger.Ledger) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	return newWorldOn(t, rules, 1, func() (*store.Database, error) { return store.OpenSQLite(context.Background(), path) })
}

// newWorldOn is a world of so many nodes over the database that connect opens.
func newWorldOn(t testing.TB, rules ledger.Ledger, nodes int, connect func() (*store.Database, error)) *world {
	t.Helper()
	w := &world{
		connect: connect, nodes: nodes, rules: rules, entries: map[uint64]audit.Entry{},
		random: rand.NewChaCha8([32]byte{}), clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC),
	}
	names := []string{"client", "limited", "officer"}
	roles := []policy.Role{policy.Platform, policy.Platform, policy.Officer}
	var clients []policy.Client
	for i, name := range names {
		clients = append(clients, policy.Client{Name: name, Identity: name, Role: roles[i], KeySets: []string{keySet}})
	}
	clients[1].MaxAmountFen = ceiling
	var err error
	w.profile, err = purse.ShippedProfile("pboc-ep")
	require.NoError(t, err)
	w.policy, err = policy.New(policy.Rules{Clients: clients, Limits: &policy.Document{Name: "limits", Text: countedLimits}})
	require.NoError(t, err)
	for i, caller := range []*policy.Caller{&w.client, &w.limited, &w.officer} {
		*caller, err = w.policy.Identify(names[i : i+1])
		require.NoError(t, err)
	}
	masters := softcard.TestOnlyMasters()
	for kind, name := range map[keyderive.Kind]purse.KeyKind{keyderive.KindLoad: purse.KeyLoad, keyderive.KindTAC: purse.KeyTAC} {
		master := masters[name]
		key, err := keyderive.InMemory(suite.TDES, secret.Take(master[:]))
		require.NoError(t, err)
		w.keys = append(w.keys, signer.Version{
			Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Value{}, Key: key,
		})
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

// open starts the signers on what the database holds.
func (w *world) open() {
	w.stores, w.signers = nil, nil
	for range w.nodes {
		db, err := w.connect()
		must(err)
		s, err := signer.New(signer.Config{
			Policy: w.policy, Store: db, Now: func() time.Time { return w.clock }, SettlementLife: settlementLife,
			Random: w.random, Ledger: w.rules,
			KeySets: []signer.KeySet{{
				Name: keySet, Algorithm: suite.TDES, Profile: w.profile, Location: time.UTC, MAC1Failures: mac1Failures,
				Issuer: signer.Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(mustHex(issuerFactor)))}, Versions: w.keys,
			}},
		})
		must(err)
		must(s.Start(context.Background(), nil))
		w.stores, w.signers = append(w.stores, db), append(w.signers, s)
	}
	w.store = w.stores[0]
}

// node is the signer that the next request goes to: each in turn.
func (w *world) node() *signer.Signer {
	return w.signers[int(w.turn.Add(1))%w.nodes]
}

// restart is what an orderly stop and start leave of the signers: their database.
func (w *world) restart() {
	w.close()
	w.open()
}

func (w *world) close() {
	for _, db := range w.stores {
		must(db.Close())
	}
}

// newCard is a card that no play has seen.
func (w *world) newCard() *card {
	w.cards++
	return newCard(fmt.Sprintf("31052280%08d", w.cards), w.profile)
}

// read takes in the entries since the last time and returns them; their indexes must have no gap.
func (w *world) read() (news []audit.Entry, gap error) {
	err := w.store.Entries(context.Background(), w.audited, func(index uint64, line []byte) bool {
		if index != w.audited {
			gap = fmt.Errorf("audit index %d follows %d", index, w.audited-1)
			return false
		}
		e, err := audit.Decode(line)
		must(err)
		if e.MAC2 != "" {
			w.entries[index] = e
		}
		news = append(news, e)
		w.audited++
		return true
	})
	must(err)
	return news, gap
}
