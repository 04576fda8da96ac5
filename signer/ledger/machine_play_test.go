package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// play is one run of the machine: two cards, a client, and a thief who is the client too. What it notes is what the world
// outside the signer knows; the invariants compare the signer's database with it.
type play struct {
	*world
	words    bool // also compare each outcome with the documented one, not only the state with the truth
	slots    []*slot
	from     uint64 // the audit index at which it began
	attempts map[string]store.Attempt
	history  map[uint64]store.Attempt // of cards that were issued again, by audit index: as the reset left them
	mac2     map[string]string        // by slot, counter and random: what left
	failures map[*card]int            // wrong MAC1s since the last new authorisation
	wrongs   uint32                   // makes wrong TACs distinct
}

// slot is one purse of one card, and all that was ever shown of it.
type slot struct {
	card        *card
	purse       purse.Purse
	offers      []*shown
	approvals   []*approval
	tacs        []purse.MAC
	settlements []*begun
	proved      int // the highest counter that a right MAC1 or TAC proved to the signer, -1 none
	before      int // proved before this step
}

// shown is an answer to INITIALIZE that somebody has noted.
type shown struct {
	offer
	slot *slot
}

// approval is a transaction whose MAC2 left the signer.
type approval struct {
	id     string
	shown  *shown
	moment moment
	mac2   string
	unload bool
}

// begun is a settlement, and what came of its first try.
type begun struct {
	id, terminal string
	expires      time.Time
	dead         bool // cancelled by an authorisation, or replaced
	over         bool // no longer pending in the database
	answer       string
	outcome      ledger.Outcome
}

// moment is a date and time of a request; the zero one leaves them out.
type moment struct{ date, time string }

func newPlay(w *world, words bool) *play {
	_, gap := w.read()
	must(gap)
	first, second := w.newCard(), w.newCard()
	p := &play{
		world: w, words: words, from: w.audited, attempts: map[string]store.Attempt{}, history: map[uint64]store.Attempt{}, mac2: map[string]string{}, failures: map[*card]int{},
	}
	for _, s := range []*slot{{card: first, purse: purse.EP}, {card: first, purse: purse.ED}, {card: second, purse: purse.EP}} {
		s.proved, s.before = store.NoCounter, store.NoCounter
		p.slots = append(p.slots, s)
	}
	return p
}

func (p *play) locked(c *card) bool { return p.failures[c] >= mac1Failures }

func (s *slot) counter() int { return int(s.card.purses[s.purse].counter) }

func (s *slot) prove(counter int) { s.proved = max(s.proved, counter) }

func (s *shown) counter() int { return int(s.init.Counter) }

// initialise has the card answer INITIALIZE FOR LOAD.
func (s *slot) initialise(amount purse.Fen, terminal purse.Terminal, again bool) *shown {
	o := &shown{offer: s.card.initialise(s.purse, amount, terminal, false, again), slot: s}
	s.offers = append(s.offers, o)
	return o
}

// authorise shows an answer to the signer. wrong falsifies its MAC1.
func (p *play) authorise(o *shown, m moment, caller policy.Caller, wrong bool) {
	wanted := p.wantedOf(o, m, caller, wrong)
	answer := p.ask(o, m, caller, wrong)
	p.note(o, m, wrong, answer)
	p.compare(answer.Outcome, wanted, "AuthorizeLoad")
	p.glance()
}

func (p *play) ask(o *shown, m moment, caller policy.Caller, wrong bool) signer.Authorization {
	init := o.init
	if wrong {
		init.MAC1[0] ^= 0xFF
	}
	answer, err := p.node().AuthorizeLoad(context.Background(), caller, signer.LoadRequest{
		KeySet: keySet, CardSerial: o.slot.card.serial, Purse: o.purse, AmountFen: uint64(o.amount), TerminalID: o.terminal.String(),
		InitializeResponse: fmt.Sprintf("%X", init.Bytes()), Date: m.date, Time: m.time,
	})
	must(err)
	return answer
}

