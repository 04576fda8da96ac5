package signer

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Published test masters (testvectors, computed.json). Never real keys.
var testMasters = map[keyderive.Kind]string{
	keyderive.KindLoad: "F7C1734AABB56E2CE6E3AE76862FDC3B",
	keyderive.KindTAC:  "7FA79B75451FCDF820734AE367923E85",
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// testKeySet is the demonstration key set on the in-memory engine.
func testKeySet(t testing.TB, name string, alg suite.Algorithm) KeySet {
	t.Helper()
	profile, err := purse.ShippedProfile("pboc-ep")
	require.NoError(t, err)
	set := KeySet{
		Name: name, Algorithm: alg, Profile: profile, Location: time.FixedZone("CST", 8*3600), MAC1Failures: 5,
		Issuer: Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(unhex(t, "1000100010001000")))},
	}
	for kind, master := range testMasters {
		key, err := keyderive.InMemory(alg, secret.Take(unhex(t, master)))
		require.NoError(t, err)
		block, err := alg.New(unhex(t, master))
		require.NoError(t, err)
		set.Versions = append(set.Versions, Version{
			Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
		})
	}
	return set
}

// bench is a signer over a database file of its own.
type bench struct {
	*Signer
	store  *store.Database
	path   string
	caller policy.Caller
	clock  time.Time
}

const testIdentity = "spiffe://pursekeeper.test/platform"

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{path: filepath.Join(t.TempDir(), "state.db"), clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC)}
	b.open(t, change...)
	return b
}

func (b *bench) open(t testing.TB, change ...func(*Config)) {
	t.Helper()
	rules, err := policy.New(policy.Rules{Clients: []policy.Client{{
		Name: "platform", Identity: testIdentity, Role: policy.Platform, KeySets: []string{"demo", "demo-sm4"},
	}, {
		Name: "officer", Identity: "spiffe://pursekeeper.test/officer", Role: policy.Officer, KeySets: []string{"demo"},
	}}})
	require.NoError(t, err)
	b.store, err = store.OpenSQLite(context.Background(), b.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.store.Close() })
	config := Config{
		Policy: rules, Store: b.store, Now: func() time.Time { return b.clock },
		KeySets: []KeySet{testKeySet(t, "demo", suite.TDES), testKeySet(t, "demo-sm4", suite.SM4)},
	}
	for _, c := range change {
		c(&config)
	}
	b.Signer, err = New(config)
	require.NoError(t, err)
	require.NoError(t, b.Start(context.Background(), nil))
	b.caller, err = b.Identify(context.Background(), []string{testIdentity})
	require.NoError(t, err)
}

func demoRequest() LoadRequest {
	return LoadRequest{
		KeySet: "demo", CardSerial: "3105228000001117", Purse: purse.EP, AmountFen: 100, TerminalID: "112233445566",
		InitializeResponse: "000003E8 0007 01 00 A1B2C3D4 7E1722D0", Date: "20240131", Time: "235959",
	}
}

// The request and answer of DESIGN §4.
func TestAuthorizeAndConfirmTheDemonstrationLoad(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	answer, err := b.AuthorizeLoad(ctx, b.caller, demoRequest())
	require.NoError(t, err)
	require.Equal(t, ledger.Approved, answer.Outcome)
	require.Equal(t, "60B7B5B7", answer.MAC2)
	require.Equal(t, "805200000B2024013123595960B7B5B704", answer.Command)
	require.Equal(t, "demo/3105228000001117/EP/LOAD/0007/A1B2C3D4", answer.TransactionID)

	again, err := b.AuthorizeLoad(ctx, b.caller, demoRequest())
	require.NoError(t, err)
	require.Equal(t, answer, again)

	r := demoRequest()
	r.Date, r.Time = "", ""
	again, err = b.AuthorizeLoad(ctx, b.caller, r)
	require.NoError(t, err)
	require.Equal(t, answer, again)

	sm4 := demoRequest()
	sm4.KeySet, sm4.InitializeResponse = "demo-sm4", "000003E8 0007 01 00 A1B2C3D4 C9A6F09C"
	other, err := b.AuthorizeLoad(ctx, b.caller, sm4)
	require.NoError(t, err)
	require.Equal(t, "1FF2DC09", other.MAC2)

	wrong, err := b.ConfirmLoad(ctx, b.caller, answer.TransactionID, "5D5364F1")
	require.NoError(t, err)
	require.Equal(t, ledger.TACMismatch, wrong.Outcome)
	right, err := b.ConfirmLoad(ctx, b.caller, answer.TransactionID, "5d5364f0")
	require.NoError(t, err)
	require.Equal(t, ledger.Verified, right.Outcome)
	right, err = b.ConfirmLoad(ctx, b.caller, answer.TransactionID, "5D5364F0")
	require.NoError(t, err)
	require.Equal(t, ledger.Verified, right.Outcome)

	settled, err := b.AuthorizeLoad(ctx, b.caller, demoRequest())
	require.NoError(t, err)
	require.Equal(t, ledger.Verified, settled.Outcome)
	require.Empty(t, settled.MAC2)
}

// limitedPolicy is the bench's policy with a ceiling for one load.
func limitedPolicy(t testing.TB, ceiling uint64) *policy.Policy {
	t.Helper()
	p, err := policy.New(policy.Rules{Clients: []policy.Client{{
		Name: "platform", Identity: testIdentity, Role: policy.Platform, KeySets: []string{"demo"}, MaxAmountFen: ceiling,
	}}})
	require.NoError(t, err)
	return p
}
