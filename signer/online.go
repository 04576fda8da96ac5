package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Authorization is the answer to an authorisation.
type Authorization struct {
	Outcome       ledger.Outcome
	MAC2          string // only when APPROVED
	Command       string // the command that completes the transaction, only when APPROVED
	TransactionID string
	Date, Time    string
	Key           KeyUsed
	AuditIndex    uint64
	Settled       []store.Proved
	Detail        string
}

// layout is what the MACs of an online transaction cover: a load's, an unload's or an overdraft's of package purse.
type layout interface {
	SessionInput() [8]byte
	MAC1() purse.MAC
	MAC1Data() []byte
	MAC2Data(purse.Date, purse.Time) []byte
}

// online is a transaction that moves a purse's online counter, as its request was read: every field well-formed, nothing decided.
type online struct {
	layout
	kind  onlineKind
	set   *keySet
	card  card
	purse purse.Purse

	balance    purse.Fen // as the card answered
	counter    purse.Counter
	kver       purse.KVER
	random     purse.Random
	initialize []byte // the whole answer

	amount   uint32 // fen; of an overdraft the new limit
	oldLimit uint32 // fen; of an overdraft alone
	terminal purse.Terminal
	date     purse.Date
	time     purse.Time
	dated    bool // the caller gave date and time

	complete func(purse.Date, purse.Time, purse.MAC) purse.APDU // what carries MAC2 to the card
}

// onlineKind is what tells the three online transactions apart outside their bytes.
type onlineKind struct {
	authorize, confirm policy.Operation
	operation          string         // in the ledger and in transaction ids
	key                keyderive.Kind // whose session key makes MAC1 and MAC2
	noun               string         // in errors
	certificate        string         // the field of the value that confirms it: tac, or mac3
}

var (
	loading = onlineKind{
		authorize: policy.AuthorizeLoad, confirm: policy.ConfirmLoad, operation: ledger.Load, key: keyderive.KindLoad,
		noun: "a load", certificate: "tac",
	}
	unloading = onlineKind{
		authorize: policy.AuthorizeUnload, confirm: policy.ConfirmUnload, operation: ledger.Unload, key: keyderive.KindUnload,
		noun: "an unload", certificate: "mac3",
	}
	overdrawing = onlineKind{
		authorize: policy.AuthorizeOverdraft, confirm: policy.ConfirmOverdraft, operation: ledger.Overdraft, key: keyderive.KindOverdraft,
		noun: "a change of the overdraft limit", certificate: "tac",
	}
)

// authorize is the operation behind the permission: steps 2 to 5 of DESIGN, §3.
func (s view) authorize(ctx context.Context, caller policy.Caller, grant policy.Grant, o online) (Authorization, error) {
	if !grant.Allows(o.kind.authorize, o.set.Name) {
		return Authorization{}, errNoGrant
	}
	entry := s.entry(caller, grant, o.kind.authorize, o.recorded())
	key := o.set.version(o.kind.key, int(o.kver))
	if !key.For(o.kind.authorize).Signs() {
		detail := fmt.Sprintf("no active %v key has the card's KVER", o.kind.key)
		return s.refuse(ctx, entry, o.set.refusedKey(o.kind.key, int(o.kver)), detail)
	}
	used := o.set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary

	mac2, err := o.answer(ctx, key)
	if errors.Is(err, keyderive.ErrMismatch) {
		return s.mac1Failed(ctx, o, entry, used)
	}
	if err != nil {
		return Authorization{}, err
	}
	return s.commitOnline(ctx, grant, o, entry, used, mac2)
}

// answer verifies MAC1 and computes MAC2, on the token as far as the key's boundary says. MAC2 is four bytes in ordinary
// memory from here on: it is no secret, but it does not leave before it is recorded.
func (o online) answer(ctx context.Context, key Version) (purse.MAC, error) {
	return o.set.master(key, o.card).Exchange(ctx, keyderive.Exchange{
		Card: o.card.factor, In: o.SessionInput(), Proof: o.MAC1Data(), Got: o.MAC1(), Issue: o.MAC2Data(o.date, o.time),
	})
}

