package ledger

import (
	"slices"

	"github.com/pursekeeper/pursekeeper/store"
)

// Operations that move a purse's offline counter, by the names that purchase ids carry.
const (
	Purchase = "PURCHASE"
	Cash     = "CASH"
	Compound = "COMPOUND"
)

// Bargain is what a purchase was asked with. No MAC of the card is in it: the terminal speaks first.
type Bargain struct {
	Type       string // TTI, two hex digits
	Amount     uint32
	Initialize string // the card's answer, 30 upper-case hex digits
	Terminal   string
	Date, Time string // as asked; empty: left out
}

// Bought is what a decision on a purchase did.
type Bought struct {
	Outcome  Outcome
	Purchase *store.Purchase // the recorded one, or the new one; nil of a refusal that is about none
	Recorded bool            // it was there before: nothing new is written for it
	Reason   string
}

// RecordedPurchase decides on a purchase whose (OFFSN, R) is recorded: the same request gets what was recorded, with its serial
// number and MAC1, however often it is asked; another one is a conflict. ok is false when nothing is recorded there.
func (l Ledger) RecordedPurchase(p *store.Purse, b Bargain) (result Bought, ok bool) {
	recorded := p.Purchase()
	if recorded == nil {
		return Bought{}, false
	}
	same := recorded.Type == b.Type && recorded.Amount == b.Amount && recorded.Terminal == b.Terminal &&
		withoutALG(recorded.Initialize) == withoutALG(b.Initialize) &&
		(b.Date == "" && b.Time == "" || b.Date == recorded.Date && b.Time == recorded.Time)
	if !same {
		return Bought{
			Outcome: CounterConflict, Purchase: recorded, Recorded: true, Reason: "this answer of the card is recorded with another request",
		}, true
	}
	return Bought{Outcome: Approved, Purchase: recorded, Recorded: true}, true
}

// withoutALG is an INITIALIZE FOR PURCHASE answer but for its ALG byte, which decides nothing.
//
//	BAL(4) OFFSN(2) OVERDRAFT(3) KVER(1) ALG(1) R(4)
func withoutALG(initialize string) string {
	const at = 2 * (4 + 2 + 3 + 1)
	if len(initialize) < at+2 {
		return initialize
	}
	return initialize[:at] + initialize[at+2:]
}

// BeginPurchase records a purchase, unless one was recorded there since its serial number was taken: then that one is the answer,
// and the serial number stays unused.
func (l Ledger) BeginPurchase(p *store.Purse, b Bargain, fresh *store.Purchase) Bought {
	if result, ok := l.RecordedPurchase(p, b); ok {
		return result
	}
	fresh.State = store.Open
	p.AddPurchase(fresh)
	return Bought{Outcome: Approved, Purchase: fresh}
}

// Receipt is what the card answered to DEBIT FOR PURCHASE, and whether it is right.
type Receipt struct {
	MAC2      string // 8 upper-case hex digits
	MAC2Right bool
	TAC       string // "" when it was not given
	TACRight  bool
}

// CompletePurchase decides on a receipt. A right MAC2 proves that the card paid; a wrong value is counted and settles nothing, and
// a TAC is judged only together with a right MAC2.
func (l Ledger) CompletePurchase(p *store.Purse, r Receipt) (Outcome, string) {
	a := p.Purchase()
	right, reason := judgeValue(&a.RightMAC2, &a.WrongMAC2s, r.MAC2, r.MAC2Right)
	if !right {
		return MACMismatch, reason
	}
	a.State = store.Verified
	if r.TAC == "" {
		return Verified, ""
	}
	if right, reason = judgeValue(&a.RightTAC, &a.WrongTACs, r.TAC, r.TACRight); !right {
		return TACMismatch, reason
	}
	return Verified, ""
}

// judgeValue keeps one value that was compared in constant time before: the right one again is right again, a wrong one counts
// once, and after five wrong ones no value is taken.
func judgeValue(known *string, wrong *[]string, value string, right bool) (bool, string) {
	switch {
	case right && *known != "":
		return true, ""
	case !right && slices.Contains(*wrong, value):
		return false, "this value was wrong before"
	case *known == "" && len(*wrong) >= WrongTACs:
		return false, "the purchase " + NoMoreValues
	case !right:
		if len(*wrong) < WrongTACs {
			*wrong = append(*wrong, value)
		}
		return false, ""
	}
	*known = value
	return true, ""
}
