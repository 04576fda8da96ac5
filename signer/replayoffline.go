package signer

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// takesNoMore reports whether a value was refused without regard to whether it is right.
func takesNoMore(e audit.Entry) bool { return strings.HasSuffix(e.Detail, ledger.NoMoreValues) }

// recordedTAC reads a TAC's entry as its request was read.
func (s *keySet) recordedTAC(e audit.Entry) (tac, error) {
	serial, issuer := CardOf(e.Card)
	in := e.Inputs
	r := TACRequest{
		KeySet: s.Name, CardSerial: serial, IssuerID: issuer, KeyVersion: uint32(max(in.KeyVersion, 0)), Type: in.Type, AmountFen: in.AmountFen,
		TerminalID: in.Terminal, TerminalSerial: in.TerminalSerial, Counter: in.Counter, Date: in.Date, Time: in.Time, TAC: in.TAC,
	}
	tti, err := purse.ParseTTI(in.Type)
	if err != nil {
		return tac{}, err
	}
	if !tti.Offline() || in.BalanceFen != 0 {
		r.BalanceFen = &in.BalanceFen
	}
	if tti == purse.TTIOverdraft || in.OldLimitFen != 0 || in.NewLimitFen != 0 {
		r.OldLimitFen, r.NewLimitFen = &in.OldLimitFen, &in.NewLimitFen
	}
	return s.readTAC(&r)
}

// compareTAC compares the TAC of VerifyTac, or of an item of VerifyTacs, with what was said of it.
func (s view) compareTAC(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	t, err := set.recordedTAC(e)
	if err != nil {
		return differs(differsInputs), nil
	}
	if e.Key == nil {
		return differs(differsKey), nil
	}
	key, f, ok := set.recordedKey(e.Key, keyderive.KindTAC, e.Key.Version)
	if !ok {
		return f, nil
	}
	right := e.Outcome == string(ledger.Verified)
	if !right && e.Outcome != string(ledger.TACMismatch) {
		return differs(differsOutcome), nil
	}
	got, err := t.verify(ctx, set.master(key, t.card))
	if err != nil {
		return finding{}, err
	}
	if got != right {
		return differs(differsTAC), nil
	}
	return equal, nil
}

// compareCommand makes a recorded command again and compares. One with a PIN is not in the record.
func (s view) compareCommand(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	if e.Outcome != string(ledger.Approved) {
		return differs(differsOutcome), nil
	}
	what := Command(0)
	for c := CardBlock; c <= UpdateRecord; c++ {
		if c.String() == e.Inputs.Command {
			what = c
		}
	}
	if what == 0 {
		return differs(differsInputs), nil
	}
	if (&CommandRequest{Command: what}).needsPIN(set.Profile) {
		if e.Command != "" {
			return differs(differsCommand), nil
		}
		return blind(blindPIN), nil
	}
	recorded, err := hex.DecodeString(e.Command)
	if err != nil || len(recorded) < 4 || e.Key == nil {
		return differs(differsCommand), nil
	}
	serial, issuer := CardOf(e.Card)
	r := CommandRequest{
		KeySet: set.Name, CardSerial: serial, IssuerID: issuer, KeyVersion: uint32(max(e.Key.Version, 0)), Command: what,
		Challenge: e.Inputs.Challenge, Data: e.Inputs.Data,
	}
	switch p1, p2 := upperHex(recorded[2:3]), upperHex(recorded[3:4]); what {
	case UpdateBinary, UpdateRecord:
		r.P1, r.P2 = p1, p2
	case ApplicationBlock:
		r.Permanent = p2 == "01"
	}
	c, err := set.readCommand(r)
	if err != nil {
		return differs(differsInputs), nil
	}
	key, f, ok := set.recordedKey(e.Key, c.kind, e.Key.Version)
	if !ok {
		return f, nil
	}
	made, err := c.make(ctx, set, key)
	if err != nil {
		return finding{}, err
	}
	defer clear(made.Data)
	if !sameText(made.Hex(), e.Command) {
		return differs(differsCommand), nil
	}
	return equal, nil
}

// compareAuthentication makes a recorded cryptogram again and compares.
func (s view) compareAuthentication(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	serial, issuer := CardOf(e.Card)
	if e.Key == nil {
		return differs(differsKey), nil
	}
	r := AuthenticateRequest{
		KeySet: set.Name, CardSerial: serial, IssuerID: issuer, KeyVersion: uint32(max(e.Key.Version, 0)), KeyID: e.Inputs.KeyID,
		Challenge: e.Inputs.Challenge, Cryptogram: e.Inputs.Cryptogram,
	}
	for _, d := range []Direction{External, Internal} {
		if d.name() == e.Inputs.Command {
			r.Direction = d
		}
	}
	a, err := set.readAuthentication(r)
	if err != nil {
		return differs(differsInputs), nil
	}
	key, f, ok := set.recordedKey(e.Key, a.direction.kind(), e.Key.Version)
	if !ok {
		return f, nil
	}
	switch o := ledger.Outcome(e.Outcome); {
	case a.direction == External && o == ledger.Approved, a.direction == Internal && (o == ledger.Verified || o == ledger.MACMismatch):
	default:
		return differs(differsOutcome), nil
	}
	again, err := a.answer(ctx, set, key)
	if err != nil {
		return finding{}, err
	}
	if string(again.Outcome) != e.Outcome || !sameText(again.Command, e.Command) {
		return differs(differsCryptogram), nil
	}
	return equal, nil
}

