package signer

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// ResetPurse says which purse of the store a change request is about, and how it is reset, inside the transaction that applies the change
// (custody.Options.ResetPurse; DESIGN, §3). Errors are those of a request that names no card: *NotFoundError and *purse.FieldError.
func (s *Signer) ResetPurse(about custody.PurseChange) (store.PurseKey, func(*store.Purse) error, error) {
	set := s.view().keys.sets[about.KeySet]
	if set == nil {
		return store.PurseKey{}, nil, &NotFoundError{Field: "keySet", Name: about.KeySet}
	}
	c, err := set.parseCard(about.Card, about.IssuerID)
	if err != nil {
		return store.PurseKey{}, nil, err
	}
	which, err := purse.ParsePurse(about.Purse)
	if err != nil {
		return store.PurseKey{}, nil, err
	}
	at := store.PurseKey{KeySet: set.Name, Card: c.id, Purse: which.String()}
	return at, func(p *store.Purse) error {
		if p.Key != at {
			return fmt.Errorf("bug: purse %v is reset in place of %v", p.Key, at)
		}
		s.ledger.Reset(p)
		return nil
	}, nil
}

// past answers a value that is shown for a transaction of a card that was issued again since: it is judged, and settles nothing.
func (c confirming) past(used KeyUsed, index uint64, right bool) Confirmation {
	verdict := "wrong"
	if right {
		verdict = "right"
	}
	a := Confirmation{
		Outcome: ledger.OutcomeOf(c.attempt.State), TransactionID: c.attempt.ID, Key: used, AuditIndex: index,
		Detail: fmt.Sprintf("the purse was reset since, for a card that was issued again; the %s is %s", c.kind.certificate, verdict),
	}
	if c.attempt.State == store.Open { // the reset came between
		a.Outcome = ledger.Undetermined
	}
	return a
}