// commitOnline is step 5 of DESIGN, §3: the decision, the attempt and the entry in one transaction; only then MAC2 leaves.
func (s view) commitOnline(ctx context.Context, grant policy.Grant, o online, entry audit.Entry, used KeyUsed, mac2 purse.MAC) (
	Authorization, error,
) {
	step := onlineStep{
		online: o, ledger: s.ledger, entry: entry, used: used, plan: o.limits(grant, entry), attempt: o.attempt(used, mac2),
		mac1: s.watchRight(o.subject(entry), entry),
	}
	step.attempt.CreatedAt, step.attempt.Client, step.attempt.Buckets = entry.Time, entry.Client, step.plan.Buckets()
	change := store.Change{
		Purse: o.purseKey(), Counters: []int{int(o.counter)}, Totals: slices.Concat(step.plan.Totals(), step.mac1.named(false)),
		Decide: step.decide, Committed: func() { s.raise(step.alarms) },
	}
	err := s.commit(ctx, change)
	if errors.Is(err, errToCount) {
		step.counting, step.conflicts = true, s.watch(policy.CounterConflicts, o.subject(entry), entry)
		change.Totals = append(change.Totals, step.conflicts.totals()...)
		err = s.commit(ctx, change)
	}
	if err != nil {
		return Authorization{}, err
	}
	if step.answer.Outcome == ledger.Approved {
		return o.withCommand(step.answer)
	}
	return step.answer, nil
}

const detailLocked = "repeated wrong MAC1s locked this card; an officer must lift the lock"

// mac1Failed counts and records a wrong MAC1: no MAC2 was computed.
func (s view) mac1Failed(ctx context.Context, o online, entry audit.Entry, used KeyUsed) (Authorization, error) {
	var answer Authorization
	var alarms []audit.Event
	mac1 := s.watch(policy.MAC1Failures, o.subject(entry), entry)
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: o.purseKey(), Committed: func() { s.raise(alarms) }, Totals: mac1.totals(),
		Decide: func(p *store.Purse, index uint64) (entries []audit.Entry, err error) {
			answer = Authorization{Outcome: ledger.MACMismatch, Key: used, AuditIndex: index}
			alarms = nil
			if outcome, detail := shut(p, mac1); outcome != "" {
				answer.Outcome, answer.Detail = outcome, detail
				return []audit.Entry{refused(entry, answer)}, nil
			}
			entries, alarms = s.countMAC1(p, o.set, mac1, []audit.Entry{refused(entry, answer)}, nil)
			return entries, nil
		},
	})
	if err != nil {
		return Authorization{}, err
	}
	return answer, nil
}

// countMAC1 counts a wrong MAC1 against its card, its terminal and its client, and adds the alarms that are reached. The first of the entries is
// the request's own.
func (s view) countMAC1(p *store.Purse, set *keySet, mac1 watched, entries []audit.Entry, alarms []audit.Event) ([]audit.Entry, []audit.Event) {
	if s.ledger.MAC1Failed(p, set.MAC1Failures) {
		entries, alarms = append(entries, alarmEntry(entries[0], audit.CardLocked, detailLocked)), append(alarms, audit.CardLocked)
	}
	return mac1.count(p, 1, entries, alarms)
}

// refuse records that no key may do what was asked: neither token nor purse was touched.
func (s view) refuse(ctx context.Context, entry audit.Entry, key KeyUsed, detail string) (Authorization, error) {
	answer := Authorization{Outcome: ledger.KeyNotActive, Key: key, Detail: detail}
	entry.Key, entry.Boundary = &key.Key, key.Boundary
	err := s.commit(ctx, store.Change{Decide: func(_ *store.Purse, index uint64) ([]audit.Entry, error) {
		answer.AuditIndex = index
		return []audit.Entry{refused(entry, answer)}, nil
	}})
	if err != nil {
		return Authorization{}, err
	}
	return answer, nil
}

