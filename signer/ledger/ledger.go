// Package ledger is the rules of a repeated counter (DESIGN, §3): what one purse's proven answers, taken in order of
// commit, say about its transactions.
//
// It is pure. A rule looks at a store.Purse inside the transaction that holds its row and changes it; the caller has
// verified the card's MAC before, outside, with immutable inputs. The facts that the rules rest on:
//
//   - a purse has one online counter, shared by load, unload and overdraft; the card raises it only when it takes a
//     transaction, and takes at most one at each value;
//   - a card forgets a session when it is initialised again;
//   - an INITIALIZE answer carries no challenge of ours, so answers can be collected at one counter and shown later. Only an
//     answer to a settlement's random terminal number is known to be fresh.
package ledger

import (
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/store"
)

// The numbers of DESIGN, §3.
const (
	OpenAtOneCounter = 10 // new attempts at one counter since the last settlement there
	WrongTACs        = 5  // distinct wrong TACs after which an attempt takes no more
)

// Operations that move a purse's online counter.
const (
	Load      = "LOAD"
	Unload    = "UNLOAD"
	Overdraft = "OVERDRAFT"
)

// Outcome is how a request ended, by its name in the API.
type Outcome string

// The outcomes.
const (
	Approved           Outcome = "APPROVED"
	Verified           Outcome = "VERIFIED"
	Applied            Outcome = "APPLIED"
	NotApplied         Outcome = "NOT_APPLIED"
	Undetermined       Outcome = "UNDETERMINED"
	MACMismatch        Outcome = "MAC_MISMATCH"
	TACMismatch        Outcome = "TAC_MISMATCH"
	CounterConflict    Outcome = "COUNTER_CONFLICT"
	CounterStale       Outcome = "COUNTER_STALE"
	LimitExceeded      Outcome = "LIMIT_EXCEEDED"
	KeyNotActive       Outcome = "KEY_NOT_ACTIVE"
	SettlementRequired Outcome = "SETTLEMENT_REQUIRED"
	SettlementExpired  Outcome = "SETTLEMENT_EXPIRED"
	Contradiction      Outcome = "CONTRADICTION"
	CardLocked         Outcome = "CARD_LOCKED"
	TerminalExhausted  Outcome = "TERMINAL_EXHAUSTED"
	SessionExpired     Outcome = "SESSION_EXPIRED"
)

// OutcomeOf is the outcome that tells a recorded state: APPROVED for an open attempt.
func OutcomeOf(s store.State) Outcome {
	switch s {
	case store.Open:
		return Approved
	case store.Verified:
		return Verified
	case store.Applied:
		return Applied
	case store.NotApplied:
		return NotApplied
	case store.Undetermined:
		return Undetermined
	}
	return ""
}

// Ledger applies the rules. The zero Ledger applies all of them.
type Ledger struct {
	without rule // only tests take a rule out, to see that the search for a broken invariant needs it
}

// rule names one rule of DESIGN, §3.
type rule int

const (
	everyRule rule = iota
	recordedAnswerIsReplayed
	conflictIsRefused
	lowerCounterIsStale
	verifiedMovesTheCounter
	passedAloneIsApplied
	passedAmongSeveralIsUndetermined
	authorisationCancelsSettlement
	tenAtOneCounter
	verifiedSettlesSiblings
	notAppliedStaysSo
	fiveWrongTACs
	settlementIsUsedOnce
	settlementExpires
	settlementBelowIsStale
	refusedAnswerStillProves
	passedUnloadIsUndetermined
	unexplainedCounterIsAlarmed
	cancelledSettlementIsDead
	replacedSettlementIsDead
	wrongTryUsesSettlementUp
	expiredTryUsesSettlementUp
	sameTryGetsSameResult
	settlementSettlesAllOpen
	sameWrongTACCountsOnce
	indistinguishableIsNoContradiction
	mac1FailuresLock
	resetLeavesNothingOpen
	resetForgets
	numberOfRules
)

func (l Ledger) holds(r rule) bool { return l.without != r }

// Answer is what a right MAC1 proved, and what was asked with it.
type Answer struct {
	Operation  string
	Counter    int
	Random     string
	Amount     uint32 // for OVERDRAFT the new limit
	Terminal   string
	Date, Time string // as asked; empty: left out
}

// Result is what a decision did.
type Result struct {
	Outcome Outcome
	// Attempt is the new or recorded attempt; nil for a refusal that is about none.
	Attempt *store.Attempt
	// Recorded is true when Attempt was there before: the answer is the recorded one and nothing new is written for it.
	Recorded bool
	// Settled is what the answer proved about earlier attempts, in the order of commit.
	Settled []store.Proved
	// Unexplained is the range of counters that a known purse passed without an authorisation: an alarm. Empty: From > To.
	Unexplained Range
	// Reason says in words why a request was refused.
	Reason string
}

