// Package store is the signer's durable state: what every purse has proved, all transactions, the terminals' serial numbers, the
// readers' sessions, the catalogue of keys and the requests to change it, and the record.
//
// The unit of work is a [Change]: a pure decision on one purse. The store loads the purse as it is, under its row lock,
// lets the change decide, and writes what changed together with the audit entries, in one database transaction that it
// shares with every other change waiting at that time (group commit). A Change returns only after that transaction is
// durable; when the store cannot say that it is, the change has failed and its result must not leave the process.
package store

import (
	"slices"
	"time"
)

// PurseKey names one purse of one card.
type PurseKey struct {
	KeySet string
	Card   string // the 16 hex digits of the card's factor; with the issuer's in front where the key set takes it from the card
	Purse  string // ED or EP
}

// NoCounter is the Highest of a purse whose card has proved nothing yet.
const NoCounter = -1

// Purse is all that a decision may look at and change: one purse, and what its change named beside it. Counters go to 65536: one
// past the last that a card can answer.
type Purse struct {
	Key PurseKey
	// Highest is the highest online counter that a right MAC1 or TAC proved, NoCounter for a purse never seen.
	Highest int
	// Card is shared by the purses of one card.
	Card Card

	epoch       int           // how often the purse was reset
	pending     string        // id of the pending settlement, or ""
	settlements []*Settlement // the pending one, and those that the changes of the group named
	attempts    []*Attempt    // at the counters that were read, in the order of commit
	highestRead int           // the highest when the decision began
	named       Change        // what the decision may look at

	totals []namedTotal // that the change named

	// What the change named beside the purse; each nil when it named none, or none is there.
	terminal *Terminal
	purchase *Purchase
	session  *ReaderSession
	custody  *Custody
	request  *ChangeRequest
}

// Card is what is kept per card, for both purses together.
type Card struct {
	MAC1Failures int // since the last new authorisation
	Locked       bool
}

// AttemptKey is unique in a purse, whatever the operation.
type AttemptKey struct {
	Counter int
	Random  string // R, 8 hex digits
}

// Attempt is one authorised transaction. Everything above State is fixed when it is made.
type Attempt struct {
	AttemptKey
	ID         string // natural key: set/card/purse/operation/counter/random
	Operation  string // LOAD, UNLOAD, OVERDRAFT
	Amount     uint32 // fen; of an overdraft the new limit
	OldLimit   uint32 // fen; of an overdraft alone
	Balance    uint32 // fen, before the transaction, as the card's MAC1 covered it
	Terminal   string // 12 hex digits
	Date, Time string // YYYYMMDD, HHMMSS
	IssuerID   string // where the key set takes its issuer factor from the card
	KeyVersion int
	KCV        string
	Boundary   string
	MAC2       string
	AuditIndex uint64
	CreatedAt  time.Time
	Epoch      int      // how often its purse had been reset
	Client     string   // who asked
	Buckets    []string // the totals that it is charged to; see Total

	State        State
	Evidence     Evidence
	Contradicted bool
	RightTAC     string   // the TAC or MAC3 that verified it
	WrongTACs    []string // distinct wrong ones, at most five
}

// State is what is known of an attempt. The zero value is invalid.
type State string

// The states.
const (
	Open         State = "OPEN"
	Verified     State = "VERIFIED"
	Applied      State = "APPLIED"
	NotApplied   State = "NOT_APPLIED"
	Undetermined State = "UNDETERMINED"
)

// Evidence is what a state other than Open rests on.
type Evidence string

// The kinds of evidence.
const (
	ByTAC        Evidence = "TAC"
	ByCounter    Evidence = "COUNTER"
	BySibling    Evidence = "SIBLING"
	BySettlement Evidence = "SETTLEMENT"
	ByReset      Evidence = "RESET" // its card was issued again, and nobody will know
)

// SettlementState is where a settlement stands. The zero value is invalid.
type SettlementState string

// The states of a settlement: a purse has at most one that is pending.
const (
	SettlementPending   SettlementState = "PENDING"
	SettlementUsed      SettlementState = "USED"
	SettlementCancelled SettlementState = "CANCELLED" // by a newer authorisation
	SettlementReplaced  SettlementState = "REPLACED"  // by a newer settlement
)