// comparePersonalisation compares which keys were written. The commands are not in the record: they are keys.
func (s view) comparePersonalisation(_ context.Context, set *keySet, e audit.Entry) (finding, error) {
	if e.Outcome != string(ledger.Approved) || len(e.Writes) == 0 {
		return differs(differsOutcome), nil
	}
	f := noMAC // a plan signed nothing
	for _, w := range e.Writes {
		kind, err := keyderive.ParseKind(w.Key.Kind)
		if err != nil {
			return differs(differsKey), nil
		}
		if _, f, ok := set.recordedKey(&w.Key, kind, w.Key.Version); !ok {
			return f, nil
		}
		if w.Challenge != "" {
			f = blind(blindKeyWrite)
		}
	}
	return f, nil
}

// recordedSale reads the entry of a purchase's beginning as its request was read; the serial number is beside it.
func (s view) recordedSale(set *keySet, e audit.Entry) (q sale, p purse.Purchase, err error) {
	serial, issuer := CardOf(e.Card)
	in := e.Inputs
	if in.Date == "" || in.Time == "" {
		return q, p, &purse.FieldError{Field: "date", Problem: "missing"}
	}
	q, err = s.readSale(set, PurchaseRequest{set.Name, serial, issuer, in.Type, in.AmountFen, in.Terminal, in.Initialize, in.Date, in.Time})
	if err != nil {
		return q, p, err
	}
	tsn, err := purse.ParseTSN(in.TerminalSerial)
	if err != nil {
		return q, p, err
	}
	p, err = purse.NewPurchase(q.init, q.tti, tsn, q.amount, q.terminal)
	return q, p, err
}

// compareSale compares an issued MAC1. A refusal has none.
func (s view) compareSale(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	switch ledger.Outcome(e.Outcome) {
	case ledger.Approved:
	case ledger.CounterConflict, ledger.LimitExceeded, ledger.TerminalExhausted:
		if e.MAC1 != "" {
			return differs(differsMAC1), nil
		}
		return noMAC, nil
	default:
		return differs(differsOutcome), nil
	}
	q, p, err := s.recordedSale(set, e)
	if err != nil {
		return differs(differsInputs), nil
	}
	if q.id() != e.Transaction {
		return differs(differsTransaction), nil
	}
	mac1, err := purse.ParseMAC("mac1", e.MAC1)
	if err != nil {
		return differs(differsMAC1), nil
	}
	key, f, ok := set.recordedKey(e.Key, keyderive.KindPurchase, int(q.init.KVER))
	if !ok {
		return f, nil
	}
	err = set.master(key, q.card).WithCard(ctx, q.card.factor, func(c keyderive.Card) error {
		session, err := c.Session(p.SessionInput())
		if err != nil {
			return err
		}
		return session.Verify(p.MAC1Data(q.date, q.time), mac1)
	})
	return judgedAs(err, true, differsMAC1)
}

// compareReceipt compares MAC2, and a TAC, over what the entry of the purchase's beginning says, with what was said of them.
func (s view) compareReceipt(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	r, f, err := s.recordedReceipt(ctx, set, e)
	if err != nil || f != equal {
		return f, err
	}
	key, f, ok := set.recordedKey(e.Key, keyderive.KindPurchase, r.recorded.KeyVersion)
	if !ok {
		return f, nil
	}
	var tacKey Version
	if r.taced {
		if e.TACKey == nil {
			return differs(differsKey), nil
		}
		if tacKey, f, ok = set.recordedKey(e.TACKey, keyderive.KindTAC, e.TACKey.Version); !ok {
			return f, nil
		}
	}
	outcome := ledger.Outcome(e.Outcome)
	switch {
	case takesNoMore(e):
		return blind(blindNoMore), nil
	case outcome == ledger.MACMismatch:
		return judgedAs(r.verifyMAC2(ctx, key), false, differsMAC2)
	case outcome != ledger.Verified && (outcome != ledger.TACMismatch || !r.taced):
		return differs(differsOutcome), nil
	}
	if f, err = judgedAs(r.verifyMAC2(ctx, key), true, differsMAC2); err != nil || f != equal || !r.taced {
		return f, err
	}
	return judgedAs(r.verifyTAC(ctx, tacKey), outcome == ledger.Verified, differsTAC)
}

// recordedReceipt is the purchase that a receipt's entry is about, as the entry of its beginning has it.
func (s view) recordedReceipt(ctx context.Context, set *keySet, e audit.Entry) (r receipt, f finding, err error) {
	id, err := parseRecorded(purchaseField, purchaseOperations, e.Transaction)
	if err != nil || id.purse.KeySet != set.Name || id.purse.Card != e.Card || id.purse.Purse != e.Purse {
		return r, differs(differsTransaction), nil
	}
	r = receipt{set: set, id: id, taced: e.Inputs.TAC != ""}
	if r.mac2, err = purse.ParseMAC("mac2", e.Inputs.MAC2); err != nil {
		return r, differs(differsInputs), nil
	}
	if r.taced {
		if r.tac, err = purse.ParseMAC("tac", e.Inputs.TAC); err != nil {
			return r, differs(differsInputs), nil
		}
	}
	row, err := s.store.Purchase(ctx, cardPlace(id.purse), id.key)
	if errors.Is(err, store.ErrNotFound) {
		return r, differs(differsTransaction), nil
	}
	if err != nil {
		return r, f, err
	}
	began, ok, err := s.begun(ctx, row.AuditIndex, "BeginPurchase", e.Transaction)
	if err != nil {
		return r, f, err
	}
	if !ok {
		return r, differs(differsTransaction), nil
	}
	q, p, err := s.recordedSale(set, began)
	if err != nil || q.id() != e.Transaction {
		return r, differs(differsTransaction), nil
	}
	r.Purchase = p
	r.recorded = store.Purchase{KeyVersion: int(q.init.KVER), Date: q.date.String(), Time: q.time.String()}
	return r, equal, nil
}
