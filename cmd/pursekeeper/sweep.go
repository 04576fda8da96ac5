package main

import (
	"context"
	"time"

	"github.com/pursekeeper/pursekeeper/store"
)

const (
	sweepEvery = time.Hour
	// keptTotals is how long a running total stays after its hour or day was over: longer than any two nodes' clocks are apart, so that
	// nothing is charged to a total that was deleted and would begin at zero again.
	keptTotals = 3 * 24 * time.Hour
	// sweptAtOnce bounds the rows of one transaction, which requests wait for.
	sweptAtOnce = 500
)

// sweep deletes the running totals that nothing is decided on any more, each hour. Every node does: what one has deleted, another does not
// find.
func (n *node) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if _, err := sweepTotals(ctx, n.store, time.Now()); err != nil && ctx.Err() == nil {
			n.log.Warn("running totals that are over could not be deleted", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweepTotals deletes what is over, a few rows at a time.
func sweepTotals(ctx context.Context, s *store.Database, now time.Time) (swept int, err error) {
	for {
		deleted, err := s.SweepTotals(ctx, now.Add(-keptTotals), sweptAtOnce)
		swept += deleted
		if err != nil || deleted < sweptAtOnce {
			return swept, err
		}
	}
}
