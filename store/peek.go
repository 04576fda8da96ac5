package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PeekCustody reads the catalogue of a database without opening it for anything else: it makes no file, and brings no schema up to date.
// A database that is not there, or of a schema without a catalogue, has the zero Custody.
func PeekCustody(ctx context.Context, path string) (c Custody, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Custody{}, nil
	}
	db, err := open(path, "mode=ro")
	if err != nil {
		return Custody{}, err
	}
	defer db.Close() //nolint:errcheck // it was read alone
	err = db.QueryRowContext(ctx, `SELECT revision, document FROM custody WHERE one = 1`).Scan(&c.Revision, &c.Document)
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return Custody{}, nil
	}
	if err != nil {
		return Custody{}, fmt.Errorf("database %s: %w", path, err)
	}
	if c.Revision == 0 {
		return Custody{}, nil
	}
	return c, nil
}

// PeekPostgres is PeekCustody of a database in PostgreSQL: one that is not there, or that has no schema yet, has the zero Custody.
func PeekPostgres(ctx context.Context, p Postgres) (c Custody, err error) {
	_, err = p.peek(ctx, `SELECT revision, document FROM custody WHERE one = 1`, &c.Revision, &c.Document)
	if err != nil || c.Revision == 0 {
		return Custody{}, err
	}
	return c, nil
}

// PostgresThere says whether the database is there and has the schema of a store, of whatever version.
func PostgresThere(ctx context.Context, p Postgres) (bool, error) {
	return p.peek(ctx, `SELECT 1 FROM audit_head`, new(int))
}

// peek reads one row on a connection of its own; it is not found where there is no such database or table.
func (p Postgres) peek(ctx context.Context, query string, into ...any) (found bool, err error) {
	config, err := p.config()
	if err != nil {
		return false, err
	}
	if err := withPassword(ctx, config, p.Password); err != nil {
		return false, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was read alone
		err = conn.QueryRow(ctx, query).Scan(into...)
	}
	switch {
	case isCode(err, "42P01", "3D000"): // no such table, no such database
		return false, nil
	case err != nil:
		return false, fmt.Errorf("database %s: %w", config.Database, err)
	}
	return true, nil
}
