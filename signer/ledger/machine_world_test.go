package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
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

// world is a signer over a database, and the names that its callers' certificates proved. Many plays run in one world,
// each with cards of its own.
type world struct {
	connect func() (*store.Database, error)
	rules   ledger.Ledger
	policy  *policy.Policy
	profile purse.Profile
	keys    []signer.Version
	clock   time.Time
	random  *rand.ChaCha8 // of settlements: the same in each run
	store   *store.Database
	signer  *signer.Signer
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
	return newWorldOn(t, rules, func() (*store.Database, error) { return store.OpenSQLite(context.Background(), path) })
}

// newWorldOn is a world over the database that connect opens.
func newWorldOn(t testing.TB, rules ledger.Ledger, connect func() (*store.Database, error)) *world {
	t.Helper()
	w := &world{
		connect: connect, rules: rules, entries: map[uint64]audit.Entry{},
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
	w.policy, err = policy.New(policy.Rules{Clients: clients})
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
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	return w
}

// open starts the signer on what the database holds.
func (w *world) open() {
	var err error
	w.store, err = w.connect()
	must(err)
	w.signer, err = signer.New(signer.Config{
		Policy: w.policy, Store: w.store, Now: func() time.Time { return w.clock }, SettlementLife: settlementLife,
		Random: w.random, Ledger: w.rules,
		KeySets: []signer.KeySet{{
			Name: keySet, Algorithm: suite.TDES, Profile: w.profile, Location: time.UTC, MAC1Failures: mac1Failures,
			Issuer: signer.Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(mustHex(issuerFactor)))}, Versions: w.keys,
		}},
	})
	must(err)
	must(w.signer.Start(context.Background(), nil))
}

// restart is what an orderly stop and start leave of a signer: its database.
func (w *world) restart() {
	must(w.store.Close())
	w.open()
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
