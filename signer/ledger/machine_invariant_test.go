package ledger_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// invariant is one promise of DESIGN, §3, in words.
type invariant string

const (
	oneMAC2           invariant = "one INITIALIZE answer never yields two different MAC2"
	oneApplied        invariant = "one counter never has two applied transactions"
	notAppliedIsTrue  invariant = "what is declared not applied was not taken, and never is later"
	appliedIsTrue     invariant = "what is declared applied was taken"
	recordedFirst     invariant = "no MAC2 leaves without a durable record"
	onePending        invariant = "a purse has at most one pending settlement"
	documentedStates  invariant = "states move as documented"
	lockStays         invariant = "a locked card stays locked until an officer lifts it"
	noContradiction   invariant = "an honest card never contradicts the record"
	approvedAsAsked   invariant = "an approval is of what was asked"
	nothingBelow      invariant = "nothing is open, authorised or settled below what the card has proved"
	settlesAll        invariant = "a settlement leaves nothing open"
	tenOpen           invariant = "at most ten are open at one counter"
	unexplainedAlarm  invariant = "an alarm tells of every counter passed unexplained, and of no other"
	historyStays      invariant = "a reset leaves nothing open, and what it left never changes"
	documentedOutcome invariant = "the outcome is the documented one"
	countsOnce        invariant = "limits count a counter once, at the largest amount, unless nothing was taken there"
)

// broken is an invariant found broken.
type broken struct {
	invariant invariant
	how       string
}

func (b broken) Error() string { return fmt.Sprintf("%s: %s", b.invariant, b.how) }

// broke ends the play; run catches it.
func broke(i invariant, format string, a ...any) { panic(broken{i, fmt.Sprintf(format, a...)}) }

func (p *play) compare(got, wanted ledger.Outcome, call string) {
	if p.words && got != wanted {
		broke(documentedOutcome, "%s answered %s, documented is %q", call, got, wanted)
	}
}

// glance is check within a step, where what is documented depends on what has just happened.
func (p *play) glance() {
	if p.words {
		p.check()
	}
}

// check looks at every invariant.
func (p *play) check() {
	news, gap := p.read()
	if gap != nil {
		broke(recordedFirst, "%v", gap)
	}
	if len(news) > 0 { // what changes the database writes an entry
		listed, err := p.store.List(context.Background(), store.Filter{KeySet: keySet, After: p.from - 1, Limit: 10_000})
		must(err)
		for _, l := range listed {
			p.checkMove(l.Attempt)
		}
		p.checkCharged(listed)
	}
	p.checkRecords()
	for _, s := range p.slots {
		p.checkSlot(s)
		if len(news) > 0 {
			p.checkPending(s)
		}
		p.checkAlarm(s, news)
		s.before = s.proved
	}
}

// moves are the documented changes of state, with the evidence for each.
var moves = map[store.State]map[store.State][]store.Evidence{
	store.Open: {
		store.Verified: {store.ByTAC}, store.Applied: {store.ByCounter}, store.Undetermined: {store.ByCounter, store.ByReset},
		store.NotApplied: {store.BySibling, store.BySettlement},
	},
	store.Undetermined: {store.Verified: {store.ByTAC}, store.NotApplied: {store.BySibling}},
	store.Applied:      {store.Verified: {store.ByTAC}},
}

