package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/store"
)

// openStore opens the store of a configuration, and brings its schema up to date.
func openStore(ctx context.Context, cfg *config.Config) (*store.Database, error) {
	if cfg.Postgres != nil {
		return store.OpenPostgres(ctx, cfg.Postgres.Database())
	}
	return store.OpenSQLite(ctx, cfg.SQLite)
}

// peekCustody reads the catalogue of a store that it changes in nothing; the zero one where there is no store yet.
func peekCustody(ctx context.Context, cfg *config.Config) (store.Custody, error) {
	if cfg.Postgres != nil {
		return store.PeekPostgres(ctx, cfg.Postgres.Database())
	}
	return store.PeekCustody(ctx, cfg.SQLite)
}

// storeThere refuses a store that opening would make.
func storeThere(ctx context.Context, cfg *config.Config) error {
	if cfg.Postgres == nil {
		if _, err := os.Stat(cfg.SQLite); err != nil {
			return fmt.Errorf("the database: %w", err)
		}
		return nil
	}
	there, err := store.PostgresThere(ctx, cfg.Postgres.Database())
	if err == nil && !there {
		err = errors.New("the database: it has no schema of a store")
	}
	return err
}
