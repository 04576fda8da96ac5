package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// TACRequest is VerifyTac as the caller wrote it; the fields are those of the API. A nil pointer is a field left out.
type TACRequest struct {
	Ref            string
	KeySet         string
	CardSerial     string
	IssuerID       string
	KeyVersion     uint32
	Type           string
	AmountFen      uint64
	TerminalID     string
	TerminalSerial string
	Counter        string
	BalanceFen     *uint64
	OldLimitFen    *uint64
	NewLimitFen    *uint64
	Date, Time     string
	TAC            string
}

// Verification is what came of one TAC: VERIFIED, TAC_MISMATCH or KEY_NOT_ACTIVE.
type Verification struct {
	Ref        string
	Outcome    ledger.Outcome
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// tac is a TACRequest that was read: what the TAC covers, and the parts of it for the record.
type tac struct {
	card     card
	kver     int
	tti      purse.TTI
	amount   purse.Fen
	terminal purse.Terminal
	tsn      purse.TSN     // of the offline types
	counter  purse.Counter // of the online types, and so is balance
	balance  purse.Fen
	oldLimit purse.Limit // of an overdraft limit, and so is newLimit
	newLimit purse.Limit
	date     purse.Date
	time     purse.Time
	value    purse.MAC
	data     []byte // EPURSE.md §5: what the TAC of the type covers, without padding
}

// VerifyTac verifies one TAC by what it covers (EPURSE.md §5). It settles nothing: it does not look at what is recorded.
//
// Errors: as of AuthorizeLoad.
func (s *Signer) VerifyTac(ctx context.Context, caller policy.Caller, r TACRequest) (Verification, error) {
	return withKeys(ctx, s, func(s view) (Verification, error) {
		set, grant, err := s.permit(ctx, caller, policy.VerifyTac, r.KeySet, audit.Entry{KeySet: r.KeySet},
			s.asksOfType(r.KeySet, r.Type, r.AmountFen, r.TerminalID))
		if err != nil {
			return Verification{}, err
		}
		t, err := set.readTAC(&r)
		if err != nil {
			return Verification{}, err
		}
		v, err := s.verifyTAC(ctx, caller, grant, set, t)
		v.Ref = r.Ref
		return v, err
	})
}

// readTAC is the only reader of a TACRequest.
func (s *keySet) readTAC(r *TACRequest) (t tac, err error) {
	if t.card, err = s.parseCard(r.CardSerial, r.IssuerID); err != nil {
		return t, err
	}
	if r.KeyVersion < 1 || r.KeyVersion > maxKeyVersion {
		return t, keyVersionError(r.KeyVersion, 1)
	}
	t.kver = int(r.KeyVersion)
	if t.tti, err = purse.ParseTTI(r.Type); err != nil {
		return t, err
	}
	if err := r.checkFields(t.tti); err != nil {
		return t, err
	}
	if t.amount, err = purse.NewFen("amountFen", r.AmountFen); err != nil {
		return t, err
	}
	if t.terminal, err = purse.ParseTerminal(r.TerminalID); err != nil {
		return t, err
	}
	if t.date, err = purse.ParseDate(r.Date); err != nil {
		return t, err
	}
	if t.time, err = purse.ParseTime(r.Time); err != nil {
		return t, err
	}
	if t.value, err = purse.ParseMAC("tac", r.TAC); err != nil {
		return t, err
	}
	if t.tti.Offline() {
		return t, t.readPurchase(r)
	}
	return t, t.readOnline(r)
}

const maxKeyVersion = 255

func keyVersionError(got uint32, least int) error {
	return &purse.FieldError{Field: "keyVersion", Problem: fmt.Sprintf("is %d, expected %d to %d", got, least, maxKeyVersion)}
}

// checkFields refuses the fields that a type has no use for and misses those that it needs. An amount of 0 is one that a
// purchase has: a compound purchase that only opens a journey takes no money.
func (r *TACRequest) checkFields(tti purse.TTI) error {
	if tti == purse.TTIUnload {
		return &purse.FieldError{Field: "type", Problem: "03 is an unload, which has no TAC: its MAC3 proves it"}
	}
	offline, limits := tti.Offline(), tti == purse.TTIOverdraft
	for _, f := range [...]struct {
		name          string
		given, needed bool
	}{
		{"terminalSerial", r.TerminalSerial != "", offline},
		{"counter", r.Counter != "", !offline},
		{"balanceFen", r.BalanceFen != nil, !offline},
		{"oldLimitFen", r.OldLimitFen != nil, limits},
		{"newLimitFen", r.NewLimitFen != nil, limits},
		{"amountFen", r.AmountFen != 0 || offline, !limits},
	} {
		switch {
		case f.given && !f.needed:
			return &purse.FieldError{Field: f.name, Problem: fmt.Sprintf("has no place in type %v", tti)}
		case !f.given && f.needed:
			return &purse.FieldError{Field: f.name, Problem: fmt.Sprintf("missing: type %v needs it", tti)}
		}
	}
	return nil
}

// readPurchase reads what only a purchase, cash withdrawal or compound purchase has.
func (t *tac) readPurchase(r *TACRequest) (err error) {
	if t.tsn, err = purse.ParseTSN(r.TerminalSerial); err != nil {
		return err
	}
	p, err := purse.NewPurchase(purse.PurchaseInit{}, t.tti, t.tsn, t.amount, t.terminal)
	if err != nil {
		return err
	}
	t.data = p.TACData(t.date, t.time)
	return nil
}

// readOnline reads what only a load or a change of the overdraft limit has.
func (t *tac) readOnline(r *TACRequest) (err error) {
	if t.counter, err = purse.ParseCounter(r.Counter); err != nil {
		return err
	}
	if t.counter == purse.CounterExhausted {
		return &purse.FieldError{Field: "counter", Problem: "is FFFF, where the card's counter ends: it takes no further transaction"}
	}
	if t.balance, err = purse.NewFen("balanceFen", *r.BalanceFen); err != nil {
		return err
	}
	if t.tti == purse.TTIOverdraft {
		return t.readOverdraft(r)
	}
	which, _ := t.tti.Purse() // both types of load have one
	l, err := purse.NewLoad(purse.LoadInit{Balance: t.balance, Counter: t.counter}, which, t.amount, t.terminal)
	if err != nil {
		return renamed(err, "amount", "amountFen")
	}
	t.data = l.TACData(t.date, t.time)
	return nil
}

func (t *tac) readOverdraft(r *TACRequest) (err error) {
	if t.oldLimit, err = purse.NewLimit("oldLimitFen", *r.OldLimitFen); err != nil {
		return err
	}
	if t.newLimit, err = purse.NewLimit("newLimitFen", *r.NewLimitFen); err != nil {
		return err
	}
	init := purse.OverdraftInit{Balance: t.balance, Counter: t.counter, OldLimit: t.oldLimit}
	o, err := purse.NewOverdraft(init, t.newLimit, t.terminal)
	if err != nil {
		return renamed(err, "newLimit", "newLimitFen")
	}
	t.data = o.TACData(t.date, t.time)
	return nil
}

// renamed names a field of a card's layouts as the request has it.
func renamed(err error, layout, request string) error {
	var field *purse.FieldError
	if !errors.As(err, &field) || field.Field != layout {
		return err
	}
	other := *field
	other.Field = request
	return &other
}

// recorded is the part of an entry that the request fixes.
func (t *tac) recorded(set *keySet) audit.Entry {
	e := audit.Entry{
		KeySet: set.Name, Card: t.card.id,
		Inputs: audit.Inputs{
			KeyVersion: t.kver, Type: fmt.Sprintf("%02X", uint8(t.tti)), AmountFen: uint64(t.amount), Terminal: t.terminal.String(),
			Date: t.date.String(), Time: t.time.String(), TAC: upperHex(t.value[:]),
		},
	}
	if which, ok := t.tti.Purse(); ok {
		e.Purse = which.String()
	}
	if t.tti.Offline() {
		e.Inputs.TerminalSerial = t.tsn.String()
		return e
	}
	e.Inputs.Counter, e.Inputs.BalanceFen = t.counter.String(), uint64(t.balance)
	e.Inputs.OldLimitFen, e.Inputs.NewLimitFen = uint64(t.oldLimit), uint64(t.newLimit)
	return e
}

const detailNoTACKey = "no TAC key of this epoch may verify"

// verifyTAC is the operation behind the permission.
func (s view) verifyTAC(ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, t tac) (Verification, error) {
	if !grant.Allows(policy.VerifyTac, set.Name) {
		return Verification{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.VerifyTac, t.recorded(set))
	number := set.tacNumber(t.kver)
	key := set.version(keyderive.KindTAC, number)
	v := Verification{Outcome: ledger.KeyNotActive, Key: set.refusedKey(keyderive.KindTAC, number), Detail: detailNoTACKey}
	if key.For(policy.VerifyTac).Verifies() {
		right, err := t.verify(ctx, set.master(key, t.card))
		if err != nil {
			return Verification{}, err
		}
		v.Outcome, v.Detail = judgeTAC(key, right)
	}
	entry.Outcome, entry.Detail, entry.Key, entry.Boundary = string(v.Outcome), v.Detail, &v.Key.Key, v.Key.Boundary
	var failures watched
	failed := v.Outcome == ledger.TACMismatch
	if failed {
		failures = s.watch(policy.TACFailures, t.subject(set, entry), entry)
	}
	var alarms []audit.Event
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Totals: failures.named(failed), Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) (entries []audit.Entry, err error) {
			v.AuditIndex, alarms, entries = index, nil, []audit.Entry{entry}
			if failed {
				entries, alarms = failures.count(p, 1, entries, alarms)
			}
			return entries, nil
		},
	})
	if err != nil {
		return Verification{}, err
	}
	return v, nil
}