func (p *play) checkMove(now store.Attempt) {
	if left, past := p.history[now.AuditIndex]; past {
		if fmt.Sprint(now) != fmt.Sprint(left) {
			broke(historyStays, "%s changed from %+v to %+v", now.ID, left, now)
		}
		return
	}
	was, known := p.attempts[now.ID]
	p.attempts[now.ID] = now
	if !known {
		was = now
		was.State, was.Evidence, was.RightTAC, was.WrongTACs = store.Open, "", "", nil
	}
	if now.Contradicted {
		broke(noContradiction, "%s is marked", now.ID)
	}
	fixed := now
	fixed.State, fixed.Evidence, fixed.RightTAC, fixed.WrongTACs = was.State, was.Evidence, was.RightTAC, was.WrongTACs
	switch {
	case fmt.Sprint(fixed) != fmt.Sprint(was):
		broke(documentedStates, "%s changed from %+v to %+v", now.ID, was, now)
	case now.State != was.State && !slices.Contains(moves[was.State][now.State], now.Evidence):
		broke(documentedStates, "%s went from %s to %s by %s", now.ID, was.State, now.State, now.Evidence)
	case now.Operation == ledger.Unload && now.State == store.Applied:
		broke(documentedStates, "%s, an unload, is applied without its MAC3", now.ID)
	case len(now.WrongTACs) != len(slices.Compact(slices.Sorted(slices.Values(now.WrongTACs)))), len(now.WrongTACs) > ledger.WrongTACs:
		broke(documentedStates, "%s has %v for wrong TACs", now.ID, now.WrongTACs)
	case now.State == store.Verified && was.State != store.Verified && len(was.WrongTACs) >= ledger.WrongTACs:
		broke(documentedStates, "%s was verified after five wrong TACs", now.ID)
	}
}

// checkRecords compares every MAC2 that left with the attempt and the audit entry that must hold it.
func (p *play) checkRecords() {
	for _, s := range p.slots {
		for _, a := range s.approvals {
			recorded, found := p.attempts[a.id]
			if a.unload {
				continue
			}
			entry := p.entries[recorded.AuditIndex]
			if !found || recorded.MAC2 != a.mac2 || entry.MAC2 != a.mac2 || entry.Transaction != a.id {
				broke(recordedFirst, "%s: MAC2 %s left; recorded %q, in the audit record %q", a.id, a.mac2, recorded.MAC2, entry.MAC2)
			}
		}
	}
}

// took reports whether the card took the attempt, and whether it took one that the TAC cannot tell from it.
func (p *play) took(s *slot, id string) (took, like bool) {
	a := p.attempts[id]
	taken, any := s.card.purses[s.purse].taken[purse.Counter(a.Counter)]
	if !any || taken.foreign {
		return false, false
	}
	took = taken.random.String() == a.Random
	for _, other := range s.approvals {
		b := p.attempts[other.id]
		like = like || taken.random.String() == b.Random && b.Counter == a.Counter && alike(a, b)
	}
	return took, like
}

func alike(a, b store.Attempt) bool {
	return a.Operation == b.Operation && a.Amount == b.Amount && a.Balance == b.Balance && a.Terminal == b.Terminal &&
		a.Date == b.Date && a.Time == b.Time
}

func (p *play) checkSlot(s *slot) {
	applied, open, undetermined := map[int]int{}, map[int]int{}, map[int]int{}
	for _, approval := range s.approvals {
		a := p.attempts[approval.id]
		took, like := p.took(s, a.ID)
		switch a.State {
		case store.Verified, store.Applied:
			applied[a.Counter]++
			if !took && !(like && a.State == store.Verified) {
				broke(appliedIsTrue, "%s is %s by %s, and the card did not take it", a.ID, a.State, a.Evidence)
			}
		case store.NotApplied:
			if took && !p.namedInstead(s, a) {
				broke(notAppliedIsTrue, "%s is NOT_APPLIED by %s, and the card took it", a.ID, a.Evidence)
			}
		case store.Open:
			open[a.Counter]++
			if a.Counter < s.proved {
				broke(nothingBelow, "%s is open, the card has proved %04X", a.ID, s.proved)
			}
		case store.Undetermined:
			undetermined[a.Counter]++
			if a.Operation == ledger.Unload {
				undetermined[a.Counter]++ // an unload may be so alone
			}
		}
	}
	for counter := range applied {
		if applied[counter] > 1 {
			broke(oneApplied, "counter %04X has %d", counter, applied[counter])
		}
	}
	for counter := range open {
		if open[counter] > ledger.OpenAtOneCounter {
			broke(tenOpen, "counter %04X has %d", counter, open[counter])
		}
	}
	for counter, n := range undetermined {
		if n == 1 {
			broke(documentedStates, "the one undetermined transaction at %04X must be the one applied", counter)
		}
	}
}

