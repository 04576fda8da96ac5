package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// The schema, in each database's own words. A version is in both folders under one number, from 7 on, where PostgreSQL began.
//
//go:embed migrations/sqlite/*.sql migrations/postgres/*.sql
var migrations embed.FS

// newProvider reads the migrations of a folder.
func newProvider(dialect goose.Dialect, db *sql.DB, folder string) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+folder)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(dialect, db, files)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}

func errNewer(has, knows int64) error {
	return fmt.Errorf("its schema is version %d, this program knows up to %d: it was written by a newer one", has, knows)
}

func migrateSQLite(ctx context.Context, db *sql.DB) error {
	provider, err := newProvider(goose.DialectSQLite3, db, "sqlite")
	if err != nil {
		return err
	}
	has, knows, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if has > knows {
		return errNewer(has, knows)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}
