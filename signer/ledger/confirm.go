package ledger

import (
	"slices"

	"github.com/pursekeeper/pursekeeper/store"
)

// Certificate is a TAC or MAC3 shown for an attempt.
type Certificate struct {
	Attempt store.AttemptKey
	Value   string // 8 upper-case hex digits
	Right   bool   // verified against what was recorded
}

// Confirm decides on a certificate. A right one makes its attempt verified and its siblings at the counter not applied; a
// wrong one is counted and settles nothing. recorded is true when the same value was judged before.
func (l Ledger) Confirm(p *store.Purse, c Certificate) (result Result, recorded bool) {
	a := p.Attempt(c.Attempt)
	result = Result{Attempt: a, Unexplained: none}
	switch {
	case a.RightTAC != "" && c.Value == a.RightTAC:
		result.Outcome = Verified
		if a.Contradicted {
			result.Outcome = Contradiction
		}
		return result, true
	case slices.Contains(a.WrongTACs, c.Value):
		result.Outcome, result.Reason = TACMismatch, "this value was wrong before"
		return result, true
	case len(a.WrongTACs) >= WrongTACs && a.RightTAC == "" && l.holds(fiveWrongTACs):
		result.Outcome, result.Reason = TACMismatch, "the transaction takes no more values after five wrong ones"
		return result, false
	case !c.Right:
		if len(a.WrongTACs) < WrongTACs {
			a.WrongTACs = append(a.WrongTACs, c.Value)
		}
		result.Outcome = TACMismatch
		return result, false
	}
	return l.confirmRight(p, a, c.Value), false
}

func (l Ledger) confirmRight(p *store.Purse, a *store.Attempt, value string) Result {
	result := Result{Attempt: a, Unexplained: none}
	siblings := p.At(a.Counter)
	if a.State == store.NotApplied && l.holds(notAppliedStaysSo) {
		if slices.ContainsFunc(siblings, func(s *store.Attempt) bool { return s.State == store.Verified && sameCertificate(s, a) }) {
			result.Outcome, result.Reason = NotApplied, "a transaction that its TAC cannot tell apart is verified at this counter"
			return result
		}
		a.RightTAC, a.Contradicted = value, true
		result.Outcome, result.Reason = Contradiction, "the transaction had been declared not applied"
		return result
	}
	a.RightTAC = value
	settle(a, store.Verified, store.ByTAC)
	if l.holds(verifiedSettlesSiblings) {
		for _, s := range siblings {
			if s != a && s.State != store.Verified && s.State != store.NotApplied {
				result.Settled = append(result.Settled, settle(s, store.NotApplied, store.BySibling))
			}
		}
	}
	// The card took it, so it stands above: an older answer at this counter can no longer be taken.
	if p.Highest <= a.Counter && l.holds(verifiedMovesTheCounter) {
		p.Highest = a.Counter + 1
	}
	result.Outcome = Verified
	return result
}

// sameCertificate reports whether the TAC covers the same values for both: it covers no random (EPURSE.md §5.1).
func sameCertificate(a, b *store.Attempt) bool {
	return a.Operation == b.Operation && a.Amount == b.Amount && a.Balance == b.Balance && a.Terminal == b.Terminal &&
		a.Date == b.Date && a.Time == b.Time
}
