package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// settlementAmount is what the card is initialised with: the least that a card takes, and never credited.
const settlementAmount purse.Fen = 1

const settlementField = "settlementId"

// settlementShape is what newSettlement writes.
var settlementShape = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}/([0-9A-F]{16}-)?[0-9A-F]{16}/(ED|EP)/SETTLEMENT/[0-9A-F]{16}$`)

// Settlement is the answer to BeginSettlement.
type Settlement struct {
	Outcome    ledger.Outcome // CARD_LOCKED, or empty when a settlement was begun
	ID         string
	TerminalID string
	AmountFen  uint32
	Command    string // the INITIALIZE FOR LOAD to send to the card
	ExpiresAt  time.Time
	AuditIndex uint64
	Detail     string
}

// BeginSettlement issues a random one-time terminal number for a purse. A card that answers an INITIALIZE with it has
// answered after now, which is what SettleLoad rests on (DESIGN, §3).
func (s *Signer) BeginSettlement(ctx context.Context, caller policy.Caller, keySetName, cardSerial, issuerID string, which purse.Purse) (
	Settlement, error,
) {
	return withKeys(ctx, s, func(s view) (Settlement, error) {
		set, grant, err := s.permit(ctx, caller, policy.BeginSettlement, keySetName, audit.Entry{KeySet: keySetName}, asksPurse(which))
		if err != nil {
			return Settlement{}, err
		}
		c, err := set.parseCard(cardSerial, issuerID)
		if err != nil {
			return Settlement{}, err
		}
		if !which.Valid() {
			return Settlement{}, &purse.FieldError{Field: "purse", Problem: "missing, expected PURSE_ED or PURSE_EP"}
		}
		return s.beginSettlement(ctx, caller, grant, set, c, which)
	})
}

func (s view) beginSettlement(
	ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, c card, which purse.Purse,
) (Settlement, error) {
	if !grant.Allows(policy.BeginSettlement, set.Name) {
		return Settlement{}, errNoGrant
	}
	at := store.PurseKey{KeySet: set.Name, Card: c.id, Purse: which.String()}
	begun, terminal, err := s.newSettlement(at)
	if err != nil {
		return Settlement{}, err
	}
	command, err := purse.InitializeForLoad(set.Profile, which, settlementAmount, terminal)
	if err != nil {
		return Settlement{}, err
	}
	if set.Issuer.FromCard {
		begun.IssuerID = c.issuer.String()
	}
	entry := s.entry(caller, grant, policy.BeginSettlement, audit.Entry{
		KeySet: at.KeySet, Card: at.Card, Purse: at.Purse, Settlement: begun.ID, Inputs: audit.Inputs{Terminal: begun.Terminal},
	})
	var answer Settlement
	err = s.commit(ctx, store.Change{
		Purse: at,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			e := entry
			if p.Card.Locked {
				answer = Settlement{Outcome: ledger.CardLocked, AuditIndex: index, Detail: detailLocked}
				e.Settlement, e.Inputs = "", audit.Inputs{}
				e.Outcome, e.Detail = string(ledger.CardLocked), detailLocked
				return []audit.Entry{e}, nil
			}
			made := begun
			made.AuditIndex = index
			s.ledger.Begin(p, &made)
			answer = Settlement{
				ID: made.ID, TerminalID: made.Terminal, AmountFen: uint32(settlementAmount), Command: command.Hex(),
				ExpiresAt: made.ExpiresAt, AuditIndex: index,
			}
			e.Outcome = "BEGUN"
			return []audit.Entry{e}, nil
		},
	})
	if err != nil {
		return Settlement{}, err
	}
	return answer, nil
}

// newSettlement draws the terminal number and the id: 6 and 8 bytes of randomness.
func (s view) newSettlement(at store.PurseKey) (store.Settlement, purse.Terminal, error) {
	var drawn [14]byte
	if _, err := io.ReadFull(s.random, drawn[:]); err != nil {
		return store.Settlement{}, purse.Terminal{}, fmt.Errorf("random for a settlement: %w", err)
	}
	terminal := purse.Terminal(drawn[:6])
	return store.Settlement{
		ID:        fmt.Sprintf("%s/%s/%s/SETTLEMENT/%X", at.KeySet, at.Card, at.Purse, drawn[6:]),
		Terminal:  terminal.String(),
		ExpiresAt: s.now().Add(s.life).UTC().Truncate(time.Microsecond),
	}, terminal, nil
}

// Settled is the answer to SettleLoad.
type Settled struct {
	Outcome    ledger.Outcome // VERIFIED when the card's answer was right and fresh
	Settled    []store.Proved
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// SettleLoad takes the card's answer to the INITIALIZE FOR LOAD of a settlement, once: any try uses the settlement up, and
// the same try again gets the same result.
func (s *Signer) SettleLoad(ctx context.Context, caller policy.Caller, settlementID, initializeResponse string) (Settled, error) {
	return withKeys(ctx, s, func(s view) (Settled, error) {
		if !settlementShape.MatchString(settlementID) {
			return Settled{}, &purse.FieldError{Field: settlementField, Problem: "expected SET/CARD/PURSE/SETTLEMENT/NUMBER"}
		}
		name, _, _ := strings.Cut(settlementID, "/")
		set, grant, err := s.permit(ctx, caller, policy.SettleLoad, name, audit.Entry{KeySet: name, Settlement: settlementID},
			policy.Context{Purse: strings.Split(settlementID, "/")[2]})
		if err != nil {
			return Settled{}, err
		}
		init, err := purse.ParseLoadInitHex(initializeResponse)
		if err != nil {
			return Settled{}, err
		}
		if err := set.acceptsALG(init.ALG); err != nil {
			return Settled{}, err
		}
		if err := usable("ONSN", init.Counter); err != nil {
			return Settled{}, err
		}
		at, begun, err := s.store.Settlement(ctx, settlementID)
		if errors.Is(err, store.ErrNotFound) {
			return Settled{}, &NotFoundError{Field: settlementField, Name: settlementID}
		}
		if err != nil {
			return Settled{}, err
		}
		return s.settleLoad(ctx, caller, grant, set, at, begun, init)
	})
}

func (s view) settleLoad(
	ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, at store.PurseKey, begun store.Settlement, init purse.LoadInit,
) (Settled, error) {
	if !grant.Allows(policy.SettleLoad, set.Name) {
		return Settled{}, errNoGrant
	}
	fresh := ledger.Fresh{Settlement: begun.ID, Answer: upperHex(init.Bytes()), Counter: int(init.Counter), KeyVersion: int(init.KVER)}
	entry := s.entry(caller, grant, policy.SettleLoad, audit.Entry{
		KeySet: at.KeySet, Card: at.Card, Purse: at.Purse, Settlement: begun.ID,
		Inputs: audit.Inputs{Initialize: fresh.Answer, AmountFen: uint64(settlementAmount), Terminal: begun.Terminal},
	})
	var used KeyUsed
	key := set.version(keyderive.KindLoad, int(init.KVER))
	if key.For(policy.SettleLoad).Settles() {
		used = set.used(key)
		entry.Key, entry.Boundary = &used.Key, used.Boundary
		err := verifySettlement(ctx, set, key, at, begun, init)
		if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
			return Settled{}, err
		}
		fresh.Right = err == nil
	} else {
		fresh.Refuse = ledger.KeyNotActive
		used = set.refusedKey(keyderive.KindLoad, int(init.KVER))
		entry.Key, entry.Boundary = &used.Key, used.Boundary
	}
	return s.commitSettle(ctx, set, at, entry, used, fresh)
}

// verifySettlement verifies MAC1 over the settlement's amount and terminal number.
func verifySettlement(
	ctx context.Context, set *keySet, key Version, at store.PurseKey, begun store.Settlement, init purse.LoadInit,
) error {
	c, err := set.recordedCard(at.Card)
	if err != nil {
		return err
	}
	which, err := purse.ParsePurse(at.Purse)
	if err != nil {
		return err
	}
	terminal, err := purse.ParseTerminal(begun.Terminal)
	if err != nil {
		return err
	}
	l, err := purse.NewLoad(init, which, settlementAmount, terminal)
	if err != nil {
		return err
	}
	return set.master(key, c).WithCard(ctx, c.factor, func(c keyderive.Card) error {
		session, err := c.Session(l.SessionInput())
		if err != nil {
			return err
		}
		return session.Verify(l.MAC1Data(), l.MAC1())
	})
}

// commitSettle lets the ledger judge the answer and records it.
func (s view) commitSettle(
	ctx context.Context, set *keySet, at store.PurseKey, entry audit.Entry, used KeyUsed, fresh ledger.Fresh,
) (Settled, error) {
	var answer Settled
	var alarms []audit.Event
	// A settlement's terminal number is used once, and is nobody's: its client alone is counted.
	subject := policy.Subject{KeySet: set.Name, Client: entry.Client}
	mac1 := s.watchRight(subject, entry)
	if !fresh.Right {
		mac1 = s.watch(policy.MAC1Failures, subject, entry)
	}
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: at, Counters: []int{fresh.Counter}, Settlement: fresh.Settlement, Committed: func() { s.raise(alarms) }, Totals: mac1.named(!fresh.Right),
		Decide: func(p *store.Purse, index uint64) (entries []audit.Entry, err error) {
			alarms = nil
			f := fresh
			outcome, detail := shut(p, mac1)
			if outcome != "" {
				f.Refuse = outcome
			}
			result, recorded := s.ledger.Settle(p, f, s.now())
			if outcome != "" && result.Outcome == outcome {
				result.Reason = detail
			}
			answer = Settled{Outcome: result.Outcome, Settled: result.Settled, Key: used, AuditIndex: index, Detail: result.Reason}
			if recorded {
				answer.AuditIndex = p.Settlement(f.Settlement).AuditIndex
				return nil, nil
			}
			if begun := p.Settlement(f.Settlement); begun.Answer == f.Answer {
				begun.AuditIndex = index
			}
			e := entry
			e.Outcome, e.Detail, e.Settled = string(result.Outcome), result.Reason, settledEntries(result.Settled)
			entries, alarms = withUnexplained([]audit.Entry{e}, result)
			if result.Outcome != ledger.MACMismatch {
				return entries, nil
			}
			entries, alarms = s.countMAC1(p, set, mac1, entries, alarms)
			return entries, nil
		},
	})
	if err != nil {
		return Settled{}, err
	}
	return answer, nil
}