// namedInstead reports whether a TAC that covers the attempt too was shown for a sibling.
func (p *play) namedInstead(s *slot, a store.Attempt) bool {
	return slices.ContainsFunc(s.approvals, func(other *approval) bool {
		b := p.attempts[other.id]
		return b.ID != a.ID && b.Counter == a.Counter && b.State == store.Verified && alike(a, b)
	})
}

func (p *play) checkPending(s *slot) {
	pending := 0
	for _, b := range s.settlements {
		if b.over {
			continue
		}
		_, recorded, err := p.store.Settlement(context.Background(), b.id)
		must(err)
		if b.over = recorded.State != store.SettlementPending; !b.over {
			pending++
		}
	}
	if pending > 1 {
		broke(onePending, "%d are pending", pending)
	}
}

// checkAlarm compares the alarms of this step with the transactions that another than the signer authorised.
func (p *play) checkAlarm(s *slot, news []audit.Entry) {
	alarmed := slices.ContainsFunc(news, func(e audit.Entry) bool {
		return e.Event == audit.UnexplainedCounter && e.Card == s.card.serial && e.Purse == s.purse.String()
	})
	foreign := false
	for counter, taken := range s.card.purses[s.purse].taken {
		foreign = foreign || taken.foreign && s.before != store.NoCounter && s.before <= int(counter) && int(counter) < s.proved
	}
	if alarmed != foreign {
		broke(unexplainedAlarm, "from %04X to %04X: alarm %t, unexplained %t", s.before, s.proved, alarmed, foreign)
	}
}

// wantedOf is the first rule of DESIGN, §3 that fits a request.
func (p *play) wantedOf(o *shown, m moment, caller policy.Caller, wrong bool) ledger.Outcome {
	s, open := o.slot, 0
	for _, a := range s.approvals {
		recorded := p.attempts[a.id]
		if !wrong && !p.locked(s.card) && recorded.Counter == o.counter() && recorded.Random == o.init.Random.String() {
			same := recorded.Operation == ledger.Load && recorded.Amount == uint32(o.amount) && recorded.Terminal == o.terminal.String()
			if same && (m == moment{} || m == moment{recorded.Date, recorded.Time}) {
				return ledger.OutcomeOf(recorded.State)
			}
			return ledger.CounterConflict
		}
		if recorded.State == store.Open && recorded.Counter == o.counter() {
			open++
		}
	}
	switch {
	case p.locked(s.card):
		return ledger.CardLocked
	case wrong:
		return ledger.MACMismatch
	case o.counter() < s.proved:
		return ledger.CounterStale
	case caller.Name() == p.limited.Name() && o.amount > ceiling:
		return ledger.LimitExceeded
	case open >= ledger.OpenAtOneCounter:
		return ledger.SettlementRequired
	}
	return ledger.Approved
}

func (p *play) wantedOfTAC(a *approval, tac purse.MAC) ledger.Outcome {
	if !p.words {
		return "" // and what is recorded was not looked at since the step began
	}
	recorded := p.attempts[a.id]
	shown := fmt.Sprintf("%X", tac[:])
	d, err := purse.ParseDate(recorded.Date)
	must(err)
	t, err := purse.ParseTime(recorded.Time)
	must(err)
	right := tac == a.shown.slot.card.tacOf(a.shown.offer, d, t)
	switch {
	case recorded.RightTAC == shown:
		return ledger.Verified
	case !right, len(recorded.WrongTACs) == ledger.WrongTACs:
		return ledger.TACMismatch
	case recorded.State == store.NotApplied:
		return ledger.NotApplied // of an honest card it is the TAC of another that it cannot be told from
	}
	return ledger.Verified
}

func (p *play) wantedOfTry(s *slot, b *begun, o *shown, sent string, right bool) ledger.Outcome {
	switch {
	case b.outcome != "" && sent == b.answer:
		return b.outcome
	case b.outcome != "", b.dead, p.clock.After(b.expires):
		return ledger.SettlementExpired
	case p.locked(s.card):
		return ledger.CardLocked
	case !right:
		return ledger.MACMismatch
	case o.counter() < s.proved:
		return ledger.CounterStale
	}
	return ledger.Verified
}