// Range is a range of counters, both ends in it.
type Range struct{ From, To int }

// Empty reports whether the range holds no counter.
func (r Range) Empty() bool { return r.From > r.To }

// Authorize decides on an answer with a right MAC1: the first rule of DESIGN, §3 that fits. refuse, when not "", is a
// refusal that the caller has found already (a limit): the answer still proves what it proves. fresh makes the attempt to
// record; it is called at most once.
func (l Ledger) Authorize(p *store.Purse, a Answer, refuse Outcome, fresh func() *store.Attempt) Result {
	if recorded := p.Attempt(store.AttemptKey{Counter: a.Counter, Random: a.Random}); recorded != nil && l.holds(recordedAnswerIsReplayed) {
		return l.replay(recorded, a)
	}
	if a.Counter < p.Highest && l.holds(lowerCounterIsStale) {
		return Result{Outcome: CounterStale, Unexplained: none, Reason: "the card has proved a higher counter since"}
	}
	before := *p
	result := Result{Unexplained: none}
	if a.Counter > p.Highest {
		result = l.pass(p, a.Counter)
	}
	if refuse == "" && l.holds(tenAtOneCounter) && openAt(p, a.Counter) >= OpenAtOneCounter {
		refuse = SettlementRequired
		result.Reason = "too many open transactions at this counter; settle first"
	}
	if refuse != "" {
		if !l.holds(refusedAnswerStillProves) {
			p.Highest = before.Highest
		}
		result.Outcome = refuse
		return result
	}
	attempt := fresh()
	attempt.State = store.Open
	if p.Attempt(attempt.AttemptKey) == nil {
		p.Add(attempt)
	}
	if l.holds(authorisationCancelsSettlement) {
		p.Cancel()
	}
	p.Card.MAC1Failures = 0
	result.Outcome, result.Attempt = Approved, attempt
	return result
}

var none = Range{From: 1, To: 0}

// replay is rule 1: the same request gets the recorded result, another one is a conflict. ALG is under no MAC and is not
// compared.
func (l Ledger) replay(recorded *store.Attempt, a Answer) Result {
	same := recorded.Operation == a.Operation && recorded.Amount == a.Amount && recorded.Terminal == a.Terminal &&
		(a.Date == "" && a.Time == "" || a.Date == recorded.Date && a.Time == recorded.Time)
	if !same && l.holds(conflictIsRefused) {
		return Result{
			Outcome: CounterConflict, Attempt: recorded, Recorded: true, Unexplained: none,
			Reason: "this answer of the card is recorded with another request",
		}
	}
	return Result{Outcome: OutcomeOf(recorded.State), Attempt: recorded, Recorded: true, Unexplained: none}
}

// pass is rule 3: the card stands at counter, above the highest known. What was open at the highest is applied when it is
// one and not an unload, undetermined otherwise; a counter passed at which nothing could have been taken is unexplained.
func (l Ledger) pass(p *store.Purse, counter int) Result {
	result := Result{Unexplained: none}
	if p.Highest == store.NoCounter {
		p.Highest = counter
		return result
	}
	open := slices.DeleteFunc(p.At(p.Highest), func(a *store.Attempt) bool { return a.State != store.Open })
	state := store.Undetermined
	unload := slices.ContainsFunc(open, func(a *store.Attempt) bool { return a.Operation == Unload })
	if (len(open) == 1 && l.holds(passedAloneIsApplied) || len(open) > 1 && !l.holds(passedAmongSeveralIsUndetermined)) &&
		!(unload && l.holds(passedUnloadIsUndetermined)) {
		state = store.Applied
	}
	for _, a := range open {
		result.Settled = append(result.Settled, settle(a, state, store.ByCounter))
	}
	if l.holds(unexplainedCounterIsAlarmed) {
		result.Unexplained = Range{From: p.Highest, To: counter - 1}
		if len(open) > 0 {
			result.Unexplained.From++
		}
	}
	p.Highest = counter
	return result
}

func openAt(p *store.Purse, counter int) (n int) {
	for _, a := range p.At(counter) {
		if a.State == store.Open {
			n++
		}
	}
	return n
}

func settle(a *store.Attempt, state store.State, evidence store.Evidence) store.Proved {
	a.State, a.Evidence = state, evidence
	return store.Proved{ID: a.ID, State: state, Evidence: evidence}
}

// MAC1Failed counts a wrong MAC1 and locks the card at limit failures (0: never). It reports whether this one locked it.
func (l Ledger) MAC1Failed(p *store.Purse, limit int) bool {
	p.Card.MAC1Failures++
	if limit == 0 || p.Card.Locked || p.Card.MAC1Failures < limit || !l.holds(mac1FailuresLock) {
		return false
	}
	p.Card.Locked = true
	return true
}

