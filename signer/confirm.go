package signer

import (
	"cmp"
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

// Confirmation is the answer to a certificate.
type Confirmation struct {
	Outcome       ledger.Outcome
	TransactionID string
	Key           KeyUsed
	AuditIndex    uint64
	Settled       []store.Proved
	Detail        string
}

// ConfirmLoad verifies the TAC of a load against what was recorded when its MAC2 was issued (EPURSE.md §5.1).
func (s *Signer) ConfirmLoad(ctx context.Context, caller policy.Caller, transactionID, tac string) (Confirmation, error) {
	return withKeys(ctx, s, func(s view) (Confirmation, error) {
		return s.confirm(ctx, caller, loading, transactionID, tac)
	})
}

// ConfirmUnload verifies MAC3 of an unload (EPURSE.md §5.3): it alone proves that the money left the card, whatever the counter
// does.
func (s *Signer) ConfirmUnload(ctx context.Context, caller policy.Caller, transactionID, mac3 string) (Confirmation, error) {
	return withKeys(ctx, s, func(s view) (Confirmation, error) {
		return s.confirm(ctx, caller, unloading, transactionID, mac3)
	})
}

// ConfirmOverdraft verifies the TAC of a change of the overdraft limit (EPURSE.md §5.4).
func (s *Signer) ConfirmOverdraft(ctx context.Context, caller policy.Caller, transactionID, tac string) (Confirmation, error) {
	return withKeys(ctx, s, func(s view) (Confirmation, error) {
		return s.confirm(ctx, caller, overdrawing, transactionID, tac)
	})
}

func (s view) confirm(ctx context.Context, caller policy.Caller, kind onlineKind, transactionID, certificate string) (Confirmation, error) {
	id, err := parseTransaction(transactionID)
	if err != nil {
		return Confirmation{}, err
	}
	set, grant, err := s.permit(ctx, caller, kind.confirm, id.purse.KeySet,
		audit.Entry{KeySet: id.purse.KeySet, Transaction: id.String()}, policy.Context{Purse: id.purse.Purse})
	if err != nil {
		return Confirmation{}, err
	}
	value, err := purse.ParseMAC(kind.certificate, certificate)
	if err != nil {
		return Confirmation{}, err
	}
	attempt, err := s.attempt(ctx, id)
	if err != nil {
		return Confirmation{}, err
	}
	if attempt.Operation != kind.operation {
		return Confirmation{}, &purse.FieldError{Field: transactionField, Problem: "is not " + kind.noun}
	}
	return s.judge(ctx, caller, grant, confirming{kind: kind, set: set, id: id, attempt: attempt, value: value})
}

// detailCompromised flags what a compromised key verified: whoever has the key could have made it (DESIGN, §7).
const detailCompromised = "verified with a compromised key"

// attempt reads a recorded transaction by its id.
func (s view) attempt(ctx context.Context, id transaction) (store.Attempt, error) {
	attempt, err := s.store.Attempt(ctx, id.purse, id.key)
	if errors.Is(err, store.ErrNotFound) || err == nil && attempt.ID != id.String() {
		return store.Attempt{}, &NotFoundError{Field: transactionField, Name: id.String()}
	}
	return attempt, err
}

// confirming is a value shown for a recorded transaction, as its request was read.
type confirming struct {
	kind    onlineKind
	set     *keySet
	id      transaction
	attempt store.Attempt
	value   purse.MAC // the TAC, or MAC3
}

// key is the kind and version of the key that made the value: the tac key of the epoch, or the unload key itself.
func (c confirming) key() (keyderive.Kind, int) {
	if c.kind.operation == ledger.Unload {
		return keyderive.KindUnload, c.attempt.KeyVersion
	}
	return keyderive.KindTAC, c.set.tacNumber(c.attempt.KeyVersion)
}

// judge is the operation behind the permission.
func (s view) judge(ctx context.Context, caller policy.Caller, grant policy.Grant, c confirming) (Confirmation, error) {
	if !grant.Allows(c.kind.confirm, c.set.Name) {
		return Confirmation{}, errNoGrant
	}
	inputs := audit.Inputs{TAC: upperHex(c.value[:])}
	if c.kind.operation == ledger.Unload {
		inputs = audit.Inputs{MAC3: upperHex(c.value[:])}
	}
	entry := s.entry(caller, grant, c.kind.confirm, audit.Entry{
		KeySet: c.set.Name, Card: c.id.purse.Card, Purse: c.id.purse.Purse, Transaction: c.attempt.ID, Inputs: inputs,
	})
	kind, number := c.key()
	key := c.set.version(kind, number)
	if !key.For(c.kind.confirm).Verifies() {
		answer, err := s.refuse(ctx, entry, c.set.refusedKey(kind, number), fmt.Sprintf("no %v key of this epoch may verify", kind))
		return Confirmation{
			Outcome: answer.Outcome, TransactionID: c.attempt.ID, Key: answer.Key, AuditIndex: answer.AuditIndex, Detail: answer.Detail,
		}, err
	}
	used := c.set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary
	err := c.verify(ctx, key)
	if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
		return Confirmation{}, err
	}
	if err == nil && key.For(c.kind.confirm).Flagged() {
		entry.Detail = detailCompromised
	}
	return s.commitConfirm(ctx, c, entry, used, err == nil)
}

