package signer

import (
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/signer/limits"
	"github.com/pursekeeper/pursekeeper/store"
)

// subject is whose request o is.
func (o online) subject(entry audit.Entry) policy.Subject {
	return policy.Subject{
		Operation: o.kind.authorize, KeySet: o.set.Name, Client: entry.Client, Role: entry.Role, Card: o.card.id,
		Purse: o.purse.String(), Terminal: o.terminal.String(),
	}
}

// limits are those that apply to o. Its day and hour are those of its entry's time where the key set is: the signer's clock, and not the date
// that the caller gave, or a caller could choose the day that he is charged to.
func (o online) limits(grant policy.Grant, entry audit.Entry) limits.Plan {
	return limits.For(grant, limits.Asked{
		Subject: o.subject(entry), At: entry.Time.In(o.set.Location), Counter: int(o.counter), Amount: o.amount, Balance: uint32(o.balance),
	})
}

// limits are those that apply to q: of one purchase alone, for what offline cards pay is no running total of the signer's.
func (q sale) limits(grant policy.Grant, entry audit.Entry) limits.Plan {
	return limits.For(grant, limits.Asked{
		Subject: policy.Subject{
			Operation: policy.BeginPurchase, KeySet: q.set.Name, Client: entry.Client, Role: entry.Role, Card: q.card.id,
			Purse: q.purse.String(), Terminal: q.terminal.String(),
		},
		At: entry.Time.In(q.set.Location), Amount: uint32(q.amount), Balance: uint32(q.init.Balance),
	})
}

// shut is the answer to whatever MAC1 a card shows while the card is locked, or its terminal or client is refused: the same to a right one
// and a wrong one, and nothing is proved by either. It is "" when MAC1 counts.
func shut(p *store.Purse, mac1 watched) (outcome ledger.Outcome, detail string) {
	if p.Card.Locked {
		return ledger.CardLocked, detailLocked
	}
	if detail = mac1.refuses(p); detail != "" {
		return ledger.LimitExceeded, detail
	}
	return "", ""
}
