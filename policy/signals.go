package policy

import (
	"fmt"
	"slices"
	"time"
)

// Watch is what a signal counts.
type Watch string

// What is watched, by the hour.
const (
	MAC1Failures     Watch = "mac1Failures"     // wrong MAC1s of online transactions and settlements
	CounterConflicts Watch = "counterConflicts" // recorded answers of a card, shown with another request
	TACFailures      Watch = "tacFailures"      // wrong TACs and MAC3s
)

// Signal is a count of one hour that alarms when it is first reached. It is per terminal or per client; a card has its lock.
type Signal struct {
	Watch      Watch
	Per        Per
	AlarmCount int64
	// Refuse: from then on and for the rest of the hour no MAC1 of it is answered, right or wrong. Of MAC1Failures alone.
	Refuse bool
}

// Signals are all that is watched, each (Watch, Per) once. The zero Signals are the default ones.
type Signals struct{ changed []Signal }

// defaultSignals are on without a word of a document.
var defaultSignals = []Signal{
	{Watch: MAC1Failures, Per: PerTerminal, AlarmCount: 10},
	{Watch: MAC1Failures, Per: PerClient, AlarmCount: 100},
	{Watch: CounterConflicts, Per: PerTerminal, AlarmCount: 10},
	{Watch: CounterConflicts, Per: PerClient, AlarmCount: 100},
	{Watch: TACFailures, Per: PerTerminal, AlarmCount: 10},
	{Watch: TACFailures, Per: PerClient, AlarmCount: 100},
}

// Of is the signal of what is watched; every Watch has one per terminal and one per client.
func (s Signals) Of(watch Watch, per Per) Signal {
	for _, list := range [][]Signal{s.changed, defaultSignals} {
		for _, one := range list {
			if one.Watch == watch && one.Per == per {
				return one
			}
		}
	}
	panic(fmt.Sprintf("bug: nothing watches %s per %s", watch, per))
}

// Refuse reports whether any signal refuses.
func (s Signals) Refuse() bool {
	return slices.ContainsFunc(s.changed, func(one Signal) bool { return one.Refuse })
}

// Bucket names the count of a signal in the hour of an instant, which is of UTC: a client has cards of several time zones.
//
//	WATCH-PER|SUBJECT|HOUR      mac1Failures-terminal|gd-purse/112233445566|20240131T1500Z
func (s Signal) Bucket(subject Subject, at time.Time) (name string, until time.Time) {
	whose := clientSubject.Replace(subject.Client)
	if s.Per == PerTerminal {
		whose = subject.KeySet + "/" + subject.Terminal
	}
	label, until := Hour.of(at.UTC())
	return fmt.Sprintf("%s-%s|%s|%s", s.Watch, s.Per, whose, label), until
}

// signalEntry is a signal as an officer writes it.
type signalEntry struct {
	Watch      string `yaml:"watch"`
	Per        string `yaml:"per"`
	AlarmCount *int64 `yaml:"alarmCount"`
	Refuse     bool   `yaml:"refuse"`
}

// signals reads the signals that are other than by default.
func (r *limitsReader) signals(entries []signalEntry) (s Signals) {
	for i, e := range entries {
		at := fmt.Sprintf("signals[%d]", i)
		one := Signal{Watch: Watch(e.Watch), Per: Per(e.Per), Refuse: e.Refuse}
		switch one.Watch {
		case MAC1Failures, CounterConflicts, TACFailures:
		default:
			r.refuse(at+".watch", "%q, expected %s, %s or %s", e.Watch, MAC1Failures, CounterConflicts, TACFailures)
		}
		if one.Per != PerTerminal && one.Per != PerClient {
			r.refuse(at+".per", "%q, expected terminal or client", e.Per)
		}
		switch {
		case e.AlarmCount == nil:
			r.refuse(at, "has no alarmCount")
		case *e.AlarmCount < 1 || *e.AlarmCount > mostCount:
			r.refuse(at+".alarmCount", "is %d, expected 1 to %d", *e.AlarmCount, mostCount)
		default:
			one.AlarmCount = *e.AlarmCount
		}
		if one.Refuse && one.Watch != MAC1Failures {
			r.refuse(at+".refuse", "only %s can be refused", MAC1Failures)
		}
		for _, earlier := range s.changed {
			if earlier.Watch == one.Watch && earlier.Per == one.Per {
				r.refuse(at, "%s per %s is there twice", one.Watch, one.Per)
			}
		}
		s.changed = append(s.changed, one)
	}
	return s
}
