package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/policy"
)

// keyCheckCmd compares the catalogue with the token, beside the service or without it.
type keyCheckCmd struct {
	Config string `help:"Configuration file of the service." required:"" type:"path"`
}

// Run prints every difference, and fails when there is one. It logs in once, and changes nothing.
func (c *keyCheckCmd) Run(ctx context.Context) error {
	cfg, err := config.Read(c.Config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := harden(); err != nil {
		return err
	}
	sets, office, from, err := keysOf(ctx, cfg)
	if err != nil {
		return err
	}
	cfg.KeySets = nil // the token is asked what it has, not told
	token, err := openToken(ctx, cfg, log)
	if err != nil {
		return closing(token, err)
	}
	found, err := differences(ctx, token, sets, office)
	if err = errors.Join(err, token.Close()); err != nil {
		return err
	}
	for _, d := range found {
		fmt.Println(d)
	}
	wanted := len(specs(sets))
	if len(found) > 0 {
		return fmt.Errorf("%d differences between %s and the token %q", len(found), from, cfg.Token.Label)
	}
	fmt.Printf("the token %q has the %d keys of %s, each with its attributes and its check value, and no others\n", cfg.Token.Label, wanted, from)
	return nil
}

// keysOf are the key sets that a service with this configuration serves, and where they are from.
func keysOf(ctx context.Context, cfg *config.Config) (sets []config.KeySet, office []hsm.OfficeKey, from string, err error) {
	if !cfg.Catalogued() {
		return cfg.KeySets, nil, "the configuration", nil
	}
	stored, err := peekCustody(ctx, cfg)
	if err != nil {
		return nil, nil, "", err
	}
	if stored.Revision == 0 {
		return nil, nil, "", errNoCatalogue
	}
	catalogue, err := custody.DecodeCatalogue(stored.Document)
	if err != nil {
		return nil, nil, "", err
	}
	if _, err := policy.New(catalogue.Rules); err != nil {
		return nil, nil, "", fmt.Errorf("the catalogue's rules: %w", err)
	}
	for _, set := range catalogue.KeySets {
		s, err := config.FromCatalogue(set)
		if err != nil {
			return nil, nil, "", err
		}
		sets = append(sets, s)
	}
	return sets, officeKeys(catalogue), fmt.Sprintf("the catalogue, revision %d", stored.Revision), nil
}

// closing ends a token that came with an error, such as a refused PIN.
func closing(token *hsm.Token, err error) error {
	if token == nil {
		return err
	}
	return errors.Join(err, token.Close())
}
