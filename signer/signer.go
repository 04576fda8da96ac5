// Package signer is the operations: permission, then the key, then the MAC, then the durable record, then the answer.
//
// Every operation goes down the house once and back once. The caller comes first: no operation computes before
// policy.Decide has granted it. A MAC that the signer issues leaves only after the transaction that records it is durable;
// when the store cannot say so, the operation has failed and the MAC is dropped.
package signer

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// How long things are good for, unless Config says otherwise.
const (
	DefaultSettlementLife = 5 * time.Minute // a settlement's terminal number
	DefaultChallengeLife  = 2 * time.Minute // a challenge to a reader's secure module
	DefaultSessionLife    = 8 * time.Hour   // a session with one, once it has proved its key
)

// Config is what New needs. Policy and Store have no default: no recorder, no start.
type Config struct {
	Policy *policy.Policy // until Use gives another; the zero Policy denies everything
	Store  store.Store
	// KeySets are those that no officers decide on, which stay as they are. Without them there are none until Use.
	KeySets []KeySet
	// Office is where officers change the catalogue; nil: the key sets are the configuration's, and nobody does.
	Office *custody.Office
	// Reload gives the newest catalogue to Use. It is called when an operation found that officers changed the catalogue meanwhile,
	// by several goroutines at once. nil: nothing is followed.
	Reload         func(context.Context) error
	Sealed         SealedRecord      // nil: auditors are shown none
	SettlementLife time.Duration     // 0: DefaultSettlementLife
	ChallengeLife  time.Duration     // 0: DefaultChallengeLife
	SessionLife    time.Duration     // 0: DefaultSessionLife
	Now            func() time.Time  // nil: the system's clock
	Random         io.Reader         // nil: crypto/rand; terminal numbers and settlement ids
	Alarm          func(audit.Event) // nil: none; called after an alarm's entry is durable
	Turns          Turns             // nil: long work goes on as it comes
	Past           Past              // what Replay reads; nil: nothing can be replayed
	Ledger         ledger.Ledger     // the zero value, which applies every rule; nothing else can be made outside its tests
}

// Signer is the service. It keeps no state of its own between requests, but which keys it goes by.
type Signer struct {
	*service
	current atomic.Pointer[snapshot] // never nil
	reload  func(context.Context) error
	office  *custody.Office // nil: none
	newest  together        // reads the catalogue for callers who are not known, and for those who look
}

// service is what of a Signer does not change.
type service struct {
	store  store.Store
	life   time.Duration
	reader readerLives
	now    func() time.Time
	random io.Reader
	alarm  func(audit.Event)
	ledger ledger.Ledger

	turns     Turns
	sealed    SealedRecord
	listing   chan struct{} // holds one for each page of the sealed record that is read
	past      Past
	replaying chan struct{}                              // holds the one replay that runs
	rest      func(context.Context, time.Duration) error // between the entries of a replay
}