// note takes down what an answer of the signer says, and looks at the MAC2 that it carries.
func (p *play) note(o *shown, m moment, wrong bool, answer signer.Authorization) {
	s := o.slot
	locked := p.locked(s.card)
	if answer.Outcome == ledger.MACMismatch {
		p.failures[s.card]++
	}
	if answer.Outcome == ledger.Approved {
		p.noteApproval(o, m, answer, locked)
	}
	if !wrong && !locked {
		s.prove(o.counter())
	}
}

func (p *play) noteApproval(o *shown, m moment, answer signer.Authorization, locked bool) {
	s := o.slot
	if locked {
		broke(lockStays, "a locked card got MAC2 for %s", answer.TransactionID)
	}
	if o.counter() < s.proved {
		broke(nothingBelow, "%s was authorised at %04X, the card has proved %04X", answer.TransactionID, o.counter(), s.proved)
	}
	d, err := purse.ParseDate(answer.Date)
	must(err)
	t, err := purse.ParseTime(answer.Time)
	must(err)
	if given := (moment{answer.Date, answer.Time}); m != (moment{}) && given != m {
		broke(approvedAsAsked, "%s was asked for %v and approved for %v", answer.TransactionID, m, given)
	}
	right := s.card.mac2(o.offer, d, t)
	key := fmt.Sprintf("%s %s %04X %s", s.card.serial, o.purse, o.counter(), o.init.Random)
	if earlier, ok := p.mac2[key]; ok && earlier != answer.MAC2 {
		broke(oneMAC2, "%s: %s, then %s", key, earlier, answer.MAC2)
	}
	p.mac2[key] = answer.MAC2
	if want := fmt.Sprintf("%X", right[:]); answer.MAC2 != want {
		broke(approvedAsAsked, "%s: MAC2 %s is not that of the request, %s", answer.TransactionID, answer.MAC2, want)
	}
	p.approved(&approval{id: answer.TransactionID, shown: o, moment: moment{answer.Date, answer.Time}, mac2: answer.MAC2})
}

// approved notes an approval that is new.
func (p *play) approved(a *approval) {
	s := a.shown.slot
	for _, earlier := range s.approvals {
		if earlier.id == a.id {
			return
		}
	}
	s.approvals = append(s.approvals, a)
	p.failures[s.card] = 0
	for _, b := range s.settlements {
		b.dead = b.dead || b.outcome == ""
	}
}

// authoriseUnload puts an unload before the ledger as an operation of its own would: its MACs are not the ledger's matter.
func (p *play) authoriseUnload(s *slot) {
	if p.locked(s.card) || s.purse != s.card.profile.UnloadPurse() || s.card.purses[s.purse].balance < 100 {
		return
	}
	o := &shown{offer: s.card.initialise(s.purse, 100, terminals[0], true, false), slot: s}
	key := store.AttemptKey{Counter: o.counter(), Random: o.init.Random.String()}
	id := fmt.Sprintf("%s/%s/%s/UNLOAD/%04X/%s", keySet, s.card.serial, s.purse, key.Counter, key.Random)
	var result ledger.Result
	must(p.store.Commit(context.Background(), store.Change{
		Purse: store.PurseKey{KeySet: keySet, Card: s.card.serial, Purse: s.purse.String()}, Counters: []int{key.Counter},
		Decide: func(purse *store.Purse, index uint64) ([]audit.Entry, error) {
			asked := ledger.Answer{
				Operation: ledger.Unload, Counter: key.Counter, Random: key.Random, Amount: 100, Terminal: o.terminal.String(),
				Date: "20240131", Time: "235959",
			}
			result = p.rules.Authorize(purse, asked, "", func() *store.Attempt {
				return &store.Attempt{
					AttemptKey: key, ID: id, Operation: ledger.Unload, Amount: 100, Balance: uint32(o.init.Balance), MAC2: "00000000",
					Terminal: o.terminal.String(), Date: asked.Date, Time: asked.Time, AuditIndex: index, CreatedAt: p.clock,
				}
			})
			entries := []audit.Entry{{Event: "AuthorizeUnload", Time: p.clock, Outcome: string(result.Outcome)}}
			if !result.Unexplained.Empty() {
				entries = append(entries, audit.Entry{
					Event: audit.UnexplainedCounter, Time: p.clock, Outcome: "ALARM", Card: s.card.serial, Purse: s.purse.String(),
				})
			}
			return entries, nil
		},
	}))
	if result.Outcome == ledger.Approved {
		p.approved(&approval{id: id, shown: o, unload: true})
	}
	s.prove(o.counter())
	p.glance()
}