// Unlock lifts a card's lock and forgets its failures; it reports whether the card was locked.
func (l Ledger) Unlock(p *store.Purse) bool {
	was := p.Card.Locked
	p.Card = store.Card{}
	return was
}

// Reset is an officer's act: the card of the purse was issued again, and its old card is out of use. What is open is UNDETERMINED for good,
// the pending settlement is cancelled, and the counter memory begins anew. Nothing decides on the old card's attempts any more, so that the
// new card may come to the same counters, and by chance to the same randoms.
func (l Ledger) Reset(p *store.Purse) (settled []store.Proved) {
	if p.Highest != store.NoCounter {
		for _, a := range p.At(p.Highest) { // at a lower counter none is open
			if a.State == store.Open && l.holds(resetLeavesNothingOpen) {
				settled = append(settled, settle(a, store.Undetermined, store.ByReset))
			}
		}
	}
	if l.holds(resetForgets) {
		p.Reset()
	}
	return settled
}

// Begin makes s the purse's pending settlement in place of an earlier one.
func (l Ledger) Begin(p *store.Purse, s *store.Settlement) { p.Begin(s) }

// Fresh is a settlement's answer: what the card answered to INITIALIZE FOR LOAD with the one-time terminal number.
type Fresh struct {
	Settlement string
	Answer     string // as received, to tell a retry
	Counter    int
	Right      bool    // MAC1 was verified over the settlement's amount and terminal number
	Refuse     Outcome // a refusal found before MAC1 was looked at (key, lock); "" none
	KeyVersion int
}

// Settle decides on a settlement's answer. Any try uses the settlement up, too late a one too; the same try again gets the
// same result, and recorded is true then.
func (l Ledger) Settle(p *store.Purse, f Fresh, now time.Time) (result Result, recorded bool) {
	s := p.Settlement(f.Settlement)
	if s.State == store.SettlementUsed && s.Answer == f.Answer && l.holds(sameTryGetsSameResult) {
		return Result{Outcome: Outcome(s.Outcome), Settled: s.Settled, Unexplained: none}, true
	}
	if !l.takes(s.State) {
		return Result{Outcome: SettlementExpired, Unexplained: none, Reason: "the settlement is " + string(s.State)}, false
	}
	result = l.judge(p, s, f, now)
	if result.Outcome == MACMismatch && !l.holds(wrongTryUsesSettlementUp) ||
		result.Outcome == SettlementExpired && !l.holds(expiredTryUsesSettlementUp) {
		return result, false
	}
	p.Use()
	s.Answer, s.Outcome, s.Settled, s.KeyVersion = f.Answer, string(result.Outcome), result.Settled, f.KeyVersion
	return result, false
}

// takes reports whether a settlement in this state takes a try: a pending one alone.
func (l Ledger) takes(s store.SettlementState) bool {
	switch s {
	case store.SettlementPending:
		return true
	case store.SettlementUsed:
		return !l.holds(settlementIsUsedOnce)
	case store.SettlementCancelled:
		return !l.holds(cancelledSettlementIsDead)
	case store.SettlementReplaced:
		return !l.holds(replacedSettlementIsDead)
	}
	return false
}

// judge is what the first try of a settlement proves.
func (l Ledger) judge(p *store.Purse, s *store.Settlement, f Fresh, now time.Time) Result {
	result := Result{Unexplained: none}
	switch {
	case now.After(s.ExpiresAt) && l.holds(settlementExpires):
		result.Outcome, result.Reason = SettlementExpired, "the settlement is too old"
	case f.Refuse != "":
		result.Outcome = f.Refuse
	case !f.Right:
		result.Outcome = MACMismatch
	case f.Counter < p.Highest && l.holds(settlementBelowIsStale):
		result.Outcome, result.Reason = CounterStale, "the card has proved a higher counter since"
	case f.Counter > p.Highest:
		result = l.pass(p, f.Counter)
		result.Outcome = Verified
	default:
		result.Outcome = Verified
		if l.holds(settlementSettlesAllOpen) {
			result.Settled = settleOpen(p, f.Counter)
		}
	}
	return result
}

// settleOpen declares every open attempt at the counter not applied: each was committed before the settlement began, for a
// later one would have cancelled it, and its session ended when the card was initialised for the settlement.
func settleOpen(p *store.Purse, counter int) (settled []store.Proved) {
	for _, a := range p.At(counter) {
		if a.State == store.Open {
			settled = append(settled, settle(a, store.NotApplied, store.BySettlement))
		}
	}
	return settled
}