// New validates the configuration.
func New(c Config) (*Signer, error) {
	if c.Policy == nil || c.Store == nil {
		return nil, errors.New("signer: a policy and a store are needed")
	}
	s := &Signer{reload: c.Reload, office: c.Office, service: &service{
		store: c.Store, life: c.SettlementLife, now: c.Now, random: c.Random, alarm: c.Alarm, ledger: c.Ledger,
		sealed: c.Sealed, listing: make(chan struct{}, pagesAtOnce), past: c.Past, replaying: make(chan struct{}, 1), rest: resting,
	}}
	s.reader = readerLives{challenge: cmp.Or(c.ChallengeLife, DefaultChallengeLife), session: cmp.Or(c.SessionLife, DefaultSessionLife)}
	if s.life == 0 {
		s.life = DefaultSettlementLife
	}
	if s.turns = c.Turns; s.turns == nil {
		s.turns = freely{}
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	if s.alarm == nil {
		s.alarm = func(audit.Event) {}
	}
	if s.reload == nil {
		s.reload = func(context.Context) error { return nil }
	}
	keys, err := newSnapshot(0, c.Policy, c.KeySets, s.now())
	if err != nil {
		return nil, err
	}
	s.current.Store(keys)
	return s, nil
}

// NotFoundError says that a request names something that does not exist.
type NotFoundError struct{ Field, Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s: %q is not known", e.Field, e.Name) }

// KeyUsed names the key of an answer.
type KeyUsed struct {
	audit.Key
	Boundary string
}

// Refuse records a caller who was refused for his certificate, or for the names in it.
func (s *Signer) Refuse(ctx context.Context, names []string, reason string) error {
	_, err := withKeys(ctx, s, func(s view) (struct{}, error) {
		return struct{}{}, s.record(ctx, audit.Entry{
			Event: identifyEvent, Outcome: outcomeDenied, Detail: fmt.Sprintf("%s: %s", reason, firstOfNames(names)), Policy: s.keys.policy.Digest(),
		})
	})
	return err
}

// firstOfNames writes names for the record; a certificate may carry more, and longer ones, than an entry has room for.
func firstOfNames(names []string) string {
	const atMost, longest = 8, 256
	more := ""
	if len(names) > atMost {
		names, more = names[:atMost], fmt.Sprintf(" and %d more", len(names)-atMost)
	}
	short := make([]string, len(names))
	for i, name := range names {
		short[i] = name[:min(len(name), longest)]
	}
	return fmt.Sprintf("%q", short) + more
}

// identifyEvent is that of a caller who is no client, or whose certificate is not good.
const identifyEvent audit.Event = "Identify"

const outcomeDenied = "PERMISSION_DENIED"

// permit asks the policy, with what is known of the request beside its key set. A denial is recorded before it is returned.
func (s view) permit(ctx context.Context, caller policy.Caller, op policy.Operation, keySetName string, about audit.Entry, asked policy.Context) (
	*keySet, policy.Grant, error,
) {
	set := s.keys.sets[keySetName]
	if set == nil {
		return nil, policy.Grant{}, &NotFoundError{Field: "keySet", Name: keySetName}
	}
	grant, err := s.keys.policy.Decide(policy.Request{Caller: caller, Operation: op, KeySet: keySetName, Context: s.context(set, asked)})
	if err == nil && grant.Late() && op != policy.AuthorizeLoad && op != policy.AuthorizeUnload {
		return nil, policy.Grant{}, errLate
	}
	if err == nil {
		return set, grant, nil
	}
	return nil, policy.Grant{}, s.denial(ctx, caller, op, about, err)
}

// denial records that the policy denied what is about, and returns why; one that cannot be recorded is the store's error.
func (s view) denial(ctx context.Context, caller policy.Caller, op policy.Operation, about audit.Entry, why error) error {
	entry := s.entry(caller, policy.Grant{}, op, about)
	entry.Outcome, entry.Detail, entry.Policy = outcomeDenied, why.Error(), s.keys.policy.Digest()
	if failed := s.record(ctx, entry); failed != nil {
		return failed
	}
	return why
}

// denied records a denial that what is recorded gives cause for, beside the policy's, and returns it.
func (s view) denied(ctx context.Context, entry audit.Entry, reason string) error {
	denied := &policy.Denied{Reason: reason}
	entry.Outcome, entry.Detail = outcomeDenied, denied.Error()
	if err := s.record(ctx, entry); err != nil {
		return err
	}
	return denied
}

// errLate is a bug: policies on running totals are judged where an amount is recorded, and nowhere else.
var errLate = errors.New("bug: a grant waits for running totals, of an operation that has none")

// errNoGrant is a bug: an operation was reached around permit.
var errNoGrant = errors.New("bug: an operation was called without its grant")

// entry fills in who asked, what, and under which policy.
func (s view) entry(caller policy.Caller, grant policy.Grant, op policy.Operation, e audit.Entry) audit.Entry {
	e.Time = s.now()
	e.Event = audit.Event(op)
	e.Client, e.Role, e.Policy = caller.Name(), s.keys.policy.Role(caller), grant.Policy()
	return e
}

// record writes one entry that decides nothing.
func (s view) record(ctx context.Context, e audit.Entry) error {
	if e.Time.IsZero() {
		e.Time = s.now()
	}
	return s.commit(ctx, store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return []audit.Entry{e}, nil
	}})
}

// Record writes entries about the service itself, in order.
func (s *Signer) Record(ctx context.Context, entries ...audit.Entry) error {
	for _, e := range entries {
		if err := (view{s.service, &snapshot{}}).record(ctx, e); err != nil { // whatever keys there are
			return err
		}
	}
	return nil
}

// Start records that the service runs, with what it found out about its keys. It is the first entry of a run.
func (s *Signer) Start(ctx context.Context, findings []audit.Entry) error {
	start := audit.Entry{Event: audit.Started, Outcome: "OK", Policy: s.current.Load().policy.Digest()}
	return s.Record(ctx, append([]audit.Entry{start}, findings...)...)
}
