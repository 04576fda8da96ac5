package signer

import (
	"context"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// PurchaseRequest is BeginPurchase as the caller wrote it; the fields are those of the API.
type PurchaseRequest struct {
	KeySet             string
	CardSerial         string
	IssuerID           string
	Type               string // TTI, two hex digits
	AmountFen          uint64
	TerminalID         string
	InitializeResponse string
	Date, Time         string
}

// Bargain is the answer to BeginPurchase.
type Bargain struct {
	Outcome        ledger.Outcome
	TerminalSerial string // TSN, only when APPROVED
	MAC1           string // only when APPROVED
	Command        string // DEBIT FOR PURCHASE, only when APPROVED
	PurchaseID     string
	Date, Time     string
	Key            KeyUsed
	AuditIndex     uint64
	Detail         string
}

// sale is a PurchaseRequest that was read: every field well-formed, nothing decided.
type sale struct {
	set      *keySet
	client   string // who asks
	card     card
	purse    purse.Purse
	tti      purse.TTI
	init     purse.PurchaseInit
	amount   purse.Fen
	terminal purse.Terminal
	date     purse.Date
	time     purse.Time
	dated    bool // the caller gave date and time
}

// saleOperations are the words that purchase ids carry, by type.
var saleOperations = map[purse.TTI]string{
	purse.TTICashWithdrawal: ledger.Cash, purse.TTIPurchaseED: ledger.Purchase, purse.TTIPurchaseEP: ledger.Purchase,
	purse.TTICompound: ledger.Compound,
}

// BeginPurchase is what a terminal's secure module does on INIT_SAM_FOR_PURCHASE (EPURSE.md §5.2, §7): it takes the terminal's
// next serial number, which never repeats, and makes MAC1. The same request again gets the same answer.
//
// Errors: *purse.FieldError for malformed input, *NotFoundError, *policy.Denied, and those of the token and the store, after
// which no MAC1 has left. Every other refusal is an Outcome.
func (s *Signer) BeginPurchase(ctx context.Context, caller policy.Caller, r PurchaseRequest) (Bargain, error) {
	return withKeys(ctx, s, func(s view) (Bargain, error) {
		set, grant, err := s.permit(ctx, caller, policy.BeginPurchase, r.KeySet, audit.Entry{KeySet: r.KeySet},
			s.asksOfType(r.KeySet, r.Type, r.AmountFen, r.TerminalID))
		if err != nil {
			return Bargain{}, err
		}
		q, err := s.readSale(set, r)
		if err != nil {
			return Bargain{}, err
		}
		q.client = caller.Name()
		return s.beginPurchase(ctx, caller, grant, q)
	})
}

// readSale is the only reader of a PurchaseRequest.
func (s view) readSale(set *keySet, r PurchaseRequest) (q sale, err error) {
	q = sale{set: set}
	if q.card, err = set.parseCard(r.CardSerial, r.IssuerID); err != nil {
		return q, err
	}
	if q.tti, err = purse.ParseTTI(r.Type); err != nil {
		return q, err
	}
	if !q.tti.Offline() {
		return q, &purse.FieldError{Field: "type", Problem: fmt.Sprintf("%v, expected 04, 05, 06 or 09", q.tti)}
	}
	q.purse, _ = q.tti.Purse() // each of the four has one
	if q.amount, err = purse.NewFen("amountFen", r.AmountFen); err != nil {
		return q, err
	}
	if q.terminal, err = purse.ParseTerminal(r.TerminalID); err != nil {
		return q, err
	}
	if q.init, err = purse.ParsePurchaseInitHex(r.InitializeResponse); err != nil {
		return q, err
	}
	if err := set.acceptsALG(q.init.ALG); err != nil {
		return q, err
	}
	if err := usable("OFFSN", q.init.Counter); err != nil {
		return q, err
	}
	if q.amount == 0 || q.amount > q.init.Balance {
		return q, &purse.FieldError{
			Field: "amountFen", Problem: fmt.Sprintf("is %d, expected 1 to the card's balance, %d", q.amount, q.init.Balance),
		}
	}
	q.date, q.time, q.dated, err = s.moment(set, r.Date, r.Time)
	return q, err
}

// beginPurchase is the operation behind the permission: the serial number first, in a transaction of its own, so that it is taken
// for good before anything is computed with it; then MAC1; then the purchase, and only when it is durable MAC1 leaves.
func (s view) beginPurchase(ctx context.Context, caller policy.Caller, grant policy.Grant, q sale) (Bargain, error) {
	if !grant.Allows(policy.BeginPurchase, q.set.Name) {
		return Bargain{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.BeginPurchase, q.recorded())
	key := q.set.version(keyderive.KindPurchase, int(q.init.KVER))
	if !key.For(policy.BeginPurchase).Signs() {
		refused := q.set.refusedKey(keyderive.KindPurchase, int(q.init.KVER))
		a, err := s.refuse(ctx, entry, refused, "no active purchase key has the card's KVER")
		return Bargain{Outcome: a.Outcome, Key: a.Key, AuditIndex: a.AuditIndex, Detail: a.Detail}, err
	}
	used := q.set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary

	tsn, answer, err := s.takeSerial(ctx, grant, q, entry, used)
	if err != nil || tsn == 0 {
		return answer, err
	}
	mac1, err := q.mac1(ctx, key, tsn)
	if err != nil {
		return Bargain{}, err
	}
	return s.commitSale(ctx, q, entry, used, tsn, mac1)
}

// takeSerial gives the terminal's next serial number, or, with 0, the answer that needs none: what is recorded, or a refusal.
func (s view) takeSerial(ctx context.Context, grant policy.Grant, q sale, entry audit.Entry, used KeyUsed) (purse.TSN, Bargain, error) {
	plan := q.limits(grant, entry)
	var tsn purse.TSN
	var answer Bargain // not result variables: after an early return the store may still write them
	change := q.change(func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		tsn, answer = 0, Bargain{}
		if result, ok := s.ledger.RecordedPurchase(p, q.asked()); ok {
			answer = bargain(result, used, index)
			return saleEntries(entry, answer, result), nil
		}
		if detail := plan.Judge(p); detail != "" {
			answer = Bargain{Outcome: ledger.LimitExceeded, Key: used, AuditIndex: index, Detail: detail}
			return saleEntries(entry, answer, ledger.Bought{}), nil
		}
		next, ok := p.Terminal().Next()
		if !ok {
			answer = Bargain{
				Outcome: ledger.TerminalExhausted, Key: used, AuditIndex: index, Detail: "the terminal has used its last serial number",
			}
			return saleEntries(entry, answer, ledger.Bought{}), nil
		}
		tsn = purse.TSN(next)
		return nil, nil
	})
	change.Terminal = store.TerminalKey{KeySet: q.set.Name, Terminal: q.terminal.String()}
	if err := s.commit(ctx, change); err != nil {
		return 0, Bargain{}, err
	}
	if tsn != 0 {
		return tsn, Bargain{}, nil
	}
	recorded, err := q.withCommand(answer)
	return 0, recorded, err
}

// mac1 computes MAC1, on the token as far as the key's boundary says.
func (q sale) mac1(ctx context.Context, key Version, tsn purse.TSN) (purse.MAC, error) {
	p, err := purse.NewPurchase(q.init, q.tti, tsn, q.amount, q.terminal)
	if err != nil {
		return purse.MAC{}, err
	}
	result := new(purse.MAC) // not a result variable: after an early return the loan may still write it
	err = q.set.master(key, q.card).WithCard(ctx, q.card.factor, func(c keyderive.Card) error {
		session, err := c.Session(p.SessionInput())
		if err != nil {
			return err
		}
		*result, err = session.MAC(p.MAC1Data(q.date, q.time))
		return err
	})
	if err != nil {
		return purse.MAC{}, err
	}
	return *result, nil
}

// commitSale records the purchase and its entry in one transaction; only then MAC1 leaves. When the same request was recorded
// meanwhile, its answer is the one: tsn stays unused, and mac1 is dropped.
func (s view) commitSale(ctx context.Context, q sale, entry audit.Entry, used KeyUsed, tsn purse.TSN, mac1 purse.MAC) (Bargain, error) {
	var answer Bargain
	err := s.commit(ctx, q.change(func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		made := q.made(used, tsn, mac1)
		made.AuditIndex, made.CreatedAt = index, entry.Time
		result := s.ledger.BeginPurchase(p, q.asked(), made)
		answer = bargain(result, used, index)
		return saleEntries(entry, answer, result), nil
	}))
	if err != nil {
		return Bargain{}, err
	}
	return q.withCommand(answer)
}

