package custody

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
)

// What each state allows, operation by operation, as an officer reads it: s signs, v verifies, f verifies and flags, t settles,
// r writes its successor alone, and - is nothing: KEY_NOT_ACTIVE.
//
//	pre-active, active, suspended, deactivated, compromised, destroyed
var states = map[policy.Operation]string{
	policy.AuthorizeLoad:      "-s----",
	policy.ConfirmLoad:        "-v-vf-",
	policy.SettleLoad:         "-t-t--",
	policy.AuthorizeUnload:    "-s----",
	policy.ConfirmUnload:      "-v-vf-",
	policy.AuthorizeOverdraft: "-s----",
	policy.ConfirmOverdraft:   "-v-vf-",
	policy.VerifyTac:          "-v-vf-",
	policy.VerifyTacs:         "-v-vf-",
	policy.Replay:             "-v-vf-",
	policy.SignCommand:        "-s----",
	policy.AuthenticateCard:   "-s----",
	policy.PersonaliseCard:    "-s-r--",
	policy.PersonalisePSAM:    "-s-r--",
	policy.BeginPurchase:      "-s----",
	policy.CompletePurchase:   "-v-vf-",
	policy.Challenge:          "-s----",
	policy.Authenticate:       "-s----",
	policy.Seal:               "-s----",
	policy.Open:               "-s----",
}

// keyless are the operations that use no key.
var keyless = []policy.Operation{
	policy.BeginSettlement, policy.GetTransaction, policy.ListTransactions, policy.UnlockCard, policy.ListKeySets,
	policy.ProposeChange, policy.ApproveChange, policy.RejectChange, policy.CancelChange, policy.ListChanges, policy.ReadChange,
	policy.ListOfficers, policy.ListEntries, policy.ReadEntry, policy.ProveEntry, policy.LatestCheckpoint, policy.ExportEntries,
}

func TestWhatEachStateAllows(t *testing.T) {
	letters := map[Allowance]byte{Nothing: '-', Signs: 's', Verifies: 'v', Flagged: 'f', Settles: 't', Replaces: 'r'}
	for op, row := range states {
		require.Len(t, row, len(KeyStates()), op)
		for i, state := range KeyStates() {
			assert.Equal(t, string(row[i]), string(letters[state.For(op)]), "%s with a key that is %v", op, state)
		}
		for _, none := range []KeyState{0, Destroyed + 1, 255} {
			assert.Equal(t, Nothing, none.For(op), "%s with a key in no state", op)
		}
	}
	for _, op := range append(slices.Clone(keyless), "", "NoSuchOperation") {
		assert.NotContains(t, allowances, op)
		for _, state := range KeyStates() {
			assert.Equal(t, Nothing, state.For(op), "%s with a key that is %v", op, state)
		}
	}
	for _, op := range policy.Operations() {
		_, uses := states[op]
		assert.True(t, uses != slices.Contains(keyless, op), "%s: in the table, or without keys", op)
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(states)), slices.Collect(maps.Keys(allowances)))
}

func TestAnAllowanceIsOneThing(t *testing.T) {
	for _, test := range []struct {
		a                                             Allowance
		signs, verifies, settles, replaces, isFlagged bool
	}{
		{a: Nothing},
		{a: Signs, signs: true, replaces: true},
		{a: Verifies, verifies: true},
		{a: Flagged, verifies: true, isFlagged: true},
		{a: Settles, settles: true},
		{a: Replaces, replaces: true},
	} {
		assert.Equal(t, test.signs, test.a.Signs())
		assert.Equal(t, test.verifies, test.a.Verifies())
		assert.Equal(t, test.settles, test.a.Settles())
		assert.Equal(t, test.replaces, test.a.Replaces())
		assert.Equal(t, test.isFlagged, test.a.Flagged())
	}
}
