package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
)

// maxFinding bounds what an entry says of rules that cannot be used, in bytes.
const maxFinding = 4000

// unusable is a revision whose rules this program cannot decide by, because a newer one wrote them, say. The node stays at the revision that it
// has: it records nothing under it, so that it does nothing for a client that officers have stopped meanwhile, and is not ready. It is
// alarmed once. reading is held.
func (n *node) unusable(ctx context.Context, revision uint64, why error) error {
	err := fmt.Errorf("the rules of the catalogue's revision %d cannot be used by this program: %w", revision, why)
	if n.keys.unusable == revision {
		return err
	}
	entry := audit.Entry{Event: audit.RulesUnusable, Outcome: "ALARM", Detail: err.Error()}
	entry.Detail = entry.Detail[:min(len(entry.Detail), maxFinding)]
	if failed := n.signer.Record(ctx, entry); failed != nil {
		return errors.Join(err, failed)
	}
	n.keys.unusable = revision
	n.alarm(audit.RulesUnusable)
	return err
}
