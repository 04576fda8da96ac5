package ledger_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// stage is a database on which scenes play, each with a card of its own.
type stage struct {
	db    *store.Database
	cards int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	db, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &stage{db: db}
}

// scene is one purse, the ledger, and a line for each decision: its outcome and what else it did.
type scene struct {
	db     *store.Database
	ledger ledger.Ledger
	purse  store.PurseKey
	now    time.Time
	log    []string

	balance, oldLimit uint32 // what the next answers of the card say
}

// rehearse plays a scene on a purse that nobody has seen.
func (g *stage) rehearse(script func(*scene)) []string {
	g.cards++
	s := &scene{
		db: g.db, balance: 1000, now: time.Unix(1_700_000_000, 0),
		purse: store.PurseKey{KeySet: "demo", Card: fmt.Sprintf("%016d", g.cards), Purse: "EP"},
	}
	script(s)
	return s.log
}

// decide runs one decision in a transaction of its own.
func (s *scene) decide(counters []int, settlement string, decision func(p *store.Purse, index uint64)) {
	must(s.db.Commit(context.Background(), store.Change{
		Purse: s.purse, Counters: counters, Settlement: settlement,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			decision(p, index)
			return []audit.Entry{{Event: "Scene", Time: s.now, Outcome: "PLAYED"}}, nil
		},
	}))
}

func (s *scene) note(parts ...string) {
	s.log = append(s.log, strings.Join(strings.Fields(strings.Join(parts, " ")), " "))
}

// ask puts an answer with a right MAC1 before the ledger. change falsifies the plain request.
func (s *scene) ask(counter int, random string, change ...func(*ledger.Answer)) {
	s.refuse(counter, random, "", change...)
}

func (s *scene) refuse(counter int, random string, refuse ledger.Outcome, change ...func(*ledger.Answer)) {
	a := ledger.Answer{
		Operation: ledger.Load, Counter: counter, Random: random, Amount: 100, Terminal: "112233445566",
		Date: "20240131", Time: "235959",
	}
	for _, c := range change {
		c(&a)
	}
	var r ledger.Result
	s.decide([]int{counter}, "", func(p *store.Purse, index uint64) {
		r = s.ledger.Authorize(p, a, refuse, func() *store.Attempt {
			return &store.Attempt{
				AttemptKey: store.AttemptKey{Counter: counter, Random: random}, ID: random, Operation: a.Operation, Amount: a.Amount,
				Balance: s.balance, OldLimit: s.oldLimit, Terminal: a.Terminal, Date: a.Date, Time: a.Time, AuditIndex: index,
			}
		})
	})
	recorded := ""
	if r.Recorded {
		recorded = "recorded"
	}
	s.note(string(r.Outcome), recorded, settled(r.Settled), unexplained(r.Unexplained))
}

// tac shows a certificate: right, or wrong.
func (s *scene) tac(counter int, random, value string, right bool) {
	s.decide([]int{counter}, "", func(p *store.Purse, _ uint64) {
		r, recorded := s.ledger.Confirm(p, ledger.Certificate{
			Attempt: store.AttemptKey{Counter: counter, Random: random}, Value: value, Right: right,
		})
		s.noteRecorded(r, recorded)
	})
}

func (s *scene) begin(name string) {
	s.decide(nil, "", func(p *store.Purse, _ uint64) {
		s.ledger.Begin(p, &store.Settlement{ID: s.purse.Card + name, ExpiresAt: s.now.Add(time.Minute)})
	})
}

// try shows a settlement an answer; it is right unless it begins with "wrong".
func (s *scene) try(name, answer string, counter int) { s.tryRefused(name, answer, counter, "") }

func (s *scene) tryRefused(name, answer string, counter int, refuse ledger.Outcome) {
	id := s.purse.Card + name
	s.decide([]int{counter}, id, func(p *store.Purse, _ uint64) {
		r, recorded := s.ledger.Settle(p, ledger.Fresh{
			Settlement: id, Answer: answer, Counter: counter, Right: !strings.HasPrefix(answer, "wrong"), Refuse: refuse,
		}, s.now)
		s.noteRecorded(r, recorded)
	})
}

func (s *scene) noteRecorded(r ledger.Result, recorded bool) {
	again := ""
	if recorded {
		again = "recorded"
	}
	s.note(string(r.Outcome), again, settled(r.Settled), unexplained(r.Unexplained))
}

// attempt is what is recorded of an attempt.
func (s *scene) attempt(counter int, random string) store.Attempt {
	a, err := s.db.Attempt(context.Background(), s.purse, store.AttemptKey{Counter: counter, Random: random})
	must(err)
	return a
}

// state notes what is recorded of an attempt.
func (s *scene) state(counter int, random string) {
	a := s.attempt(counter, random)
	s.note(random, string(a.State), string(a.Evidence))
}

func (s *scene) highest() {
	s.decide(nil, "", func(p *store.Purse, _ uint64) { s.note(fmt.Sprintf("highest %d", p.Highest)) })
}

// fail is a wrong MAC1: whether it locked the card, and whether the card is locked.
func (s *scene) fail(times, limit int) {
	for range times {
		s.decide(nil, "", func(p *store.Purse, _ uint64) { s.note(fmt.Sprint(s.ledger.MAC1Failed(p, limit), p.Card.Locked)) })
	}
}

// lift is the officer's.
func (s *scene) lift() {
	s.decide(nil, "", func(p *store.Purse, _ uint64) { s.note(fmt.Sprint(s.ledger.Unlock(p))) })
}

// reset is the officers'.
func (s *scene) reset() {
	s.decide(nil, "", func(p *store.Purse, _ uint64) { s.note("reset", settled(s.ledger.Reset(p))) })
}

func settled(proved []store.Proved) string {
	var all []string
	for _, p := range proved {
		all = append(all, fmt.Sprintf("%s:%s/%s", p.ID, p.State, p.Evidence))
	}
	return strings.Join(all, " ")
}

func unexplained(r ledger.Range) string {
	if r.Empty() {
		return ""
	}
	return fmt.Sprintf("unexplained %d-%d", r.From, r.To)
}
