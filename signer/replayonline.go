package signer

import (
	"context"
	"errors"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// recordedOnline reads an authorisation's entry as its request was read. An error says that the inputs are not what the event says.
func (s view) recordedOnline(kind onlineKind, set *keySet, e audit.Entry) (online, error) {
	serial, issuer := CardOf(e.Card)
	which, err := purse.ParsePurse(e.Purse)
	if err != nil {
		return online{}, err
	}
	if e.Inputs.Date == "" || e.Inputs.Time == "" {
		return online{}, &purse.FieldError{Field: "date", Problem: "missing"} // the clock of today fills none in
	}
	in := e.Inputs
	switch kind.operation {
	case ledger.Unload:
		return s.readUnload(set, UnloadRequest{set.Name, serial, issuer, which, in.AmountFen, in.Terminal, in.Initialize, in.Date, in.Time})
	case ledger.Overdraft:
		return s.readOverdraft(set, OverdraftRequest{set.Name, serial, issuer, &in.AmountFen, in.Terminal, in.Initialize, in.Date, in.Time})
	}
	return s.readLoad(set, LoadRequest{set.Name, serial, issuer, which, in.AmountFen, in.Terminal, in.Initialize, in.Date, in.Time})
}

// compareAuthorize compares MAC1 with what was said of it, and an issued MAC2.
func compareAuthorize(kind onlineKind) comparison {
	return func(s view, ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
		o, err := s.recordedOnline(kind, set, e)
		if err != nil {
			return differs(differsInputs), nil
		}
		if o.transaction().String() != e.Transaction {
			return differs(differsTransaction), nil
		}
		key, f, ok := set.recordedKey(e.Key, kind.key, int(o.kver))
		if !ok {
			return f, nil
		}
		approved, right := false, true
		switch ledger.Outcome(e.Outcome) {
		case ledger.Approved:
			approved = true
		case ledger.LimitExceeded:
			if strings.HasPrefix(e.Detail, detailRefused) {
				return blind(blindLocked), nil
			}
		case ledger.CounterConflict, ledger.CounterStale, ledger.SettlementRequired:
		case ledger.MACMismatch:
			right = false
		case ledger.CardLocked:
			return blind(blindLocked), nil
		default:
			return differs(differsOutcome), nil
		}
		if !approved && e.MAC2 != "" {
			return differs(differsMAC2), nil
		}
		f, err = judgedAs(o.verify(ctx, key, o.MAC1(), o.MAC1Data()), right, differsMAC1)
		if err != nil || f != equal || !approved {
			return f, err
		}
		mac2, err := purse.ParseMAC("mac2", e.MAC2)
		if err != nil {
			return differs(differsMAC2), nil
		}
		return judgedAs(o.verify(ctx, key, mac2, o.MAC2Data(o.date, o.time)), true, differsMAC2)
	}
}

// verify compares a MAC under the session key in constant time.
func (o online) verify(ctx context.Context, key Version, mac purse.MAC, data []byte) error {
	return o.set.master(key, o.card).WithCard(ctx, o.card.factor, func(c keyderive.Card) error {
		session, err := c.Session(o.SessionInput())
		if err != nil {
			return err
		}
		return session.Verify(data, mac)
	})
}

// begun finds the entry with which a transaction began, in the record: the database's rows only say where. ok is false when it is not
// there, or was altered.
func (s view) begun(ctx context.Context, index uint64, event, transaction string) (e audit.Entry, ok bool, err error) {
	found, err := s.past.Entry(ctx, index)
	if errors.Is(err, past.ErrNotSealed) {
		return e, false, nil
	}
	if err != nil || found.Altered {
		return e, false, err
	}
	if e, err = audit.Decode(found.Line); err != nil {
		return e, false, nil
	}
	return e, string(e.Event) == event && e.Transaction == transaction && e.Outcome == string(ledger.Approved), nil
}

// compareConfirm compares a TAC or MAC3, over what the entry of its authorisation says, with what was said of it.
func compareConfirm(kind onlineKind) comparison {
	return func(s view, ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
		c, f, err := s.recordedConfirming(ctx, kind, set, e)
		if err != nil || f != equal {
			return f, err
		}
		keyKind, number := c.key()
		if keyKind == keyderive.KindTAC && e.Key != nil {
			number = e.Key.Version // of the epoch's mapping at that time
		}
		key, f, ok := set.recordedKey(e.Key, keyKind, number)
		if !ok {
			return f, nil
		}
		what := differsTAC
		if kind.operation == ledger.Unload {
			what = differsMAC3
		}
		switch ledger.Outcome(e.Outcome) {
		case ledger.Verified, ledger.NotApplied, ledger.Contradiction:
			return judgedAs(c.verify(ctx, key), true, what)
		case c.named(ledger.TACMismatch):
			if takesNoMore(e) {
				return blind(blindNoMore), nil
			}
			return judgedAs(c.verify(ctx, key), false, what)
		}
		return differs(differsOutcome), nil
	}
}

// recordedConfirming is the transaction that a confirmation's entry is about, as its authorisation's entry has it.
func (s view) recordedConfirming(ctx context.Context, kind onlineKind, set *keySet, e audit.Entry) (c confirming, f finding, err error) {
	id, err := parseTransaction(e.Transaction)
	if err != nil || id.purse.KeySet != set.Name || id.purse.Card != e.Card || id.purse.Purse != e.Purse || id.operation != kind.operation {
		return c, differs(differsTransaction), nil
	}
	text := e.Inputs.TAC
	if kind.operation == ledger.Unload {
		text = e.Inputs.MAC3
	}
	value, err := purse.ParseMAC(kind.certificate, text)
	if err != nil {
		return c, differs(differsInputs), nil
	}
	row, err := s.store.Attempt(ctx, id.purse, id.key)
	if errors.Is(err, store.ErrNotFound) {
		return c, differs(differsTransaction), nil
	}
	if err != nil {
		return c, f, err
	}
	began, ok, err := s.begun(ctx, row.AuditIndex, string(kind.authorize), e.Transaction)
	if err != nil {
		return c, f, err
	}
	if !ok {
		return c, differs(differsTransaction), nil
	}
	o, err := s.recordedOnline(kind, set, began)
	if err != nil || o.transaction().String() != e.Transaction || began.Key == nil {
		return c, differs(differsTransaction), nil
	}
	attempt := o.attempt(KeyUsed{Key: *began.Key, Boundary: began.Boundary}, purse.MAC{})
	return confirming{kind: kind, set: set, id: id, attempt: *attempt, value: value}, equal, nil
}

// compareSettle compares the card's answer to a settlement.
func (s view) compareSettle(ctx context.Context, set *keySet, e audit.Entry) (finding, error) {
	init, err := purse.ParseLoadInitHex(e.Inputs.Initialize)
	if err != nil || e.Inputs.AmountFen != uint64(settlementAmount) {
		return differs(differsInputs), nil
	}
	key, f, ok := set.recordedKey(e.Key, keyderive.KindLoad, int(init.KVER))
	if !ok {
		return f, nil
	}
	right := true
	switch ledger.Outcome(e.Outcome) {
	case ledger.Verified, ledger.CounterStale:
	case ledger.MACMismatch:
		right = false
	case ledger.CardLocked, ledger.LimitExceeded:
		return blind(blindLocked), nil
	case ledger.SettlementExpired:
		return blind(blindSettlement), nil
	default:
		return differs(differsOutcome), nil
	}
	at := store.PurseKey{KeySet: set.Name, Card: e.Card, Purse: e.Purse}
	err = verifySettlement(ctx, set, key, at, store.Settlement{Terminal: e.Inputs.Terminal}, init)
	var field *purse.FieldError
	if errors.As(err, &field) {
		return differs(differsInputs), nil
	}
	return judgedAs(err, right, differsMAC1)
}
