package signer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// LoadRequest is AuthorizeLoad as the caller wrote it; the fields are those of the API.
type LoadRequest struct {
	KeySet             string
	CardSerial         string
	IssuerID           string
	Purse              purse.Purse
	AmountFen          uint64
	TerminalID         string
	InitializeResponse string
	Date, Time         string
}

// Authorization is the answer to an authorisation.
type Authorization struct {
	Outcome       ledger.Outcome
	MAC2          string // only when APPROVED
	Command       string // CREDIT FOR LOAD, only when APPROVED
	TransactionID string
	Date, Time    string
	Key           KeyUsed
	AuditIndex    uint64
	Settled       []store.Proved
	Detail        string
}

// load is a LoadRequest that was read: every field well-formed, nothing decided.
type load struct {
	purse.Load
	set      *keySet
	card     card
	purse    purse.Purse
	init     purse.LoadInit
	amount   purse.Fen
	terminal purse.Terminal
	date     purse.Date
	time     purse.Time
	dated    bool // the caller gave date and time
}

// AuthorizeLoad verifies MAC1 of an INITIALIZE FOR LOAD answer and issues MAC2 (EPURSE.md §5.1; DESIGN, §3).
//
// Errors: *purse.FieldError for malformed input, *NotFoundError, *policy.Denied, and those of the token and the store, after
// which nothing was signed. Every other refusal is an Outcome.
func (s *Signer) AuthorizeLoad(ctx context.Context, caller policy.Caller, r LoadRequest) (Authorization, error) {
	set, grant, err := s.permit(ctx, caller, policy.AuthorizeLoad, r.KeySet, audit.Entry{KeySet: r.KeySet})
	if err != nil {
		return Authorization{}, err
	}
	l, err := s.readLoad(set, r)
	if err != nil {
		return Authorization{}, err
	}
	return s.authorizeLoad(ctx, caller, grant, l)
}

// readLoad is the only reader of a LoadRequest.
func (s *Signer) readLoad(set *keySet, r LoadRequest) (l load, err error) {
	l = load{set: set, purse: r.Purse}
	if l.card, err = set.parseCard(r.CardSerial, r.IssuerID); err != nil {
		return l, err
	}
	if !r.Purse.Valid() {
		return l, &purse.FieldError{Field: "purse", Problem: "missing, expected PURSE_ED or PURSE_EP"}
	}
	if l.amount, err = purse.NewFen("amountFen", r.AmountFen); err != nil {
		return l, err
	}
	if l.amount == 0 {
		return l, &purse.FieldError{Field: "amountFen", Problem: "is 0, expected 1 to 4294967295"}
	}
	if l.terminal, err = purse.ParseTerminal(r.TerminalID); err != nil {
		return l, err
	}
	if l.init, err = purse.ParseLoadInitHex(r.InitializeResponse); err != nil {
		return l, err
	}
	if err := set.acceptsALG(l.init.ALG); err != nil {
		return l, err
	}
	if l.amount > math.MaxUint32-l.init.Balance {
		return l, &purse.FieldError{
			Field: "amountFen", Problem: fmt.Sprintf("%d and the card's balance %d are together over four bytes", l.amount, l.init.Balance),
		}
	}
	if l.Load, err = purse.NewLoad(l.init, l.purse, l.amount, l.terminal); err != nil {
		return l, err
	}
	l.date, l.time, l.dated, err = s.moment(set, r.Date, r.Time)
	return l, err
}

// moment reads a date and time, both or neither; the signer's clock in the key set's time zone fills them.
func (s *Signer) moment(set *keySet, date, clock string) (d purse.Date, t purse.Time, given bool, err error) {
	switch {
	case date == "" && clock == "":
		d, t, err = purse.DateTime(s.now().In(set.Location))
		return d, t, false, err
	case date == "":
		return d, t, false, &purse.FieldError{Field: "date", Problem: "missing: date and time come together or not at all"}
	case clock == "":
		return d, t, false, &purse.FieldError{Field: "time", Problem: "missing: date and time come together or not at all"}
	}
	if d, err = purse.ParseDate(date); err != nil {
		return d, t, false, err
	}
	t, err = purse.ParseTime(clock)
	return d, t, true, err
}

func (s *keySet) acceptsALG(alg purse.ALG) error {
	if s.Profile.AcceptsALG(alg) {
		return nil
	}
	return &purse.FieldError{Field: "initializeResponse", Problem: "ALG is not one that the card profile lists"}
}

