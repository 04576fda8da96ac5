package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/store"
)

// tendEvery is how often a node looks for changes that were interrupted, and for those that have expired.
const tendEvery = 30 * time.Second

// openOffice opens the office in which officers change the catalogue, where the keys are the catalogue's.
func (n *node) openOffice() (err error) {
	if !n.config.Catalogued() {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("the node's name: %w", err)
	}
	n.office, err = custody.NewOffice(custody.Options{
		Store: n.store, Token: n.token, Node: nodeName(host, n.config), IssuerLevels: issuerLevels, Check: n.couldServe,
		ResetPurse: func(p custody.PurseChange) (store.PurseKey, func(*store.Purse) error, error) {
			return n.signer.ResetPurse(p)
		},
		DestroyTransport: func(ctx context.Context, key custody.Transport) error {
			spec, err := transportSpec(key.Name, key.Bits, key.KCV.Value)
			if err != nil {
				return err
			}
			return n.token.DestroyTransportKey(ctx, spec)
		},
	})
	return err
}

// nodeName is the same after a restart, and another of each node that shares the store, on one host too: a node goes on at once with what it
// claimed itself, and would fall upon another's work in the token.
func nodeName(host string, c *config.Config) string {
	return host + ":" + c.StoreName() + "@" + c.Listen
}

// couldServe refuses a catalogue that this program, with this token, could not serve.
func (n *node) couldServe(c custody.Catalogue) error {
	for _, set := range c.KeySets {
		if _, err := config.FromCatalogue(set); err != nil {
			return err
		}
		for _, k := range set.Keys {
			if strictest := n.config.Token.Profile.Strictest(k.Kind, set.Algorithm); k.State != custody.Destroyed && k.Boundary < strictest {
				return fmt.Errorf("key %s: boundary %v: this token has %v at best", k.Label, k.Boundary, strictest)
			}
		}
	}
	return nil
}

// tend goes on with changes that were interrupted, at once and then from time to time.
func (n *node) tend(ctx context.Context) {
	if n.office == nil {
		return
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		if err := n.office.Resume(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("a change of officers is not finished", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