// deliver sends an approved command to the card; lost drops the card's answer, tear cuts its power at a step.
func (p *play) deliver(a *approval, lost bool, tear int) {
	s := a.shown.slot
	if a.unload {
		s.card.debit(a.shown.offer)
		p.glance()
		return
	}
	d, err := purse.ParseDate(a.moment.date)
	must(err)
	t, err := purse.ParseTime(a.moment.time)
	must(err)
	if tac, took := s.card.credit(d, t, purse.MAC(mustHex(a.mac2)), tear); took && !lost && tear == 0 {
		s.tacs = append(s.tacs, tac)
	}
	p.glance()
}

// confirm shows a TAC for a transaction.
func (p *play) confirm(a *approval, tac purse.MAC) {
	if a.unload {
		return // MAC3 is not yet shown to the signer
	}
	wanted := p.wantedOfTAC(a, tac)
	answer, err := p.node().ConfirmLoad(context.Background(), p.client, a.id, fmt.Sprintf("%X", tac[:]))
	must(err)
	switch answer.Outcome {
	case ledger.Contradiction:
		broke(noContradiction, "%s with TAC %X", a.id, tac)
	case ledger.Verified:
		a.shown.slot.prove(a.shown.counter() + 1)
	}
	p.compare(answer.Outcome, wanted, "ConfirmLoad")
	p.glance()
}

func (p *play) begin(s *slot) {
	answer, err := p.node().BeginSettlement(context.Background(), p.client, keySet, s.card.serial, "", s.purse)
	must(err)
	if p.locked(s.card) {
		if answer.Outcome != ledger.CardLocked {
			broke(lockStays, "a locked card began settlement %s", answer.ID)
		}
		return
	}
	if answer.Outcome != "" {
		p.compare(answer.Outcome, "", "BeginSettlement")
		return
	}
	for _, b := range s.settlements {
		b.dead = b.dead || b.outcome == ""
	}
	s.settlements = append(s.settlements, &begun{id: answer.ID, terminal: answer.TerminalID, expires: answer.ExpiresAt})
	p.glance()
}

// settle tries an answer, right or not, on a settlement.
func (p *play) settle(s *slot, b *begun, o *shown, wrong bool) {
	init := o.init
	if wrong {
		init.MAC1[0] ^= 0xFF
	}
	right := !wrong && o.slot == s && o.amount == 1 && o.terminal.String() == b.terminal
	sent := strings.ToUpper(fmt.Sprintf("%x", init.Bytes()))
	wanted := p.wantedOfTry(s, b, o, sent, right)
	locked := p.locked(s.card)
	answer, err := p.node().SettleLoad(context.Background(), p.client, b.id, sent)
	must(err)
	again := b.outcome != "" && sent == b.answer
	if b.outcome == "" && !b.dead {
		b.answer, b.outcome = sent, answer.Outcome
		if answer.Outcome == ledger.MACMismatch {
			p.failures[s.card]++
		}
	}
	if answer.Outcome == ledger.Verified && !again {
		switch {
		case locked:
			broke(lockStays, "a locked card settled %s", b.id)
		case o.counter() < s.proved:
			broke(nothingBelow, "%s settled at %04X, the card has proved %04X", b.id, o.counter(), s.proved)
		}
		s.prove(o.counter())
	}
	p.compare(answer.Outcome, wanted, "SettleLoad")
	p.check()
	for _, a := range s.approvals {
		if answer.Outcome == ledger.Verified && !again && p.attempts[a.id].State == store.Open {
			broke(settlesAll, "%s left %s open", b.id, a.id)
		}
	}
}

func (p *play) unlock(c *card) {
	_, err := p.node().UnlockCard(context.Background(), p.officer, keySet, c.serial, "", "seen at the counter")
	must(err)
	p.failures[c] = 0
}
