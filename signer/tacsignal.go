package signer

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// mostWatched bounds the terminals of one batch that are counted each by itself: those with the most wrong TACs.
const mostWatched = 64

// batchFailures are the wrong TACs of a batch, by terminal, and those of all terminals together for its client.
type batchFailures struct {
	client    watched
	all       int
	terminals []terminalFailures
}

type terminalFailures struct {
	watched
	failures int
}

// watchBatch counts the wrong TACs of a batch.
func (s view) watchBatch(b *tacBatch, entry audit.Entry) (f batchFailures) {
	type place struct{ keySet, terminal string }
	wrong := map[place]int{}
	for i := range b.results {
		if r := &b.results[i]; r.Err == nil && r.Outcome == ledger.TACMismatch {
			wrong[place{r.Key.Set, b.tacs[i].terminal.String()}]++
			f.all++
		}
	}
	f.client = s.watch(policy.TACFailures, policy.Subject{Client: entry.Client}, entry)
	places := slices.SortedFunc(maps.Keys(wrong), func(a, b place) int {
		return cmp.Or(cmp.Compare(wrong[b], wrong[a]), cmp.Compare(a.keySet, b.keySet), cmp.Compare(a.terminal, b.terminal))
	})
	for _, at := range places[:min(len(places), mostWatched)] {
		one := s.watch(policy.TACFailures, policy.Subject{KeySet: at.keySet, Client: entry.Client, Terminal: at.terminal}, entry)
		f.terminals = append(f.terminals, terminalFailures{one, wrong[at]})
	}
	return f
}

// totals are what count looks at: nothing where nothing was wrong.
func (f batchFailures) totals() (buckets []store.Bucket) {
	if f.all == 0 {
		return nil
	}
	buckets = f.client.totals()
	for _, t := range f.terminals {
		buckets = append(buckets, t.totals()...)
	}
	return buckets
}

// count counts them, and adds the alarms that are reached. The first of the entries is the batch's own.
func (f batchFailures) count(p *store.Purse, entries []audit.Entry, alarms []audit.Event) ([]audit.Entry, []audit.Event) {
	if f.all == 0 {
		return entries, alarms
	}
	entries, alarms = f.client.count(p, f.all, entries, alarms)
	for _, t := range f.terminals {
		entries, alarms = t.countTerminal(p, t.failures, entries, alarms)
	}
	return entries, alarms
}
