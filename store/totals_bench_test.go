package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// BenchmarkTotals is the processor time of a fresh load's commit, 64 callers at once, with no running total, with one, and with five: three of the
// load's own and two that all loads share. Each is measured in turn in one run, so that the ratios mean something on a busy machine.
func BenchmarkTotals(b *testing.B) {
	const loads = 2000
	kinds := []int{0, 1, 5}
	used := make([]time.Duration, len(kinds))
	stores := make([]store.Store, len(kinds))
	next := make([]func(int) store.Change, len(kinds))
	for i, totals := range kinds {
		stores[i] = openSQLite(b, placeSQLite(b))
		defer stores[i].Close()
		next[i] = chargedLoads(totals)
	}
	for round := 0; b.Loop(); round++ {
		for i := range kinds {
			before := processorTime(b)
			runCallers(b, stores[i], 64, loads, func(n int) store.Change { return next[i](round*loads + n) })
			used[i] += processorTime(b) - before
		}
	}
	for i, totals := range kinds {
		b.ReportMetric(float64(used[i].Microseconds())/float64(b.N*loads), fmt.Sprintf("µs/load-%d-totals", totals))
	}
	b.ReportMetric(float64(used[1])/float64(used[0]), "ratio-1")
	b.ReportMetric(float64(used[2])/float64(used[0]), "ratio-5")
}

// chargedLoads are loads of fresh cards that are charged to so many totals.
func chargedLoads(totals int) func(int) store.Change {
	fresh := freshLoads()
	return func(n int) store.Change {
		c := fresh(n)
		buckets := []string{
			"card-day-0f1e2d3c4b5a6978|gd-purse/" + c.Purse.Card + "|20240131", "card-hour-0f1e2d3c4b5a6978|gd-purse/" + c.Purse.Card + "|20240131T1500Z",
			fmt.Sprintf("terminal-day-0f1e2d3c4b5a6978|gd-purse/%012d|20240131", n), "client-day-0f1e2d3c4b5a6978|platform|20240131",
			"client-hour-0f1e2d3c4b5a6978|platform|20240131T1500Z",
		}[:totals]
		c = named(c, buckets...)
		decide := c.Decide
		c.Decide = func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			entries, err := decide(p, index)
			for _, a := range p.At(7) {
				a.Buckets = buckets
			}
			for _, bucket := range buckets {
				p.Total(bucket)
			}
			return entries, err
		}
		return c
	}
}
