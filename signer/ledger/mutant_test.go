package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// mutants are all rules of the ledger. Without one of them the machine must find a broken invariant: of the truth, or,
// where a rule guards no more than what the documents promise a caller, of the documented outcomes.
var mutants = map[string]struct {
	rule  ledger.Rule
	words bool
}{
	"a recorded answer is replayed":            {rule: ledger.RecordedAnswerIsReplayed},
	"another request on it is a conflict":      {rule: ledger.ConflictIsRefused},
	"a lower counter is stale":                 {rule: ledger.LowerCounterIsStale},
	"a right TAC moves the counter":            {rule: ledger.VerifiedMovesTheCounter},
	"one passed alone is applied":              {rule: ledger.PassedAloneIsApplied},
	"one passed among several is undetermined": {rule: ledger.PassedAmongSeveralIsUndetermined},
	"an unload passed is undetermined":         {rule: ledger.PassedUnloadIsUndetermined},
	"an unexplained counter is an alarm":       {rule: ledger.UnexplainedCounterIsAlarmed},
	"an authorisation cancels the settlement":  {rule: ledger.AuthorisationCancelsSettlement},
	"ten are open at one counter":              {rule: ledger.TenAtOneCounter},
	"a right TAC settles the siblings":         {rule: ledger.VerifiedSettlesSiblings},
	"not applied stays so":                     {rule: ledger.NotAppliedStaysSo},
	"five wrong TACs are enough":               {rule: ledger.FiveWrongTACs},
	"the same wrong TAC counts once":           {rule: ledger.SameWrongTACCountsOnce},
	"a TAC of two is no contradiction":         {rule: ledger.IndistinguishableIsNoContradiction},
	"a settlement is used once":                {rule: ledger.SettlementIsUsedOnce},
	"a settlement expires":                     {rule: ledger.SettlementExpires, words: true},
	"a settlement below is stale":              {rule: ledger.SettlementBelowIsStale},
	"a settlement settles all that is open":    {rule: ledger.SettlementSettlesAllOpen},
	"a cancelled settlement is dead":           {rule: ledger.CancelledSettlementIsDead},
	"a replaced settlement is dead":            {rule: ledger.ReplacedSettlementIsDead},
	"a wrong try uses a settlement up":         {rule: ledger.WrongTryUsesSettlementUp, words: true},
	"a late try uses a settlement up":          {rule: ledger.ExpiredTryUsesSettlementUp, words: true},
	"the same try gets the same result":        {rule: ledger.SameTryGetsSameResult, words: true},
	"a refused answer still proves":            {rule: ledger.RefusedAnswerStillProves},
	"wrong MAC1s lock the card":                {rule: ledger.MAC1FailuresLock},
	"a reset leaves nothing open":              {rule: ledger.ResetLeavesNothingOpen},
	"a reset forgets the old card":             {rule: ledger.ResetForgets, words: true},
}

// mostScripts bounds the search for one mutant; the seeds are fixed, so each run of it is the same.
const mostScripts = 200

func TestEveryRuleIsNeeded(t *testing.T) {
	require.Len(t, mutants, ledger.NumberOfRules-1, "a rule has no mutant, or none of its name")
	scripts := scripts(40, true)
	for name, mutant := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, ledger.Without(mutant.rule))
			steps := 0
			for seed := range mostScripts {
				n, found := newPlay(w, mutant.words).run(scripts.Example(seed))
				steps += n
				if found != nil {
					t.Logf("script %d, %d steps in all: %v", seed, steps, *found)
					return
				}
			}
			t.Fatalf("%d steps broke no invariant: the machine is too weak, or the rule is not needed", steps)
		})
	}
}
