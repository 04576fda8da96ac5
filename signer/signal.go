package signer

import (
	"errors"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// mostTerminals bounds the terminals that are counted each by itself for one client in one hour: a terminal is a number that a client
// writes, and one that wrote many would make many rows. What is beyond is counted together.
const mostTerminals = 1000

// errToCount says that a change must name the counts of a signal and be decided again: they are read only where there is something to count.
var errToCount = errors.New("something is to be counted")

// watched is one thing that is watched, of one request.
type watched struct {
	subject  policy.Subject
	terminal watchedCount // without a bucket where no terminal is counted
	client   watchedCount
	opened   store.Bucket // how many terminals of the client are counted each by itself
	rest     watchedCount // those of the client that are not
	event    audit.Event
	noun     string
}

// watchedCount is the count of one signal.
type watchedCount struct {
	policy.Signal
	store.Bucket
	whose string
}

func (c watchedCount) end() string { return c.Until.UTC().Format(time.RFC3339) }

func (c watchedCount) refusal() string { return detailRefused + c.whose + " until " + c.end() }

var watchedAs = map[policy.Watch]struct {
	event audit.Event
	noun  string
}{
	policy.MAC1Failures:     {audit.MAC1Failures, "wrong MAC1s"},
	policy.CounterConflicts: {audit.CounterConflicts, "counter conflicts"},
	policy.TACFailures:      {audit.TACFailures, "wrong TACs and MAC3s"},
}

// watch finds what a request counts in, in the hour of its entry. A subject without a terminal counts in its client's alone.
func (s view) watch(watch policy.Watch, subject policy.Subject, entry audit.Entry) watched {
	signals := s.keys.policy.Signals()
	w := watched{subject: subject, event: watchedAs[watch].event, noun: watchedAs[watch].noun}
	w.client = newWatchedCount(signals.Of(watch, policy.PerClient), subject, entry.Time, "client "+subject.Client)
	if subject.Terminal == "" {
		return w
	}
	perTerminal := signals.Of(watch, policy.PerTerminal)
	w.terminal = newWatchedCount(perTerminal, subject, entry.Time, "terminal "+subject.Terminal)
	beyond := func(name string) store.Bucket {
		return store.Bucket{Name: fmt.Sprintf("%s-%s|%s", watch, name, w.client.Name), Until: w.client.Until}
	}
	w.opened = beyond("terminals")
	w.rest = watchedCount{perTerminal, beyond("rest"), "client " + subject.Client + " at further terminals"}
	return w
}

func newWatchedCount(signal policy.Signal, subject policy.Subject, at time.Time, whose string) watchedCount {
	c := watchedCount{Signal: signal, whose: whose}
	c.Name, c.Until = signal.Bucket(subject, at)
	return c
}

// watchRight is what a request with a right MAC1 may be refused for: the zero watched, which refuses nothing, where nobody can be.
func (s view) watchRight(subject policy.Subject, entry audit.Entry) watched {
	if !s.keys.policy.Signals().Refuse() {
		return watched{}
	}
	return s.watch(policy.MAC1Failures, subject, entry)
}

// totals are what count and refuses look at.
func (w watched) totals() []store.Bucket {
	if w.terminal.Name == "" {
		return []store.Bucket{w.client.Bucket}
	}
	return []store.Bucket{w.client.Bucket, w.terminal.Bucket, w.opened, w.rest.Bucket}
}

// refusing is totals where somebody may be refused, and else nothing: then refuses looks at nothing.
func (w watched) refusing() []store.Bucket {
	if !w.client.Refuse && !w.terminal.Refuse {
		return nil
	}
	return w.totals()
}

// named are the totals that a change must name: all where there is a failure to count.
func (w watched) named(failed bool) []store.Bucket {
	if failed {
		return w.totals()
	}
	return w.refusing()
}

// counts is where a failure of the request's terminal is counted: in its own row, or in the rest where it has none and gets none. fresh says
// that the row would be new.
func (w watched) counts(p *store.Purse) (count watchedCount, fresh bool) {
	switch {
	case p.Total(w.terminal.Name).Count > 0:
		return w.terminal, false
	case p.Total(w.opened.Name).Count >= mostTerminals:
		return w.rest, false
	}
	return w.terminal, true
}

// refuses says why no MAC1 of the request is answered, "" when one is. It tells nothing of this one.
func (w watched) refuses(p *store.Purse) (detail string) {
	if len(w.refusing()) == 0 {
		return ""
	}
	all := []watchedCount{w.client}
	if w.terminal.Name != "" {
		count, _ := w.counts(p)
		all = append(all, count)
	}
	for _, c := range all {
		if c.Refuse && p.Total(c.Name).Count >= c.AlarmCount {
			return c.refusal()
		}
	}
	return ""
}

// detailRefused begins the detail of an entry whose MAC1 was not told: a replay knows it by that.
const detailRefused = "repeated wrong MAC1s: none is answered of "

// count counts n failures for the client and the terminal, and adds the alarms that are reached. The first of the entries is the request's
// own.
func (w watched) count(p *store.Purse, n int, entries []audit.Entry, alarms []audit.Event) ([]audit.Entry, []audit.Event) {
	entries, alarms = w.add(p, w.client, n, entries, alarms)
	if w.terminal.Name == "" {
		return entries, alarms
	}
	return w.countTerminal(p, n, entries, alarms)
}

// countTerminal counts n failures for the terminal alone.
func (w watched) countTerminal(p *store.Purse, n int, entries []audit.Entry, alarms []audit.Event) ([]audit.Entry, []audit.Event) {
	count, fresh := w.counts(p)
	if fresh {
		p.Count(w.opened.Name, 1)
	}
	return w.add(p, count, n, entries, alarms)
}

func (w watched) add(p *store.Purse, c watchedCount, n int, entries []audit.Entry, alarms []audit.Event) ([]audit.Entry, []audit.Event) {
	total := p.Count(c.Name, n)
	if total.Count < c.AlarmCount || total.AlarmedCount >= c.AlarmCount {
		return entries, alarms
	}
	p.Alarmed(c.Name, 0, c.AlarmCount)
	detail := fmt.Sprintf("%d %s of %s in the hour that ends at %s", total.Count, w.noun, c.whose, c.end())
	entries, alarms = append(entries, alarmEntry(entries[0], w.event, detail)), append(alarms, w.event)
	if c.Refuse {
		entries, alarms = append(entries, alarmEntry(entries[0], audit.MAC1Refused, c.refusal())), append(alarms, audit.MAC1Refused)
	}
	return entries, alarms
}