// subject is whose TAC it is.
func (t *tac) subject(set *keySet, entry audit.Entry) policy.Subject {
	return policy.Subject{
		Operation: policy.Operation(entry.Event), KeySet: set.Name, Client: entry.Client, Role: entry.Role, Card: t.card.id,
		Terminal: t.terminal.String(),
	}
}

// judgeTAC is the outcome of a TAC that was computed and compared.
func judgeTAC(key Version, right bool) (o ledger.Outcome, detail string) {
	switch {
	case !right:
		return ledger.TACMismatch, ""
	case key.For(policy.VerifyTac).Flagged():
		return ledger.Verified, detailCompromised
	}
	return ledger.Verified, ""
}

// verify computes the TAC that the card must have answered and compares it in constant time.
func (t *tac) verify(ctx context.Context, master keyderive.Master) (right bool, err error) {
	err = master.WithCard(ctx, t.card.factor, func(c keyderive.Card) error {
		k, err := c.TAC()
		if err != nil {
			return err
		}
		return k.Verify(t.data, t.value)
	})
	if errors.Is(err, keyderive.ErrMismatch) {
		return false, nil
	}
	return err == nil, err
}

// recordJudged writes one entry about what a card's MAC was found to be, although its caller may have left, and returns its index.
func (s view) recordJudged(ctx context.Context, e audit.Entry) (uint64, error) {
	ctx, cancel := judged(ctx)
	defer cancel()
	return s.recordAt(ctx, e)
}

// recordAt writes one entry and returns its index.
func (s view) recordAt(ctx context.Context, e audit.Entry) (at uint64, err error) {
	at64 := new(uint64) // not a result variable: after an early return the committing goroutine may still write it
	err = s.commit(ctx, store.Change{Decide: func(_ *store.Purse, index uint64) ([]audit.Entry, error) {
		*at64 = index
		return []audit.Entry{e}, nil
	}})
	if err != nil {
		return 0, err
	}
	return *at64, nil
}
