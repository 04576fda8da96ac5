package ledger_test

import (
	"context"
	"maps"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/store"
)

// reissue is the end of a card: another has its serial number, begins at the counter that the old one began at, and draws the same randoms.
// Officers reset its purses. What was collected of the old card is gone with it; that is what they answer for.
func (p *play) reissue(old *card) {
	next := newCard(old.serial, p.profile)
	p.failures[next] = p.failures[old] // the lock is the number's
	for _, s := range p.slots {
		if s.card != old {
			continue
		}
		p.reset(s)
		s.card, s.offers, s.approvals, s.tacs = next, nil, nil, nil
		s.proved, s.before = store.NoCounter, store.NoCounter
		for _, b := range s.settlements {
			b.dead = b.dead || b.outcome == ""
		}
	}
	maps.DeleteFunc(p.mac2, func(shown, _ string) bool { return strings.HasPrefix(shown, old.serial) })
}

// reset resets one purse, and notes what is left of it.
func (p *play) reset(s *slot) {
	at, reset, err := p.node().ResetPurse(custody.PurseChange{KeySet: keySet, Card: s.card.serial, Purse: s.purse.String()})
	must(err)
	must(p.store.Commit(context.Background(), store.Change{Purse: at, Decide: func(purse *store.Purse, _ uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Event: "ChangeApplied", Time: p.clock, Outcome: "APPLIED"}}, reset(purse)
	}}))
	listed, err := p.store.List(context.Background(), store.Filter{
		KeySet: keySet, Card: at.Card, Purse: at.Purse, After: p.from - 1, Limit: 10_000,
	})
	must(err)
	for _, l := range listed {
		p.checkMove(l.Attempt)
		if l.Attempt.State == store.Open {
			broke(historyStays, "%s is open after a reset", l.Attempt.ID)
		}
		p.history[l.Attempt.AuditIndex] = l.Attempt
		delete(p.attempts, l.Attempt.ID)
	}
	for _, b := range s.settlements {
		if _, recorded, err := p.store.Settlement(context.Background(), b.id); err != nil || recorded.State == store.SettlementPending {
			must(err)
			broke(historyStays, "%s is pending after a reset", b.id)
		}
	}
}