// authorizeLoad is the operation behind the permission.
func (s *Signer) authorizeLoad(ctx context.Context, caller policy.Caller, grant policy.Grant, l load) (Authorization, error) {
	if !grant.Allows(policy.AuthorizeLoad, l.set.Name) {
		return Authorization{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.AuthorizeLoad, l.recorded())
	key := l.set.version(keyderive.KindLoad, int(l.init.KVER))
	if !key.State.Signs() {
		return s.refuse(ctx, entry, l.set.refusedKey(keyderive.KindLoad, int(l.init.KVER)), "no active load key has the card's KVER")
	}
	used := l.set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary

	mac2, err := l.answer(ctx, key)
	if errors.Is(err, keyderive.ErrMismatch) {
		return s.mac1Failed(ctx, l, entry, used)
	}
	if err != nil {
		return Authorization{}, err
	}
	return s.commitLoad(ctx, grant, l, entry, used, mac2)
}

// answer verifies MAC1 and computes MAC2, on the token as far as the key's boundary says. MAC2 is four bytes in ordinary
// memory from here on: it is no secret, but it does not leave before it is recorded.
func (l load) answer(ctx context.Context, key Version) (purse.MAC, error) {
	result := new(purse.MAC) // not a result variable: after an early return the loan may still write it
	err := l.set.master(key, l.card).WithCard(ctx, l.card.factor, func(c keyderive.Card) error {
		session, err := c.Session(l.SessionInput())
		if err != nil {
			return err
		}
		*result, err = session.Answer(l.MAC1Data(), l.MAC1(), l.MAC2Data(l.date, l.time))
		return err
	})
	if err != nil {
		return purse.MAC{}, err
	}
	return *result, nil
}

// commitLoad is step 5 of DESIGN, §3: the decision, the attempt and the entry in one transaction; only then MAC2 leaves.
func (s *Signer) commitLoad(ctx context.Context, grant policy.Grant, l load, entry audit.Entry, used KeyUsed, mac2 purse.MAC) (
	Authorization, error,
) {
	asked := l.asked()
	var refusal ledger.Outcome
	if ceiling, ok := grant.Ceiling(); ok && uint64(l.amount) > ceiling {
		refusal = ledger.LimitExceeded
	}
	attempt := l.attempt(used, mac2)
	attempt.CreatedAt = entry.Time
	var answer Authorization
	var alarms []audit.Event
	err := s.store.Commit(ctx, store.Change{
		Purse: l.purseKey(), Counters: []int{asked.Counter}, Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			alarms = nil
			if p.Card.Locked {
				answer = Authorization{Outcome: ledger.CardLocked, Key: used, AuditIndex: index, Detail: detailLocked}
				return []audit.Entry{refused(entry, answer)}, nil
			}
			fresh := func() *store.Attempt {
				made := *attempt
				made.AuditIndex = index
				return &made
			}
			result := s.ledger.Authorize(p, asked, refusal, fresh)
			answer = l.authorization(result, used, index)
			if result.Recorded && result.Outcome != ledger.CounterConflict {
				return nil, nil // the recorded answer again: its entry is there
			}
			var entries []audit.Entry
			entries, alarms = authorizationEntries(entry, answer, result)
			return entries, nil
		},
	})
	if err != nil {
		return Authorization{}, err
	}
	if answer.Outcome == ledger.Approved {
		return l.withCommand(answer)
	}
	return answer, nil
}

const detailLocked = "repeated wrong MAC1s locked this card; an officer must lift the lock"

// mac1Failed counts and records a wrong MAC1: no MAC2 was computed.
func (s *Signer) mac1Failed(ctx context.Context, l load, entry audit.Entry, used KeyUsed) (Authorization, error) {
	var answer Authorization
	var alarms []audit.Event
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.store.Commit(ctx, store.Change{
		Purse: l.purseKey(), Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			answer = Authorization{Outcome: ledger.MACMismatch, Key: used, AuditIndex: index}
			alarms = nil
			if p.Card.Locked {
				answer.Outcome, answer.Detail = ledger.CardLocked, detailLocked
				return []audit.Entry{refused(entry, answer)}, nil
			}
			entries := []audit.Entry{refused(entry, answer)}
			if s.ledger.MAC1Failed(p, l.set.MAC1Failures) {
				alarms = []audit.Event{audit.CardLocked}
				entries = append(entries, alarmEntry(entry, audit.CardLocked, detailLocked))
			}
			return entries, nil
		},
	})
	if err != nil {
		return Authorization{}, err
	}
	return answer, nil
}

