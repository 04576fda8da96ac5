package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// keyring is the catalogue as this node has it in use.
type keyring struct {
	reading  sync.Mutex // one reading of the catalogue at a time, to its end; guards revision, unusable, adopted and newcomers
	revision uint64
	unusable uint64                 // the newest revision whose rules this program cannot use, when that was alarmed
	adopted  map[string]hsm.KeySpec // by label: what the token was told of
	// newcomers are adopted keys at TOKEN that nobody has tried to take a card key out of yet.
	newcomers []newcomer

	mu      sync.Mutex // guards what follows
	sets    []config.KeySet
	office  []hsm.OfficeKey  // of the catalogue
	failing map[string]error // by label: the keys that fail closed, and why
	unread  error            // why the newest catalogue is not in use
	differs int              // what the last comparison with the token found
}

type newcomer struct {
	set config.KeySet
	key config.Key
}

// followEvery is how often a node looks for a new revision; an operation that commits learns of one at once.
const followEvery = 500 * time.Millisecond

// adoptTime bounds what one new revision takes in the token.
const adoptTime = 20 * time.Second

var errNoCatalogue = errors.New("there are no officers and no keys yet: run `pursekeeper init`, with this configuration")

// begin takes the key sets that the node starts with: of the configuration, or of the catalogue.
func (n *node) begin(ctx context.Context) error {
	if !n.config.Catalogued() {
		n.keys.sets = n.config.KeySets
		return n.refuseCatalogue(ctx)
	}
	return n.reload(ctx)
}

// refuseCatalogue keeps key sets and clients that nobody decides on from standing beside those that officers do.
func (n *node) refuseCatalogue(ctx context.Context) error {
	stored, err := n.store.Custody(ctx)
	if err == nil && stored.Revision > 0 {
		err = errors.New("keySets: the store has a catalogue, which officers decide on: leave the configuration's key sets out")
	}
	return err
}

// reload is signer.Config.Reload: it takes the newest catalogue, has the token adopt what is new and forget what is gone, and gives the
// key sets to the signer. What it does goes on although the request that found the change ends.
func (n *node) reload(ctx context.Context) error {
	if !n.config.Catalogued() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adoptTime)
	defer cancel()
	n.keys.reading.Lock()
	defer n.keys.reading.Unlock()
	stored, err := n.store.CustodyOtherThan(ctx, n.keys.revision)
	if err != nil || stored.Revision == n.keys.revision {
		return err
	}
	err = n.take(ctx, stored.Revision, stored.Document)
	n.keys.mu.Lock()
	n.keys.unread = err
	n.keys.mu.Unlock()
	return err
}

// take puts one revision into use. reading is held.
func (n *node) take(ctx context.Context, revision uint64, document []byte) error {
	catalogue, err := custody.DecodeCatalogue(document)
	if err != nil {
		return err
	}
	rules, err := policy.New(catalogue.Rules)
	if err != nil {
		return n.unusable(ctx, revision, err)
	}
	sets := n.served(catalogue)
	n.keys.mu.Lock()
	n.keys.sets, n.keys.office = sets, officeKeys(catalogue)
	n.keys.mu.Unlock()
	n.adopt(ctx, sets)
	bindings, err := bound(sets, n.found, func(set config.KeySet, key config.Key) (keyderive.Key, error) {
		return lateKey{n.token, key.Label, set.Algorithm, n.keys.whyFailing}, nil
	})
	if err == nil {
		err = n.signer.Use(revision, rules, bindings)
	}
	if err != nil {
		return err
	}
	n.keys.revision = revision
	n.forget(ctx, sets)
	n.log.Info("the catalogue is in use", "revision", revision, "keySets", len(sets), "clients", len(catalogue.Rules.Clients), "policy", rules.Digest())
	return nil
}

// served are the key sets of a catalogue that this program can serve. Another is not there for its callers, and alarmed.
func (n *node) served(catalogue custody.Catalogue) (sets []config.KeySet) {
	for _, set := range catalogue.KeySets {
		s, err := config.FromCatalogue(set)
		if err != nil {
			n.log.Error("key set not served", "error", err)
			n.alarm(audit.KeyDiffers)
			continue
		}
		sets = append(sets, s)
	}
	return sets
}

// adopt tells the token of the keys that it should have. A key that the token has not, or has as
// another, fails closed and is alarmed; it is looked for again with each look for a new revision. reading is held.
func (n *node) adopt(ctx context.Context, sets []config.KeySet) {
	for _, set := range sets {
		for _, key := range set.Keys {
			if key.State != custody.Destroyed {
				n.judge(key.Label, n.adoptKey(ctx, set, key))
			}
		}
	}
}

// forget has the token lend no more what the catalogue has no more. The signer asks for none of it by now, and a request that still
// works with it comes to its end; it cannot commit. reading is held.
func (n *node) forget(ctx context.Context, sets []config.KeySet) {
	wanted := map[string]bool{}
	for _, spec := range specs(sets) {
		wanted[spec.Label] = true
	}
	for _, label := range slices.Sorted(maps.Keys(n.keys.adopted)) {
		if wanted[label] {
			continue
		}
		if err := n.token.Forget(ctx, label); err != nil {
			n.log.Error("key not forgotten yet", "key", label, "error", err)
			continue
		}
		delete(n.keys.adopted, label)
	}
	n.keys.mu.Lock()
	defer n.keys.mu.Unlock()
	maps.DeleteFunc(n.keys.failing, func(label string, _ error) bool { return !wanted[label] })
}