// verify computes the TAC or MAC3 that the card must have answered and compares it in constant time.
func (c confirming) verify(ctx context.Context, key Version) error {
	card, err := c.set.recordedCard(c.id.purse.Card)
	if err != nil {
		return err
	}
	certified, err := c.certified()
	if err != nil {
		return err
	}
	return c.set.master(key, card).WithCard(ctx, card.factor, func(k keyderive.Card) error {
		if c.kind.operation == ledger.Unload {
			session, err := k.Session(certified.session)
			if err != nil {
				return err
			}
			return session.Verify(certified.data, c.value)
		}
		tac, err := k.TAC()
		if err != nil {
			return err
		}
		return tac.Verify(certified.data, c.value)
	})
}

// certified is what a card's last answer covers, and what the session key of MAC3 is derived from.
type certified struct {
	data    []byte
	session [8]byte
}

// certified lays out what the TAC or MAC3 of the recorded transaction covers (EPURSE.md §5.1, §5.3, §5.4).
func (c confirming) certified() (certified, error) {
	a := c.attempt
	terminal, err := purse.ParseTerminal(a.Terminal)
	if err != nil {
		return certified{}, err
	}
	d, err := purse.ParseDate(a.Date)
	if err != nil {
		return certified{}, err
	}
	t, err := purse.ParseTime(a.Time)
	if err != nil {
		return certified{}, err
	}
	which, err := purse.ParsePurse(c.id.purse.Purse)
	if err != nil {
		return certified{}, err
	}
	random, err := purse.ParseRandom("random", a.Random)
	if err != nil {
		return certified{}, err
	}
	balance, counter := purse.Fen(a.Balance), purse.Counter(a.Counter)
	switch c.kind.operation {
	case ledger.Unload:
		u, err := purse.NewUnload(c.set.Profile, purse.UnloadInit{Balance: balance, Counter: counter, Random: random}, which,
			purse.Fen(a.Amount), terminal)
		return certified{u.MAC3Data(d, t), u.SessionInput()}, err
	case ledger.Overdraft:
		init := purse.OverdraftInit{Balance: balance, Counter: counter, OldLimit: purse.Limit(a.OldLimit), Random: random}
		o, err := purse.NewOverdraft(init, purse.Limit(a.Amount), terminal)
		return certified{data: o.TACData(d, t)}, err
	}
	l, err := purse.NewLoad(purse.LoadInit{Balance: balance, Counter: counter, Random: random}, which, purse.Fen(a.Amount), terminal)
	return certified{data: l.TACData(d, t)}, err
}

// commitConfirm lets the ledger judge a verified or refuted certificate and records it.
func (s view) commitConfirm(
	ctx context.Context, c confirming, entry audit.Entry, used KeyUsed, right bool,
) (Confirmation, error) {
	shown := ledger.Certificate{Attempt: c.attempt.AttemptKey, Value: upperHex(c.value[:]), Right: right}
	var failures watched
	if !right {
		failures = s.watch(policy.TACFailures, c.subject(entry), entry)
	}
	var answer Confirmation
	var alarms []audit.Event
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: c.id.purse, Counters: []int{c.id.key.Counter}, Committed: func() { s.raise(alarms) }, Totals: failures.named(!right),
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			if now := p.Attempt(shown.Attempt); now == nil || now.AuditIndex != c.attempt.AuditIndex {
				answer, alarms = c.past(used, index, right), nil
				e := entry
				e.Outcome, e.Detail = string(answer.Outcome), answer.Detail
				return []audit.Entry{e}, nil
			}
			result, recorded := s.ledger.Confirm(p, shown)
			answer = Confirmation{
				Outcome: c.named(result.Outcome), TransactionID: result.Attempt.ID, Key: used, AuditIndex: index,
				Settled: result.Settled, Detail: cmp.Or(result.Reason, entry.Detail),
			}
			alarms = nil
			e := entry
			e.Outcome, e.Detail, e.Settled = string(answer.Outcome), answer.Detail, settledEntries(result.Settled)
			entries := []audit.Entry{e}
			if result.Outcome == ledger.Contradiction && !recorded {
				alarms = []audit.Event{audit.Contradiction}
				entries = append(entries, alarmEntry(e, audit.Contradiction, result.Reason))
			}
			if !right && !recorded {
				entries, alarms = failures.count(p, 1, entries, alarms)
			}
			return entries, nil
		},
	})
	if err != nil {
		return Confirmation{}, err
	}
	return answer, nil
}

// subject is whose transaction is confirmed, where it was begun.
func (c confirming) subject(entry audit.Entry) policy.Subject {
	return policy.Subject{
		Operation: c.kind.confirm, KeySet: c.set.Name, Client: entry.Client, Role: entry.Role, Card: c.id.purse.Card, Purse: c.id.purse.Purse,
		Terminal: c.attempt.Terminal,
	}
}

// named is the ledger's outcome as the API names it: what was wrong of an unload is a MAC, not a TAC.
func (c confirming) named(o ledger.Outcome) ledger.Outcome {
	if o == ledger.TACMismatch && c.kind.operation == ledger.Unload {
		return ledger.MACMismatch
	}
	return o
}