// refuse records that no key may do what was asked: neither token nor purse was touched.
func (s *Signer) refuse(ctx context.Context, entry audit.Entry, key KeyUsed, detail string) (Authorization, error) {
	answer := Authorization{Outcome: ledger.KeyNotActive, Key: key, Detail: detail}
	entry.Key, entry.Boundary = &key.Key, key.Boundary
	err := s.store.Commit(ctx, store.Change{Decide: func(_ *store.Purse, index uint64) ([]audit.Entry, error) {
		answer.AuditIndex = index
		return []audit.Entry{refused(entry, answer)}, nil
	}})
	if err != nil {
		return Authorization{}, err
	}
	return answer, nil
}

// judged detaches a commit from its caller's deadline: what a card's MAC was found to be is counted and recorded although the
// caller leaves, or guesses would be free to whoever hangs up first.
func judged(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), judgementTime)
}

// judgementTime bounds a detached commit.
const judgementTime = 5 * time.Second

// raise runs on the store's committing goroutine, once an alarm's entry is durable.
func (s *Signer) raise(alarms []audit.Event) {
	for _, a := range alarms {
		s.alarm(a)
	}
}

func (l load) purseKey() store.PurseKey {
	return store.PurseKey{KeySet: l.set.Name, Card: l.card.id, Purse: l.purse.String()}
}

// asked is the request as the ledger compares it.
func (l load) asked() ledger.Answer {
	a := ledger.Answer{
		Operation: ledger.Load, Counter: int(l.init.Counter), Random: l.init.Random.String(),
		Amount: uint32(l.amount), Terminal: l.terminal.String(),
	}
	if l.dated {
		a.Date, a.Time = l.date.String(), l.time.String()
	}
	return a
}

func (l load) transaction() transaction {
	return transaction{
		purse: l.purseKey(), operation: ledger.Load,
		key: store.AttemptKey{Counter: int(l.init.Counter), Random: l.init.Random.String()},
	}
}

// attempt is what step 5 records, but for its audit index.
func (l load) attempt(used KeyUsed, mac2 purse.MAC) *store.Attempt {
	t := l.transaction()
	a := &store.Attempt{
		AttemptKey: t.key, ID: t.String(), Operation: t.operation,
		Amount: uint32(l.amount), Balance: uint32(l.init.Balance), Terminal: l.terminal.String(),
		Date: l.date.String(), Time: l.time.String(),
		KeyVersion: used.Version, KCV: used.KCV, Boundary: used.Boundary, MAC2: upperHex(mac2[:]),
	}
	if l.set.Issuer.FromCard {
		a.IssuerID = l.card.issuer.String()
	}
	return a
}

// recorded is the part of an entry that the request fixes.
func (l load) recorded() audit.Entry {
	return audit.Entry{
		KeySet: l.set.Name, Card: l.card.id, Purse: l.purse.String(), Transaction: l.transaction().String(),
		Inputs: audit.Inputs{
			Initialize: upperHex(l.init.Bytes()), AmountFen: uint64(l.amount), Terminal: l.terminal.String(),
			Date: l.date.String(), Time: l.time.String(),
		},
	}
}

// authorization turns the ledger's result into the answer; a recorded attempt answers with what is recorded.
func (l load) authorization(r ledger.Result, used KeyUsed, index uint64) Authorization {
	a := Authorization{Outcome: r.Outcome, Key: used, AuditIndex: index, Settled: r.Settled, Detail: r.Reason}
	if r.Attempt == nil {
		return a
	}
	a.Date, a.Time = r.Attempt.Date, r.Attempt.Time
	if r.Outcome == ledger.CounterConflict {
		return a
	}
	a.TransactionID = r.Attempt.ID
	a.AuditIndex = r.Attempt.AuditIndex
	if r.Outcome == ledger.Approved {
		a.MAC2 = r.Attempt.MAC2
	}
	return a
}

// withCommand adds CREDIT FOR LOAD to an approved answer.
func (l load) withCommand(a Authorization) (Authorization, error) {
	mac2, err := purse.ParseMAC("mac2", a.MAC2)
	if err != nil {
		return Authorization{}, err
	}
	d, err := purse.ParseDate(a.Date)
	if err != nil {
		return Authorization{}, err
	}
	t, err := purse.ParseTime(a.Time)
	if err != nil {
		return Authorization{}, err
	}
	a.Command = strings.ToUpper(purse.CreditForLoad(l.set.Profile, d, t, mac2).Hex())
	return a, nil
}
