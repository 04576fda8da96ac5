package signer

import (
	"cmp"
	"context"
	"errors"

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
	id, err := parseTransaction(transactionID)
	if err != nil {
		return Confirmation{}, err
	}
	set, grant, err := s.permit(ctx, caller, policy.ConfirmLoad, id.purse.KeySet,
		audit.Entry{KeySet: id.purse.KeySet, Transaction: id.String()})
	if err != nil {
		return Confirmation{}, err
	}
	value, err := purse.ParseMAC("tac", tac)
	if err != nil {
		return Confirmation{}, err
	}
	attempt, err := s.attempt(ctx, id)
	if err != nil {
		return Confirmation{}, err
	}
	if attempt.Operation != ledger.Load {
		return Confirmation{}, &purse.FieldError{Field: transactionField, Problem: "is not a load"}
	}
	return s.confirmLoad(ctx, caller, grant, set, id, attempt, value)
}

// detailCompromised flags what a compromised key verified: whoever has the key could have made it (DESIGN, §7).
const detailCompromised = "verified with a compromised key"

// attempt reads a recorded transaction by its id.
func (s *Signer) attempt(ctx context.Context, id transaction) (store.Attempt, error) {
	attempt, err := s.store.Attempt(ctx, id.purse, id.key)
	if errors.Is(err, store.ErrNotFound) || err == nil && attempt.ID != id.String() {
		return store.Attempt{}, &NotFoundError{Field: transactionField, Name: id.String()}
	}
	return attempt, err
}

func (s *Signer) confirmLoad(
	ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, id transaction, attempt store.Attempt, tac purse.MAC,
) (Confirmation, error) {
	if !grant.Allows(policy.ConfirmLoad, set.Name) {
		return Confirmation{}, errNoGrant
	}
	key := set.version(keyderive.KindTAC, set.tacNumber(attempt.KeyVersion))
	entry := s.entry(caller, grant, policy.ConfirmLoad, audit.Entry{
		KeySet: set.Name, Card: id.purse.Card, Purse: id.purse.Purse, Transaction: attempt.ID,
		Inputs: audit.Inputs{TAC: upperHex(tac[:])},
	})
	if !key.State.Verifies() {
		refused := set.refusedKey(keyderive.KindTAC, set.tacNumber(attempt.KeyVersion))
		answer, err := s.refuse(ctx, entry, refused, "no TAC key of this epoch may verify")
		return Confirmation{
			Outcome: answer.Outcome, TransactionID: attempt.ID, Key: answer.Key, AuditIndex: answer.AuditIndex, Detail: answer.Detail,
		}, err
	}
	used := set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary
	err := verifyLoadTAC(ctx, set, key, id.purse, attempt, tac)
	if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
		return Confirmation{}, err
	}
	if key.State == Compromised {
		entry.Detail = detailCompromised
	}
	return s.commitConfirm(ctx, id, entry, used, ledger.Certificate{
		Attempt: attempt.AttemptKey, Value: upperHex(tac[:]), Right: err == nil,
	})
}

// verifyLoadTAC computes the TAC that the card must have answered and compares it in constant time.
func verifyLoadTAC(
	ctx context.Context, set *keySet, key Version, at store.PurseKey, a store.Attempt, tac purse.MAC,
) error {
	c, err := set.recordedCard(at.Card)
	if err != nil {
		return err
	}
	data, err := loadTACData(at, a)
	if err != nil {
		return err
	}
	return set.master(key, c).WithCard(ctx, c.factor, func(c keyderive.Card) error {
		k, err := c.TAC()
		if err != nil {
			return err
		}
		return k.Verify(data, tac)
	})
}

// loadTACData is what the TAC of a recorded load covers (EPURSE.md §5.1).
func loadTACData(at store.PurseKey, a store.Attempt) ([]byte, error) {
	which, err := purse.ParsePurse(at.Purse)
	if err != nil {
		return nil, err
	}
	terminal, err := purse.ParseTerminal(a.Terminal)
	if err != nil {
		return nil, err
	}
	d, err := purse.ParseDate(a.Date)
	if err != nil {
		return nil, err
	}
	t, err := purse.ParseTime(a.Time)
	if err != nil {
		return nil, err
	}
	init := purse.LoadInit{Balance: purse.Fen(a.Balance), Counter: purse.Counter(a.Counter)}
	l, err := purse.NewLoad(init, which, purse.Fen(a.Amount), terminal)
	if err != nil {
		return nil, err
	}
	return l.TACData(d, t), nil
}

// commitConfirm lets the ledger judge a verified or refuted certificate and records it.
func (s *Signer) commitConfirm(
	ctx context.Context, id transaction, entry audit.Entry, used KeyUsed, c ledger.Certificate,
) (Confirmation, error) {
	var answer Confirmation
	var alarms []audit.Event
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.store.Commit(ctx, store.Change{
		Purse: id.purse, Counters: []int{id.key.Counter}, Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			result, recorded := s.ledger.Confirm(p, c)
			answer = Confirmation{
				Outcome: result.Outcome, TransactionID: result.Attempt.ID, Key: used, AuditIndex: index,
				Settled: result.Settled, Detail: cmp.Or(result.Reason, entry.Detail),
			}
			alarms = nil
			e := entry
			e.Outcome, e.Detail, e.Settled = string(result.Outcome), answer.Detail, settledEntries(result.Settled)
			entries := []audit.Entry{e}
			if result.Outcome == ledger.Contradiction && !recorded {
				alarms = []audit.Event{audit.Contradiction}
				entries = append(entries, alarmEntry(e, audit.Contradiction, result.Reason))
			}
			return entries, nil
		},
	})
	if err != nil {
		return Confirmation{}, err
	}
	return answer, nil
}