// judged detaches a commit from its caller's deadline: what a card's MAC was found to be is counted and recorded although the
// caller leaves, or guesses would be free to whoever hangs up first.
func judged(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), judgementTime)
}

// judgementTime bounds a detached commit.
const judgementTime = 5 * time.Second

// raise runs on the store's committing goroutine, once an alarm's entry is durable.
func (s view) raise(alarms []audit.Event) {
	for _, a := range alarms {
		s.alarm(a)
	}
}

func (o online) purseKey() store.PurseKey {
	return store.PurseKey{KeySet: o.set.Name, Card: o.card.id, Purse: o.purse.String()}
}

// asked is the request as the ledger compares it.
func (o online) asked() ledger.Answer {
	a := ledger.Answer{
		Operation: o.kind.operation, Counter: int(o.counter), Random: o.random.String(),
		Amount: o.amount, Terminal: o.terminal.String(),
	}
	if o.dated {
		a.Date, a.Time = o.date.String(), o.time.String()
	}
	return a
}

func (o online) transaction() transaction {
	return transaction{
		purse: o.purseKey(), operation: o.kind.operation,
		key: store.AttemptKey{Counter: int(o.counter), Random: o.random.String()},
	}
}

// attempt is what step 5 records, but for its audit index.
func (o online) attempt(used KeyUsed, mac2 purse.MAC) *store.Attempt {
	t := o.transaction()
	a := &store.Attempt{
		AttemptKey: t.key, ID: t.String(), Operation: t.operation,
		Amount: o.amount, OldLimit: o.oldLimit, Balance: uint32(o.balance), Terminal: o.terminal.String(),
		Date: o.date.String(), Time: o.time.String(),
		KeyVersion: used.Version, KCV: used.KCV, Boundary: used.Boundary, MAC2: upperHex(mac2[:]),
	}
	if o.set.Issuer.FromCard {
		a.IssuerID = o.card.issuer.String()
	}
	return a
}

// recorded is the part of an entry that the request fixes.
func (o online) recorded() audit.Entry {
	return audit.Entry{
		KeySet: o.set.Name, Card: o.card.id, Purse: o.purse.String(), Transaction: o.transaction().String(),
		Inputs: audit.Inputs{
			Initialize: upperHex(o.initialize), AmountFen: uint64(o.amount), Terminal: o.terminal.String(),
			Date: o.date.String(), Time: o.time.String(),
		},
	}
}

// authorization turns the ledger's result into the answer; a recorded attempt answers with what is recorded.
func (o online) authorization(r ledger.Result, used KeyUsed, index uint64) Authorization {
	a := Authorization{Outcome: r.Outcome, Key: used, AuditIndex: index, Settled: r.Settled, Detail: r.Reason}
	if r.Attempt == nil {
		return a
	}
	a.Date, a.Time = r.Attempt.Date, r.Attempt.Time
	if r.Outcome == ledger.CounterConflict {
		return a
	}
	a.TransactionID = r.Attempt.ID
	a.AuditIndex = r.Attempt.AuditIndex
	if r.Outcome == ledger.Approved {
		a.MAC2 = r.Attempt.MAC2
	}
	return a
}

// withCommand adds the command that completes an approved transaction, of what is recorded.
func (o online) withCommand(a Authorization) (Authorization, error) {
	mac2, err := purse.ParseMAC("mac2", a.MAC2)
	if err != nil {
		return Authorization{}, err
	}
	d, err := purse.ParseDate(a.Date)
	if err != nil {
		return Authorization{}, err
	}
	t, err := purse.ParseTime(a.Time)
	if err != nil {
		return Authorization{}, err
	}
	a.Command = o.complete(d, t, mac2).Hex()
	return a, nil
}
