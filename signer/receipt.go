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

// Receipt is the answer to CompletePurchase.
type Receipt struct {
	Outcome    ledger.Outcome
	PurchaseID string
	Key        KeyUsed // the purchase key
	TACKey     KeyUsed // zero when no TAC was given
	AuditIndex uint64
	Detail     string
}

const purchaseField = "purchaseId"

var purchaseOperations = []string{ledger.Purchase, ledger.Cash, ledger.Compound}

// receipt is what CompletePurchase is about: the recorded purchase, and what the card answered.
type receipt struct {
	set      *keySet
	id       transaction
	recorded store.Purchase
	purse.Purchase
	mac2  purse.MAC
	tac   purse.MAC
	taced bool // a TAC was given
}

// CompletePurchase verifies the MAC2 with which a card proves that it paid, and the TAC when it is not "" (EPURSE.md §5.2),
// against what was recorded when its MAC1 was issued. Errors are as those of BeginPurchase.
func (s *Signer) CompletePurchase(ctx context.Context, caller policy.Caller, purchaseID, mac2, tac string) (Receipt, error) {
	return withKeys(ctx, s, func(s view) (Receipt, error) {
		id, err := parseRecorded(purchaseField, purchaseOperations, purchaseID)
		if err != nil {
			return Receipt{}, err
		}
		set, grant, err := s.permit(ctx, caller, policy.CompletePurchase, id.purse.KeySet,
			audit.Entry{KeySet: id.purse.KeySet, Transaction: id.String()}, policy.Context{Purse: id.purse.Purse})
		if err != nil {
			return Receipt{}, err
		}
		r := receipt{set: set, id: id, taced: tac != ""}
		if r.mac2, err = purse.ParseMAC("mac2", mac2); err != nil {
			return Receipt{}, err
		}
		if r.taced {
			if r.tac, err = purse.ParseMAC("tac", tac); err != nil {
				return Receipt{}, err
			}
		}
		r.recorded, err = s.store.Purchase(ctx, cardPlace(id.purse), id.key)
		if errors.Is(err, store.ErrNotFound) || err == nil && r.recorded.ID != id.String() {
			return Receipt{}, &NotFoundError{Field: purchaseField, Name: id.String()}
		}
		if err != nil {
			return Receipt{}, err
		}
		if r.recorded.Client != caller.Name() {
			return Receipt{}, s.denied(ctx, s.entry(caller, grant, policy.CompletePurchase, audit.Entry{KeySet: set.Name, Transaction: id.String()}),
				fmt.Sprintf("client %s did not begin this purchase", caller.Name()))
		}
		if r.Purchase, err = recordedPurchase(r.recorded); err != nil {
			return Receipt{}, err
		}
		return s.completePurchase(ctx, caller, grant, r)
	})
}

// recordedPurchase reads back what was recorded of a purchase.
func recordedPurchase(a store.Purchase) (purse.Purchase, error) {
	init, err := purse.ParsePurchaseInitHex(a.Initialize)
	if err != nil {
		return purse.Purchase{}, err
	}
	tti, err := purse.ParseTTI(a.Type)
	if err != nil {
		return purse.Purchase{}, err
	}
	terminal, err := purse.ParseTerminal(a.Terminal)
	if err != nil {
		return purse.Purchase{}, err
	}
	return purse.NewPurchase(init, tti, purse.TSN(a.Serial), purse.Fen(a.Amount), terminal)
}

