package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/store"
)

// migrateCmd is for who owns a schema that the signer's own role may use and not change (docs/postgresql.md).
type migrateCmd struct {
	Config string `help:"Configuration file, of which the store alone is used: its user is the schema's owner." required:"" type:"existingfile"`
	Grants string `help:"Print what this role must be allowed, as SQL, and change nothing." placeholder:"ROLE"`
}

var roleName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Run opens the store, which brings the schema up to date, and closes it.
func (c *migrateCmd) Run(ctx context.Context) (err error) {
	cfg, err := config.Read(c.Config)
	if err != nil {
		return err
	}
	if c.Grants != "" {
		if cfg.Postgres == nil {
			return errors.New("--grants: the store is a file, and a file has no roles")
		}
		if !roleName.MatchString(c.Grants) || c.Grants == "public" { // which is everybody
			return fmt.Errorf("--grants: %q: expected a role of small letters, digits and _", c.Grants)
		}
		fmt.Print(strings.ReplaceAll(store.Grants, "pursekeeper", c.Grants))
		return nil
	}
	opened, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	fmt.Printf("the schema of %s is up to date\n", cfg.StoreName())
	return nil
}
