package ledger

import (
	"slices"

	"github.com/pursekeeper/pursekeeper/store"
)

// NoMoreValues is why a value was refused, right or wrong, in the words of the record.
const NoMoreValues = "takes no more values after five wrong ones"

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
	case a.RightTAC != "" && c.Right: // the verdict of the constant-time compare: the right value again
		result.Outcome, result.Settled = Verified, settledBySibling(p.At(a.Counter))
		if a.Contradicted {
			result.Outcome, result.Settled = Contradiction, nil
		}
		return result, true
	case !c.Right && slices.Contains(a.WrongTACs, c.Value) && l.holds(sameWrongTACCountsOnce):
		result.Outcome, result.Reason = TACMismatch, "this value was wrong before"
		return result, true
	case len(a.WrongTACs) >= WrongTACs && a.RightTAC == "" && l.holds(fiveWrongTACs):
		result.Outcome, result.Reason = TACMismatch, "the transaction "+NoMoreValues
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
		if l.holds(indistinguishableIsNoContradiction) && slices.ContainsFunc(siblings, func(s *store.Attempt) bool {
			return s.State != store.NotApplied && sameCertificate(s, a)
		}) {
			result.Outcome, result.Reason = NotApplied, "its TAC is also that of another transaction at this counter, which may be applied"
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

// settledBySibling is what the right TAC at a counter proved of the others there: a counter has only one.
func settledBySibling(at []*store.Attempt) (settled []store.Proved) {
	for _, a := range at {
		if a.Evidence == store.BySibling {
			settled = append(settled, store.Proved{ID: a.ID, State: a.State, Evidence: a.Evidence})
		}
	}
	return settled
}

// sameCertificate reports whether the TAC covers the same values for both: it covers no random (EPURSE.md §5.1), and of an
// overdraft the balance without the old limit (§5.4). MAC3 of an unload is under a session key that the random makes (§5.3), so it
// is never another's.
func sameCertificate(a, b *store.Attempt) bool {
	return a.Operation == b.Operation && a.Operation != Unload && a.Amount == b.Amount && uncredited(a) == uncredited(b) &&
		a.Terminal == b.Terminal && a.Date == b.Date && a.Time == b.Time
}

func uncredited(a *store.Attempt) int64 { return int64(a.Balance) - int64(a.OldLimit) }
