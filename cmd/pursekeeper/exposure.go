package main

import (
	"context"
	"sync"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/signer"
)

// notTried is the finding about a key that could not be tried, or not yet.
const notTried = "NOT_TRIED"

// findings are what came of the last try on each TOKEN master, for ListKeySets.
type findings struct {
	mu      sync.Mutex
	byLabel map[string]signer.Exposure
}

func newFindings() *findings { return &findings{byLabel: map[string]signer.Exposure{}} }

func (f *findings) keep(label string, found signer.Exposure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byLabel[label] = found
}

// of is the way to the finding about a key, nil for a boundary that lets card keys out anyway.
func (f *findings) of(key config.Key) func() signer.Exposure {
	if key.Boundary != keyderive.BoundaryToken {
		return nil
	}
	return func() signer.Exposure {
		f.mu.Lock()
		defer f.mu.Unlock()
		if found, ok := f.byLabel[key.Label]; ok {
			return found
		}
		return signer.Exposure{Finding: notTried, Detail: "the token has not been asked yet"}
	}
}

// exposures tries to extract a card key from each TOKEN master and says what came of it (DESIGN, §2). A key that fails closed
// cannot be tried: that is recorded too, and readiness names it.
func (n *node) exposures(ctx context.Context) (findings []audit.Entry) {
	for _, set := range n.keys.current() {
		for _, key := range set.Keys {
			if key.Boundary == keyderive.BoundaryToken && key.State != custody.Destroyed {
				findings = append(findings, n.exposure(ctx, set, key))
			}
		}
	}
	return append(findings, n.checkpointKeyFinding(ctx))
}

func (n *node) exposure(ctx context.Context, set config.KeySet, key config.Key) audit.Entry {
	finding := audit.Entry{
		Event: audit.KeyExposure, KeySet: set.Name, Boundary: key.Boundary.String(),
		Key: &audit.Key{Set: set.Name, Kind: key.Kind.String(), Version: key.Version, KCV: key.KCV.String()},
	}
	found, err := n.token.Exposure(ctx, key.Label)
	switch {
	case err != nil:
		finding.Outcome, finding.Detail = notTried, err.Error()
	case found.Extractable:
		finding.Outcome, finding.Detail = "EXTRACTABLE_BY_PIN_HOLDER", found.Detail
	default:
		finding.Outcome, finding.Detail = "NOT_EXTRACTABLE", found.Detail
	}
	n.found.keep(key.Label, signer.Exposure{Finding: finding.Outcome, Detail: finding.Detail})
	n.log.Info("key exposure", "key", key.Label, "found", finding.Outcome, "detail", finding.Detail)
	return finding
}