// saleEntries is the entry of a decision: none when the answer is the recorded one, whose entry is there.
func saleEntries(e audit.Entry, a Bargain, r ledger.Bought) []audit.Entry {
	if r.Recorded && a.Outcome == ledger.Approved {
		return nil
	}
	e.Outcome, e.Detail, e.MAC1 = string(a.Outcome), a.Detail, a.MAC1
	e.Inputs.TerminalSerial = a.TerminalSerial
	return []audit.Entry{e}
}

// bargain turns the ledger's result into the answer.
func bargain(r ledger.Bought, used KeyUsed, index uint64) Bargain {
	a := Bargain{
		Outcome: r.Outcome, Key: used, AuditIndex: index, Detail: r.Reason, Date: r.Purchase.Date, Time: r.Purchase.Time,
	}
	if r.Outcome != ledger.Approved {
		return a
	}
	a.PurchaseID, a.AuditIndex = r.Purchase.ID, r.Purchase.AuditIndex
	a.MAC1, a.TerminalSerial = r.Purchase.MAC1, purse.TSN(r.Purchase.Serial).String()
	return a
}

// withCommand adds DEBIT FOR PURCHASE to an approved answer.
func (q sale) withCommand(a Bargain) (Bargain, error) {
	if a.Outcome != ledger.Approved {
		return a, nil
	}
	tsn, err := purse.ParseTSN(a.TerminalSerial)
	if err != nil {
		return Bargain{}, err
	}
	mac1, err := purse.ParseMAC("mac1", a.MAC1)
	if err != nil {
		return Bargain{}, err
	}
	d, err := purse.ParseDate(a.Date)
	if err != nil {
		return Bargain{}, err
	}
	t, err := purse.ParseTime(a.Time)
	if err != nil {
		return Bargain{}, err
	}
	p, err := purse.NewPurchase(q.init, q.tti, tsn, q.amount, q.terminal)
	if err != nil {
		return Bargain{}, err
	}
	a.Command = strings.ToUpper(p.Debit(q.set.Profile, d, t, mac1).Hex())
	return a, nil
}

