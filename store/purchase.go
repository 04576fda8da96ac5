package store

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Purchase is one purchase, cash withdrawal or compound purchase for which a MAC1 was issued. Everything above State is fixed
// when it is made.
type Purchase struct {
	AttemptKey        // OFFSN and R: unique in a place
	ID         string // natural key: set/card/purse/operation/counter/random
	Client     string // who began it
	Type       string // TTI, two hex digits
	Amount     uint32 // fen
	Initialize string // the card's answer to INITIALIZE, hex
	Terminal   string // 12 hex digits
	Serial     uint32 // TSN
	Date, Time string // YYYYMMDD, HHMMSS
	KeyVersion int
	KCV        string
	Boundary   string
	MAC1       string
	AuditIndex uint64
	CreatedAt  time.Time

	State      State    // Open, or Verified by a right MAC2
	RightMAC2  string   // the MAC2 that verified it
	WrongMAC2s []string // distinct wrong ones, at most five
	RightTAC   string
	WrongTACs  []string // distinct wrong ones, at most five
}

// purchaseKey is a purchase's place: OFFSN and R of a PurseKey, which is a card's where its Purse is "".
type purchaseKey struct {
	purse PurseKey
	key   AttemptKey
}

// Purchase returns the purchase that the Change named, nil when none is recorded there. It panics when it named none.
func (p *Purse) Purchase() *Purchase {
	if p.named.Purchase == nil {
		panic("store: a decision looked at a purchase that its change did not name")
	}
	return p.purchase
}

// AddPurchase records a new purchase at the counter and random that the Change named. It panics when one is recorded there, and
// when the purchase is of another place.
func (p *Purse) AddPurchase(a *Purchase) {
	if p.Purchase() != nil {
		panic("store: a decision recorded one purchase twice")
	}
	if a.AttemptKey != *p.named.Purchase {
		panic("store: a decision recorded a purchase that its change did not name")
	}
	p.purchase = a
}

// copied is a copy that shares nothing with p; nil of nil.
func (p *Purchase) copied() *Purchase {
	if p == nil {
		return nil
	}
	c := *p
	c.WrongMAC2s, c.WrongTACs = slices.Clone(p.WrongMAC2s), slices.Clone(p.WrongTACs)
	return &c
}

// judgedAs reports whether the two say the same of what became of the purchase.
func (p *Purchase) judgedAs(was *Purchase) bool {
	return p.State == was.State && p.RightMAC2 == was.RightMAC2 && slices.Equal(p.WrongMAC2s, was.WrongMAC2s) &&
		p.RightTAC == was.RightTAC && slices.Equal(p.WrongTACs, was.WrongTACs)
}

// restore gives back everything that is fixed when a purchase is made, and keeps what it was judged as.
func (p *Purchase) restore(made *Purchase) {
	judged := *p
	*p = *made
	p.State, p.RightMAC2, p.WrongMAC2s = judged.State, judged.RightMAC2, judged.WrongMAC2s
	p.RightTAC, p.WrongTACs = judged.RightTAC, judged.WrongTACs
}

// check refuses a new purchase that the database would refuse later, for the whole group: one has a state, a serial number, and
// the index of one of its own change's entries.
func (p *Purchase) check(first uint64, entries int) error {
	switch {
	case p.AuditIndex < first || p.AuditIndex >= first+uint64(entries):
		return fmt.Errorf("bug: a new purchase has audit index %d, expected one of %d from %d", p.AuditIndex, entries, first)
	case p.State == "":
		return errors.New("bug: a new purchase has no state")
	case p.Serial == 0:
		return errors.New("bug: a new purchase has no serial number")
	case !isText(p.Client):
		return fmt.Errorf("bug: a new purchase is of client %q, which is no text", p.Client)
	}
	return nil
}