func (s view) completePurchase(ctx context.Context, caller policy.Caller, grant policy.Grant, r receipt) (Receipt, error) {
	if !grant.Allows(policy.CompletePurchase, r.set.Name) {
		return Receipt{}, errNoGrant
	}
	answer := Receipt{PurchaseID: r.recorded.ID}
	entry := s.entry(caller, grant, policy.CompletePurchase, audit.Entry{
		KeySet: r.set.Name, Card: r.id.purse.Card, Purse: r.id.purse.Purse, Transaction: r.recorded.ID,
		Inputs: audit.Inputs{MAC2: upperHex(r.mac2[:])},
	})
	key := r.set.version(keyderive.KindPurchase, r.recorded.KeyVersion)
	answer.Key = r.set.refusedKey(keyderive.KindPurchase, r.recorded.KeyVersion)
	entry.Key, entry.Boundary = &answer.Key.Key, answer.Key.Boundary
	epoch := r.set.tacNumber(r.recorded.KeyVersion)
	tacKey := r.set.version(keyderive.KindTAC, epoch)
	if r.taced {
		answer.TACKey = r.set.refusedKey(keyderive.KindTAC, epoch)
		entry.Inputs.TAC = upperHex(r.tac[:])
		entry.TACKey, entry.TACBoundary = &answer.TACKey.Key, answer.TACKey.Boundary
	}
	if !key.For(policy.CompletePurchase).Verifies() {
		return s.refuseReceipt(ctx, entry, answer, "the purchase key of this purchase may not verify")
	}
	if r.taced && !tacKey.For(policy.CompletePurchase).Verifies() {
		return s.refuseReceipt(ctx, entry, answer, "no TAC key of this epoch may verify")
	}
	shown := ledger.Receipt{MAC2: upperHex(r.mac2[:])}
	var err error
	if shown.MAC2Right, err = verdict(r.verifyMAC2(ctx, key)); err != nil {
		return Receipt{}, err
	}
	if r.taced {
		shown.TAC = upperHex(r.tac[:])
		if shown.TACRight, err = verdict(r.verifyTAC(ctx, tacKey)); err != nil {
			return Receipt{}, err
		}
	}
	if shown.MAC2Right && (key.For(policy.CompletePurchase).Flagged() || shown.TACRight && tacKey.For(policy.CompletePurchase).Flagged()) {
		entry.Detail = detailCompromised
	}
	return s.commitReceipt(ctx, r, entry, answer, shown)
}

// verdict tells a MAC that was found different from one that could not be computed.
func verdict(err error) (right bool, fault error) {
	if errors.Is(err, keyderive.ErrMismatch) {
		return false, nil
	}
	return err == nil, err
}

// verifyMAC2 computes the MAC2 that the card must have answered and compares it in constant time.
func (r receipt) verifyMAC2(ctx context.Context, key Version) error {
	return r.withCard(ctx, key, func(c keyderive.Card) error {
		session, err := c.Session(r.SessionInput())
		if err != nil {
			return err
		}
		return session.Verify(r.MAC2Data(), r.mac2)
	})
}

// verifyTAC does the same with the TAC.
func (r receipt) verifyTAC(ctx context.Context, key Version) error {
	d, err := purse.ParseDate(r.recorded.Date)
	if err != nil {
		return err
	}
	t, err := purse.ParseTime(r.recorded.Time)
	if err != nil {
		return err
	}
	return r.withCard(ctx, key, func(c keyderive.Card) error {
		k, err := c.TAC()
		if err != nil {
			return err
		}
		return k.Verify(r.TACData(d, t), r.tac)
	})
}

func (r receipt) withCard(ctx context.Context, key Version, use func(keyderive.Card) error) error {
	c, err := r.set.recordedCard(r.id.purse.Card)
	if err != nil {
		return err
	}
	return r.set.master(key, c).WithCard(ctx, c.factor, use)
}

// refuseReceipt records that a key may not verify: nothing was computed.
func (s view) refuseReceipt(ctx context.Context, entry audit.Entry, answer Receipt, detail string) (Receipt, error) {
	answer.Outcome, answer.Detail = ledger.KeyNotActive, detail
	entry.Outcome, entry.Detail = string(answer.Outcome), detail
	var err error
	if answer.AuditIndex, err = s.recordAt(ctx, entry); err != nil {
		return Receipt{}, err
	}
	return answer, nil
}

// commitReceipt lets the ledger judge what was verified or refuted, and records it.
func (s view) commitReceipt(ctx context.Context, r receipt, entry audit.Entry, answer Receipt, shown ledger.Receipt) (Receipt, error) {
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: cardPlace(r.id.purse), Purchase: &r.id.key,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			outcome, reason := s.ledger.CompletePurchase(p, shown)
			answer.Outcome, answer.Detail, answer.AuditIndex = outcome, cmp.Or(reason, entry.Detail), index
			e := entry
			e.Outcome, e.Detail = string(outcome), answer.Detail
			return []audit.Entry{e}, nil
		},
	})
	if err != nil {
		return Receipt{}, err
	}
	return answer, nil
}