func (n *node) adoptKey(ctx context.Context, set config.KeySet, key config.Key) error {
	spec := keySpec(set, key)
	had, adopted := n.keys.adopted[spec.Label]
	if adopted && had == spec {
		return nil
	}
	if err := n.refusePublished(set, key); err != nil {
		return err
	}
	if adopted { // a key set's issuer levels were changed
		if err := n.token.Forget(ctx, spec.Label); err != nil {
			return err
		}
		delete(n.keys.adopted, spec.Label)
	}
	if err := n.token.Adopt(ctx, spec); err != nil {
		return err
	}
	if n.keys.adopted == nil {
		n.keys.adopted = map[string]hsm.KeySpec{}
	}
	n.keys.adopted[spec.Label] = spec
	if key.Boundary == keyderive.BoundaryToken {
		n.keys.newcomers = append(n.keys.newcomers, newcomer{set, key})
	}
	return nil
}

// adoptAll tells the token of all keys, for a check that has nobody to alarm.
func (n *node) adoptAll(ctx context.Context, sets []config.KeySet) (errs error) {
	for _, set := range sets {
		for _, key := range set.Keys {
			if key.State != custody.Destroyed {
				errs = errors.Join(errs, n.adoptKey(ctx, set, key))
			}
		}
	}
	return errs
}

// refusePublished keeps a published test key out of use in a token of production: everybody has it.
func (n *node) refusePublished(set config.KeySet, key config.Key) error {
	if n.config.Token.Development {
		return nil
	}
	return refusePublishedKey(set, key)
}

// judge keeps why a key fails closed; nil is that it does not. The alarm is given once.
func (n *node) judge(label string, err error) {
	n.keys.mu.Lock()
	known := n.keys.failing[label]
	if err == nil {
		delete(n.keys.failing, label)
	} else {
		if n.keys.failing == nil {
			n.keys.failing = map[string]error{}
		}
		n.keys.failing[label] = err
	}
	n.keys.mu.Unlock()
	switch {
	case err == nil && known != nil:
		n.log.Info("key in use", "key", label)
	case err != nil && known == nil && !errors.Is(err, hsm.ErrUnavailable):
		n.log.Error("key fails closed", "key", label, "error", err)
		n.alarm(audit.KeyDiffers)
	}
}

// whyFailing is why a key fails closed, or waits for a token that was away when the key was looked for.
func (k *keyring) whyFailing(label string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failing[label]; err != nil {
		return fmt.Errorf("key %q: %w", label, err)
	}
	return nil
}

// current are the key sets in use.
func (k *keyring) current() []config.KeySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets
}

func (k *keyring) inOffice() []hsm.OfficeKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.office
}

// differing is how many differences the last comparison with the token found.
func (k *keyring) differing() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.differs
}

// keysReady says what is not in order with the catalogue.
func (n *node) keysReady() error {
	n.keys.mu.Lock()
	defer n.keys.mu.Unlock()
	errs := n.keys.unread
	if n.config.Catalogued() && n.signer.Revision() == 0 && errs == nil {
		errs = errNoCatalogue
	}
	waiting := 0
	for _, label := range slices.Sorted(maps.Keys(n.keys.failing)) {
		if err := n.keys.failing[label]; errors.Is(err, hsm.ErrUnavailable) {
			waiting++
		} else {
			errs = errors.Join(errs, fmt.Errorf("key %q: %w", label, err))
		}
	}
	if waiting > 0 {
		errs = errors.Join(errs, fmt.Errorf("%d keys wait for the token", waiting))
	}
	return errs
}

// follow looks for a new revision, and for keys that fail closed, as long as the node serves.
func (n *node) follow(ctx context.Context) {
	if !n.config.Catalogued() {
		return
	}
	look := time.NewTicker(followEvery)
	defer look.Stop()
	said := ""
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		err := n.reload(ctx)
		if err != nil && err.Error() != said {
			n.log.Error("the catalogue could not be followed", "error", err)
		}
		said = fmt.Sprint(err)
		n.adoptAgain(ctx)
		n.tryNewcomers(ctx)
	}
}

// adoptAgain looks again for the keys that fail closed.
func (n *node) adoptAgain(ctx context.Context) {
	n.keys.mu.Lock()
	failing := len(n.keys.failing)
	n.keys.mu.Unlock()
	if failing == 0 || n.token.State() != hsm.StateReady {
		return
	}
	n.keys.reading.Lock()
	defer n.keys.reading.Unlock()
	n.adopt(ctx, n.keys.current())
}

// tryNewcomers records what is found out about the keys that came while the service runs, as a start does of all.
func (n *node) tryNewcomers(ctx context.Context) {
	n.keys.reading.Lock()
	newcomers := n.keys.newcomers
	n.keys.newcomers = nil
	n.keys.reading.Unlock()
	for _, c := range newcomers {
		if err := n.signer.Record(ctx, n.exposure(ctx, c.set, c.key)); err != nil {
			n.log.Error("a finding could not be recorded", "key", c.key.Label, "error", err)
		}
	}
}
