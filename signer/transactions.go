package signer

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/store"
)

// Page sizes of ListTransactions.
const (
	defaultPage = 100
	largestPage = 1000
)

// Transaction returns one recorded transaction.
func (s *Signer) Transaction(ctx context.Context, caller policy.Caller, transactionID string) (store.Listed, error) {
	look, err := s.looking(ctx)
	if err != nil {
		return store.Listed{}, err
	}
	id, err := parseTransaction(transactionID)
	if err != nil {
		return store.Listed{}, err
	}
	_, _, err = look.permit(ctx, caller, policy.GetTransaction, id.purse.KeySet,
		audit.Entry{KeySet: id.purse.KeySet, Transaction: id.String()}, policy.Context{})
	if err != nil {
		return store.Listed{}, err
	}
	attempt, err := look.attempt(ctx, id)
	if err != nil {
		return store.Listed{}, err
	}
	return store.Listed{Purse: id.purse, Attempt: attempt}, nil
}

// ListRequest is ListTransactions as the caller wrote it. CardSerial "" and Purse 0 choose all.
type ListRequest struct {
	KeySet     string
	CardSerial string
	IssuerID   string
	Purse      purse.Purse
	OpenOnly   bool
	PageSize   uint32
	PageToken  string
}

// Transactions returns recorded transactions in the order of commit, and the token of the next page, "" after the last.
func (s *Signer) Transactions(ctx context.Context, caller policy.Caller, r ListRequest) (listed []store.Listed, next string, err error) {
	look, err := s.looking(ctx)
	if err != nil {
		return nil, "", err
	}
	return look.transactions(ctx, caller, r)
}

func (s view) transactions(ctx context.Context, caller policy.Caller, r ListRequest) ([]store.Listed, string, error) {
	set, _, err := s.permit(ctx, caller, policy.ListTransactions, r.KeySet, audit.Entry{KeySet: r.KeySet}, policy.Context{})
	if err != nil {
		return nil, "", err
	}
	filter := store.Filter{KeySet: set.Name, OpenOnly: r.OpenOnly, Limit: defaultPage}
	if r.CardSerial == "" && r.IssuerID != "" {
		return nil, "", &purse.FieldError{Field: "issuerId", Problem: "has no use without cardSerial"}
	}
	if r.CardSerial != "" {
		c, err := set.parseCard(r.CardSerial, r.IssuerID)
		if err != nil {
			return nil, "", err
		}
		filter.Card = c.id
	}
	if r.Purse.Valid() {
		filter.Purse = r.Purse.String()
	}
	if r.PageSize > largestPage {
		return nil, "", &purse.FieldError{Field: "pageSize", Problem: fmt.Sprintf("is %d, expected 1 to %d", r.PageSize, largestPage)}
	}
	if r.PageSize > 0 {
		filter.Limit = int(r.PageSize)
	}
	if r.PageToken != "" {
		if filter.After, err = strconv.ParseUint(r.PageToken, 10, 63); err != nil {
			return nil, "", &purse.FieldError{Field: "pageToken", Problem: "is not one that this service gave"}
		}
	}
	filter.Limit++ // one more tells whether there is a next page
	page, err := s.store.List(ctx, filter)
	if err != nil || len(page) < filter.Limit {
		return page, "", err
	}
	page = page[:filter.Limit-1]
	return page, strconv.FormatUint(page[len(page)-1].Attempt.AuditIndex, 10), nil
}

// Unlocked is the answer to UnlockCard.
type Unlocked struct {
	WasLocked  bool
	AuditIndex uint64
}

// longestReason bounds the words of an officer that are recorded.
const longestReason = 500

// UnlockCard lifts the lock that repeated MAC1 failures put on a card, or repeated wrong proofs on a reader, and records who lifted
// it and why.
func (s *Signer) UnlockCard(ctx context.Context, caller policy.Caller, keySetName, cardSerial, issuerID, reason string) (Unlocked, error) {
	return withKeys(ctx, s, func(s view) (Unlocked, error) {
		set, grant, err := s.permit(ctx, caller, policy.UnlockCard, keySetName, audit.Entry{KeySet: keySetName}, policy.Context{})
		if err != nil {
			return Unlocked{}, err
		}
		c, err := set.parseLocked(cardSerial, issuerID)
		if err != nil {
			return Unlocked{}, err
		}
		if reason == "" || len(reason) > longestReason {
			return Unlocked{}, &purse.FieldError{
				Field: "reason", Problem: fmt.Sprintf("%d bytes, expected 1 to %d", len(reason), longestReason),
			}
		}
		entry := s.entry(caller, grant, policy.UnlockCard, audit.Entry{KeySet: set.Name, Card: c.id, Detail: reason})
		var answer Unlocked
		err = s.commit(ctx, store.Change{
			Purse: store.PurseKey{KeySet: set.Name, Card: c.id},
			Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				answer = Unlocked{WasLocked: s.ledger.Unlock(p), AuditIndex: index}
				e := entry
				e.Outcome = "NOT_LOCKED"
				if answer.WasLocked {
					e.Outcome = "UNLOCKED"
				}
				return []audit.Entry{e}, nil
			},
		})
		if err != nil {
			return Unlocked{}, err
		}
		return answer, nil
	})
}
