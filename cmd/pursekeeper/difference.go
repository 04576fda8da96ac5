package main

import (
	"context"
	"slices"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
)

// findings is what a start records beside itself: what came of the tries to take card keys out, and every difference between the
// catalogue and the token.
func (n *node) findings(ctx context.Context) []audit.Entry {
	n.keys.reading.Lock()
	n.keys.newcomers = nil // they are among all
	n.keys.reading.Unlock()
	return append(n.exposures(ctx), n.compare(ctx)...)
}

// compare holds the catalogue against the token. Key sets that no officers decide on are compared by the token's own start alone.
func (n *node) compare(ctx context.Context) (entries []audit.Entry) {
	if !n.config.Catalogued() {
		return nil
	}
	found, err := differences(ctx, n.token, n.keys.current(), n.keys.inOffice())
	if err != nil {
		n.log.Error("the catalogue was not compared with the token", "error", err)
		return []audit.Entry{{Event: audit.KeyDiffers, Outcome: notTried, Detail: "not compared with the token: " + err.Error()}}
	}
	n.keys.mu.Lock()
	n.keys.differs = len(found)
	n.keys.mu.Unlock()
	for _, d := range found {
		n.log.Error("the catalogue and the token differ", "difference", d.Kind.String(), "key", d.Label, "detail", d.Detail)
		n.alarm(audit.KeyDiffers)
		entries = append(entries, audit.Entry{Event: audit.KeyDiffers, Outcome: "ALARM", Detail: d.String()})
	}
	return entries
}

// officeKeys are the keys of a catalogue beside its masters, which are its officers' tools.
func officeKeys(c custody.Catalogue) (keys []hsm.OfficeKey) {
	if c.Backup != nil {
		value, _ := kcv.Parse(c.Backup.KCV.Value) // one that is none is no key's
		keys = append(keys, hsm.OfficeKey{Label: c.Backup.Label, KCV: value})
	}
	for _, t := range c.Transports {
		keys = append(keys, hsm.OfficeKey{Label: t.Label})
	}
	return keys
}

// differences names every difference between a catalogue and the token, by what the token has now: every check value is computed anew.
func differences(ctx context.Context, token *hsm.Token, sets []config.KeySet, office []hsm.OfficeKey) ([]hsm.Difference, error) {
	inventory, err := token.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	found := inventory.Compare(specs(sets))
	for i, d := range found {
		if d.Kind == hsm.DifferenceExtra && isDestroyed(sets, d.Label) {
			found[i].Detail = "it is destroyed in the catalogue, and still in the token"
		}
	}
	return slices.Concat(found, inventory.CompareOffice(office), inventory.Duplicates()), nil
}

func isDestroyed(sets []config.KeySet, label string) bool {
	return slices.ContainsFunc(sets, func(set config.KeySet) bool {
		return slices.ContainsFunc(set.Keys, func(k config.Key) bool { return k.Label == label && k.State == custody.Destroyed })
	})
}
