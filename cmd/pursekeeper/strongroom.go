package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/store"
)

// papers is the store of a configuration, opened for what officers look up. A service may run beside it over the same store.
type papers struct {
	config *config.Config
	log    *slog.Logger
	store  *store.Database
}

// strongroom is the papers and the token, for an act of officers that no running service does: a ceremony, a backup, a restore.
type strongroom struct {
	*papers
	token *hsm.Token
	letGo func() error // ends holdAlone; nil where it was not held
	// shares are how the backup key comes back, in a ceremony that opens copies; and where a new one is kept, if Vault keeps it.
	shares shareFlags
	// release lets out what a ceremony made to leave, when its change is applied; nil of most.
	release func() error
}

func openPapers(ctx context.Context, path string) (p *papers, err error) {
	p = &papers{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if p.config, err = config.Read(path); err != nil {
		return nil, err
	}
	p.store, err = openStore(ctx, p.config)
	return p, err
}

// openStrongroom logs in, with no key configured: the catalogue says which keys there are.
func openStrongroom(ctx context.Context, path string) (r *strongroom, err error) {
	if err := harden(); err != nil {
		return nil, err
	}
	r = &strongroom{}
	if r.papers, err = openPapers(ctx, path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.store.Close())
		}
	}()
	c, err := tokenConfig(r.config, r.log)
	if err != nil {
		return nil, err
	}
	c.Keys = nil
	r.token, err = hsm.Open(ctx, c)
	return r, err
}

func (r *strongroom) close() error {
	err := errors.Join(r.store.Close(), r.token.Close())
	if r.letGo != nil {
		err = errors.Join(err, r.letGo())
	}
	return err
}

// errHeld: two that make objects of the same names in the token would destroy each other's.
var errHeld = errors.New("another ceremony or restore is held over this store")

// holdAlone keeps other ceremonies and restores away from the store until close, or until the process ends. A ceremony destroys what an
// earlier try of its change left in the token, and a restore what it made itself, when the store refuses it: beside another one of
// the same change or backup, that would be what the other gave the catalogue a moment before.
func (r *strongroom) holdAlone(ctx context.Context) (err error) {
	r.letGo, err = r.store.Hold(ctx)
	if errors.Is(err, store.ErrHeld) {
		return errHeld
	}
	return err
}

// catalogue is the newest.
func (p *papers) catalogue(ctx context.Context) (custody.Catalogue, store.Custody, error) {
	held, err := p.store.Custody(ctx)
	if err != nil {
		return custody.Catalogue{}, held, err
	}
	if held.Revision == 0 {
		return custody.Catalogue{}, held, errors.New("there is no catalogue: `pursekeeper init` makes the first")
	}
	c, err := custody.DecodeCatalogue(held.Document)
	return c, held, err
}

// masterSpec is how the token finds and checks a key of a set.
func masterSpec(set custody.Definition, key custody.Key) (hsm.KeySpec, error) {
	served, err := config.FromCatalogue(custody.KeySet{Definition: set, Keys: []custody.Key{key}})
	if err != nil {
		return hsm.KeySpec{}, err
	}
	return keySpec(served, served.Keys[0]), nil
}

// issuerLevels is how many levels are above the cards of a set.
func issuerLevels(set custody.Definition) (int, error) {
	served, err := config.FromCatalogue(custody.KeySet{Definition: set})
	return served.IssuerLevels, err
}
