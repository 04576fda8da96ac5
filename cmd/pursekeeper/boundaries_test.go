package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// operationKeys are the kinds of key of each operation that computes with one, in the order of the table.
var operationKeys = []struct {
	methods []policy.Operation
	name    string
	kinds   []keyderive.Kind
	issues  bool // card keys leave, encrypted for their card
}{
	{[]policy.Operation{policy.AuthorizeLoad}, "AuthorizeLoad, SettleLoad", []keyderive.Kind{keyderive.KindLoad}, false},
	{[]policy.Operation{policy.ConfirmLoad}, "ConfirmLoad, ConfirmOverdraft", []keyderive.Kind{keyderive.KindTAC}, false},
	{[]policy.Operation{policy.AuthorizeUnload, policy.ConfirmUnload}, "AuthorizeUnload, ConfirmUnload", []keyderive.Kind{keyderive.KindUnload}, false},
	{[]policy.Operation{policy.AuthorizeOverdraft}, "AuthorizeOverdraft", []keyderive.Kind{keyderive.KindOverdraft}, false},
	{[]policy.Operation{policy.BeginPurchase, policy.CompletePurchase}, "BeginPurchase, CompletePurchase (MAC2)", []keyderive.Kind{keyderive.KindPurchase}, false},
	{[]policy.Operation{policy.VerifyTac, policy.VerifyTacs}, "VerifyTac, VerifyTacs, CompletePurchase (TAC)", []keyderive.Kind{keyderive.KindTAC}, false},
	{[]policy.Operation{policy.SignCommand}, "SignCommand: blocks and updates", []keyderive.Kind{keyderive.KindMaintenance}, false},
	{[]policy.Operation{policy.SignCommand}, "SignCommand: PIN UNBLOCK", []keyderive.Kind{keyderive.KindPINUnblock}, false},
	{[]policy.Operation{policy.SignCommand}, "SignCommand: RELOAD PIN", []keyderive.Kind{keyderive.KindPINReload}, false},
	{[]policy.Operation{policy.AuthenticateCard}, "AuthenticateCard", []keyderive.Kind{keyderive.KindControl, keyderive.KindInternalAuth}, false},
	{[]policy.Operation{policy.Challenge, policy.Authenticate, policy.Seal, policy.Open}, "Challenge, Authenticate, Seal, Open", []keyderive.Kind{keyderive.KindReader}, false},
	{[]policy.Operation{policy.PersonaliseCard, policy.PersonalisePSAM}, "PersonaliseCard, PersonalisePSAM: the key written", []keyderive.Kind{keyderive.KindLoad, keyderive.KindTAC, keyderive.KindReader}, true},
}

// keyless are the operations that compute with no key, and Replay, which compares what all others computed, each at its own boundary.
var keyless = []policy.Operation{
	policy.BeginSettlement, policy.SettleLoad, policy.GetTransaction, policy.ListTransactions, policy.UnlockCard, policy.ConfirmOverdraft,
	policy.ListKeySets,
	policy.ListEntries, policy.ReadEntry, policy.ProveEntry, policy.LatestCheckpoint, policy.ExportEntries, policy.Replay,
	policy.ProposeChange, policy.ApproveChange, policy.RejectChange, policy.CancelChange, policy.ListChanges, policy.ReadChange, policy.ListOfficers,
}

// boundariesTable says for each operation, suite and token what the strictest boundary of its keys is.
func boundariesTable(t *testing.T) string {
	t.Helper()
	shipped := func(name string) hsm.Profile {
		p, err := hsm.ShippedProfile(name)
		require.NoError(t, err)
		return p
	}
	whole, err := hsm.ParseProfile([]byte(hsmtest.AllMechanisms().Profile()))
	require.NoError(t, err)
	tokens := []hsm.Profile{shipped("softhsm"), shipped("opencryptoki"), whole}
	suites := []suite.Algorithm{suite.TDES, suite.SM4}

	var out strings.Builder
	out.WriteString("| operation | SoftHSM 3DES | SoftHSM SM4 | openCryptoki 3DES | openCryptoki SM4 | test token 3DES | test token SM4 |\n|---|---|---|---|---|---|---|\n")
	for _, row := range operationKeys {
		fmt.Fprintf(&out, "| %s |", row.name)
		for _, token := range tokens {
			for _, alg := range suites {
				fmt.Fprintf(&out, " %s |", cell(token, alg, row.kinds, row.issues))
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// cell is where the operation's keys can be at the strictest; all its kinds agree.
func cell(token hsm.Profile, alg suite.Algorithm, kinds []keyderive.Kind, issues bool) string {
	var all []string
	for _, kind := range kinds {
		strictest := token.Strictest(kind, alg)
		if issues { // a key that never leaves the token is never written to a card either
			strictest = max(strictest, keyderive.BoundaryCard)
		}
		all = append(all, strictest.String())
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " or ")
}

// The README's table is the one that the token profiles give; on a mismatch the failure prints what belongs there.
func TestTheTableOfBoundaries(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "<!-- made by TestTheTableOfBoundaries -->\n")
	require.True(t, found)
	table, _, found := strings.Cut(rest, "<!-- end -->")
	require.True(t, found)
	want := boundariesTable(t)
	assert.Equal(t, want, table, "put this into README.md:\n%s", want)
}

// No operation is left out of the table, and none that computes with no key is in it.
func TestTheTableOfBoundariesIsWhole(t *testing.T) {
	in := slices.Clone(keyless)
	for _, row := range operationKeys {
		in = append(in, row.methods...)
	}
	slices.Sort(in)
	operations := policy.Operations()
	slices.Sort(operations)
	assert.Equal(t, operations, slices.Compact(in))
}