func (q sale) change(decide func(*store.Purse, uint64) ([]audit.Entry, error)) store.Change {
	return store.Change{Purse: cardPlace(q.purseKey()), Purchase: q.key(), Decide: decide}
}

func (q sale) purseKey() store.PurseKey {
	return store.PurseKey{KeySet: q.set.Name, Card: q.card.id, Purse: q.purse.String()}
}

// cardPlace is where a purchase is recorded: at its card, not its purse. What the card answers to INITIALIZE names no purse, its MAC2
// covers none, and SESPK comes of R and OFFSN: one answer must not make a purchase of each purse.
func cardPlace(at store.PurseKey) store.PurseKey {
	at.Purse = ""
	return at
}

func (q sale) key() *store.AttemptKey {
	return &store.AttemptKey{Counter: int(q.init.Counter), Random: q.init.Random.String()}
}

func (q sale) id() string {
	return transaction{purse: q.purseKey(), operation: saleOperations[q.tti], key: *q.key()}.String()
}

// asked is the request as the ledger compares it.
func (q sale) asked() ledger.Bargain {
	b := ledger.Bargain{
		Type: fmt.Sprintf("%02X", uint8(q.tti)), Amount: uint32(q.amount), Initialize: upperHex(q.init.Bytes()),
		Terminal: q.terminal.String(),
	}
	if q.dated {
		b.Date, b.Time = q.date.String(), q.time.String()
	}
	return b
}

// made is the purchase as it is recorded, but for its index.
func (q sale) made(used KeyUsed, tsn purse.TSN, mac1 purse.MAC) *store.Purchase {
	b := q.asked()
	return &store.Purchase{
		AttemptKey: *q.key(), ID: q.id(), Client: q.client, Type: b.Type, Amount: b.Amount, Initialize: b.Initialize, Terminal: b.Terminal,
		Serial: uint32(tsn), Date: q.date.String(), Time: q.time.String(), KeyVersion: used.Version, KCV: used.KCV,
		Boundary: used.Boundary, MAC1: upperHex(mac1[:]),
	}
}

func (q sale) recorded() audit.Entry {
	b := q.asked()
	return audit.Entry{
		KeySet: q.set.Name, Card: q.card.id, Purse: q.purse.String(), Transaction: q.id(),
		Inputs: audit.Inputs{
			Type: b.Type, Initialize: b.Initialize, AmountFen: uint64(q.amount), Terminal: b.Terminal,
			Date: q.date.String(), Time: q.time.String(),
		},
	}
}
