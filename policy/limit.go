package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Per is what a limit's amounts are added up over.
type Per string

// What a limit may be per. A transaction and a balance are no running totals: their limits have no period, no count and no alarm.
const (
	PerTransaction Per = "transaction" // the amount of one; of an overdraft the new limit
	PerBalance     Per = "balance"     // the card's balance and the amount together
	PerCard        Per = "card"        // of a key set: both its purses, unless the limit names one
	PerClient      Per = "client"
	PerTerminal    Per = "terminal" // of a key set
)

// Period is how long a running total lasts, in the time zone of the key set and by the signer's clock.
type Period string

// The periods. NoPeriod is that of a transaction and a balance.
const (
	NoPeriod Period = ""
	Hour     Period = "hour"
	Day      Period = "day"
)

// Limit is one limit of the document: to which requests it applies, over what it adds up, and how much that may be. An empty list is all.
type Limit struct {
	Name       string
	Operations []Operation // never empty
	KeySets    []string
	Clients    []string
	Roles      []Role
	Purses     []string // "ED", "EP"
	Terminals  []string // 12 hex digits

	Per    Per
	Period Period
	// 0 is no such number. A total that would be above a maximum is refused; one that reaches an alarm is alarmed.
	MaxFen, MaxCount, AlarmFen, AlarmCount int64

	// Total, when not "", says that this is no limit of a document: it keeps a running total that policies mention, and has no number.
	Total TotalName

	scope       string // Scope, once it is known
	document    string
	keySetLines []int // of KeySets, in the document
}

// Subject is whose request a limit or a signal is about.
type Subject struct {
	Operation            Operation
	KeySet, Client, Card string
	Role                 Role
	Purse, Terminal      string
}

// Running reports whether the limit is over a running total.
func (l *Limit) Running() bool { return l.Period != NoPeriod }

// mayApply reports whether the limit is one of the subject's requests, as far as a Grant knows them: whatever the purse and the terminal.
func (l *Limit) mayApply(s Subject) bool {
	return slices.Contains(l.Operations, s.Operation) && has(l.KeySets, s.KeySet) && has(l.Clients, s.Client) && has(l.Roles, s.Role)
}

// Covers reports whether a limit of a Grant is one of requests for the purse at the terminal.
func (l *Limit) Covers(purse, terminal string) bool {
	return has(l.Purses, purse) && has(l.Terminals, terminal)
}

// has reports whether a list of a limit covers a value: an empty one covers all.
func has[T comparable](list []T, value T) bool { return len(list) == 0 || slices.Contains(list, value) }

// Scope identifies the running totals of a limit: its filter, what it is per, and its period, but no number, so that a change of a number
// keeps the total. Two limits of one scope have one total.
func (l *Limit) Scope() string {
	if l.scope != "" {
		return l.scope
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q", l.Per, l.Period, slices.Sorted(slices.Values(l.Operations)),
		slices.Sorted(slices.Values(l.KeySets)), slices.Sorted(slices.Values(l.Clients)), slices.Sorted(slices.Values(l.Roles)),
		slices.Sorted(slices.Values(l.Purses)), slices.Sorted(slices.Values(l.Terminals))))
	return fmt.Sprintf("%s-%s-%s", l.Per, l.Period, hex.EncodeToString(sum[:8]))
}

// Bucket names the running total that a request at an instant is added to, and says when its period is over. The instant is in the key set's
// time zone.
//
//	SCOPE|SUBJECT|PERIOD      card-day-0f1e2d3c4b5a6978|gd-purse/3105228000001117|20240131
//
// A day is its date where the key set is. An hour is the instant at which it began there, in UTC: where a clock is put back, the hour
// that comes twice is two.
func (l *Limit) Bucket(s Subject, at time.Time) (name string, until time.Time) {
	subject := clientSubject.Replace(s.Client)
	switch l.Per {
	case PerCard:
		subject = s.KeySet + "/" + s.Card
	case PerTerminal:
		subject = s.KeySet + "/" + s.Terminal
	}
	label, until := l.Period.of(at)
	return l.Scope() + "|" + subject + "|" + label, until
}

// clientSubject writes a client's name so that none can pass for another's bucket, nor for two.
var clientSubject = strings.NewReplacer("%", "%25", "|", "%7C", ",", "%2C")

// of is the name and the end of the period that holds an instant.
func (p Period) of(at time.Time) (label string, until time.Time) {
	if p == Hour {
		begin := at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
		return begin.UTC().Format("20060102T1504Z"), begin.Add(time.Hour)
	}
	year, month, day := at.Date()
	return at.Format("20060102"), time.Date(year, month, day+1, 0, 0, 0, 0, at.Location())
}