// Settlement is a one-time terminal number issued for a purse.
type Settlement struct {
	ID         string
	Terminal   string // 12 hex digits
	IssuerID   string
	ExpiresAt  time.Time
	State      SettlementState
	Answer     string // the INITIALIZE answer that used it up, hex
	Outcome    string // what that try got
	Settled    []Proved
	KeyVersion int
	AuditIndex uint64
}

// Proved is what a card's answer told about one earlier attempt.
type Proved struct {
	ID       string
	State    State
	Evidence Evidence
}

// Pending returns the pending settlement, or nil.
func (p *Purse) Pending() *Settlement { return p.held(p.pending) }

// Settlement returns the settlement that the Change named, or the pending one, or nil.
func (p *Purse) Settlement(id string) *Settlement {
	if id != p.named.Settlement && id != p.pending {
		return nil
	}
	return p.held(id)
}

func (p *Purse) held(id string) *Settlement {
	for _, s := range p.settlements {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// Begin makes s the pending settlement; the one that was pending, if any, is replaced. It panics when s has been begun
// before.
func (p *Purse) Begin(s *Settlement) {
	if p.held(s.ID) != nil {
		panic("store: a decision began one settlement twice")
	}
	p.endPending(SettlementReplaced)
	s.State = SettlementPending
	p.settlements = append(p.settlements, s)
	p.pending = s.ID
}

// Cancel ends the pending settlement, if any.
func (p *Purse) Cancel() { p.endPending(SettlementCancelled) }

// Use ends the pending settlement as used up.
func (p *Purse) Use() { p.endPending(SettlementUsed) }

func (p *Purse) endPending(state SettlementState) {
	if s := p.Pending(); s != nil {
		s.State = state
	}
	p.pending = ""
}

// Reset forgets what the card of the purse has proved, for another card has its number now: no counter is known, no settlement is pending,
// and the attempts so far are history.
func (p *Purse) Reset() {
	p.Cancel()
	p.Highest = NoCounter
	p.epoch++
}

// At returns the attempts at one counter in the order of commit. The counter is one that the Change named, or the purse's
// highest when the decision began; for another one it panics: a rule that decides on what was not read is a bug.
func (p *Purse) At(counter int) []*Attempt {
	p.mustName(counter)
	var at []*Attempt
	for _, a := range p.attempts {
		if a.Counter == counter && a.Epoch == p.epoch {
			at = append(at, a)
		}
	}
	return at
}

// Attempt returns the attempt with that counter and random, or nil. It panics as At does.
func (p *Purse) Attempt(key AttemptKey) *Attempt {
	p.mustName(key.Counter)
	for _, a := range p.attempts {
		if a.AttemptKey == key && a.Epoch == p.epoch {
			return a
		}
	}
	return nil
}

// Add records a new attempt, at a counter that the Change named. It panics when (counter, random) is recorded already.
func (p *Purse) Add(a *Attempt) {
	if p.Attempt(a.AttemptKey) != nil {
		panic("store: a decision recorded one counter and random twice")
	}
	a.Epoch = p.epoch
	p.attempts = append(p.attempts, a)
}

func (p *Purse) mustName(counter int) {
	if counter != p.highestRead && !slices.Contains(p.named.Counters, counter) {
		panic("store: a decision looked at a counter that its change did not name")
	}
}

// forDecision copies everything that the decision of c may change, so that one that fails leaves nothing behind.
func (p *Purse) forDecision(c Change, card Card) *Purse {
	d := *p
	d.Card, d.named, d.highestRead = card, c, p.Highest
	d.attempts = make([]*Attempt, len(p.attempts), len(p.attempts)+1)
	for i, a := range p.attempts {
		copied := *a
		copied.Buckets, copied.WrongTACs = slices.Clone(a.Buckets), slices.Clone(a.WrongTACs)
		d.attempts[i] = &copied
	}
	d.settlements = make([]*Settlement, len(p.settlements))
	for i, s := range p.settlements {
		copied := *s
		copied.Settled = slices.Clone(s.Settled)
		d.settlements[i] = &copied
	}
	return &d
}
