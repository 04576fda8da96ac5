package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
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
