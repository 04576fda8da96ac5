package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

// migratePostgres brings the schema up to date, one node at a time. A schema that is as this program knows it is only read, so that a
// role that may not change it is enough.
func migratePostgres(ctx context.Context, db *sql.DB) (err error) {
	provider, err := newProvider(goose.DialectPostgres, db, "postgres")
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	knows := sources[len(sources)-1].Version
	has, err := schemaVersion(ctx, db)
	switch {
	case err != nil:
		return fmt.Errorf("its schema's version: %w", err)
	case has > knows:
		return errNewer(has, knows)
	case has == knows:
		return nil
	}
	unlock, err := lockSchema(ctx, db)
	if err != nil {
		return fmt.Errorf("its schema is version %d, this program needs %d: %w", has, knows, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if has, err = schemaVersion(ctx, db); err != nil { // another may have changed it meanwhile
		return fmt.Errorf("its schema's version: %w", err)
	}
	if has > knows {
		return errNewer(has, knows)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

// schemaVersion is the newest migration that was applied, 0 of a database without any.
func schemaVersion(ctx context.Context, db *sql.DB) (version int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	if isCode(err, "42P01") { // no such table
		return 0, nil
	}
	return version, err
}

// lockSchema waits until no other node changes the schema, and keeps others from it until unlock: a row's lock, which every database has.
// Of two nodes that make the table or its row at the same time one fails, and tries again.
func lockSchema(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	for _, text := range []string{
		`CREATE TABLE IF NOT EXISTS schema_lock (one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1))`,
		`INSERT INTO schema_lock (one) VALUES (1) ON CONFLICT (one) DO NOTHING`,
	} {
		for tries := 1; ; tries++ {
			_, err := db.ExecContext(ctx, text)
			if err == nil {
				break
			}
			if tries == mostTries || !isCode(err, "23505", "42P07", "40001", "40P01", "XX000") {
				return nil, err
			}
			time.Sleep(time.Duration(tries) * 10 * time.Millisecond)
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `SELECT one FROM schema_lock WHERE one = 1 FOR UPDATE`); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx.Rollback, nil
}

// isCode says that the server answered with one of the codes.
func isCode(err error, codes ...string) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && slices.Contains(codes, said.Code)
}
