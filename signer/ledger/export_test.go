package ledger

// Rule is a rule that Without can take out.
type Rule = rule

// Without is a ledger that lacks one rule: what the search for a broken invariant must tell from the real one.
func Without(r Rule) Ledger { return Ledger{without: r} }

// NumberOfRules is one more than the last rule.
const NumberOfRules = int(numberOfRules)

// The rules, for tests outside the package.
const (
	RecordedAnswerIsReplayed           = recordedAnswerIsReplayed
	ConflictIsRefused                  = conflictIsRefused
	LowerCounterIsStale                = lowerCounterIsStale
	VerifiedMovesTheCounter            = verifiedMovesTheCounter
	PassedAloneIsApplied               = passedAloneIsApplied
	PassedAmongSeveralIsUndetermined   = passedAmongSeveralIsUndetermined
	PassedUnloadIsUndetermined         = passedUnloadIsUndetermined
	UnexplainedCounterIsAlarmed        = unexplainedCounterIsAlarmed
	AuthorisationCancelsSettlement     = authorisationCancelsSettlement
	TenAtOneCounter                    = tenAtOneCounter
	VerifiedSettlesSiblings            = verifiedSettlesSiblings
	NotAppliedStaysSo                  = notAppliedStaysSo
	FiveWrongTACs                      = fiveWrongTACs
	SameWrongTACCountsOnce             = sameWrongTACCountsOnce
	IndistinguishableIsNoContradiction = indistinguishableIsNoContradiction
	SettlementIsUsedOnce               = settlementIsUsedOnce
	SettlementExpires                  = settlementExpires
	SettlementBelowIsStale             = settlementBelowIsStale
	SettlementSettlesAllOpen           = settlementSettlesAllOpen
	CancelledSettlementIsDead          = cancelledSettlementIsDead
	ReplacedSettlementIsDead           = replacedSettlementIsDead
	WrongTryUsesSettlementUp           = wrongTryUsesSettlementUp
	ExpiredTryUsesSettlementUp         = expiredTryUsesSettlementUp
	SameTryGetsSameResult              = sameTryGetsSameResult
	RefusedAnswerStillProves           = refusedAnswerStillProves
	MAC1FailuresLock                   = mac1FailuresLock
	ResetLeavesNothingOpen             = resetLeavesNothingOpen
	ResetForgets                       = resetForgets
)
