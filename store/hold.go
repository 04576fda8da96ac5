package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// ErrHeld: another has the hold of Hold.
var ErrHeld = errors.New("it is held by another")

// Hold keeps others from the same hold of this store until release, or until this process ends. Of SQLite it is a file's lock, of the
// empty file PATH.ceremony; of PostgreSQL a row's, on a connection of its own.
func (s *Database) Hold(ctx context.Context) (release func() error, err error) { return s.hold(ctx) }

func holdFile(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(ErrHeld, f.Close())
	case err != nil:
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f.Close, nil
}

// holdRow locks the row on a session that may be idle for as long as persons take.
func (e *postgresEngine) holdRow(ctx context.Context) (release func() error, err error) {
	conn, _, err := e.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, text := range []string{
		`SELECT set_config('idle_in_transaction_session_timeout', '0', false)`,
		`BEGIN`,
		`SELECT one FROM ceremony_lock WHERE one = 1 FOR UPDATE NOWAIT`,
	} {
		if _, err := conn.Exec(ctx, text); err != nil {
			if isCode(err, "55P03") {
				err = ErrHeld
			}
			return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
	}
	return func() error { return letGo(context.WithoutCancel(ctx), conn) }, nil
}

// letGo reports a hold that was lost while it was relied on.
func letGo(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, `COMMIT`)
	if err != nil {
		err = fmt.Errorf("the store's hold was lost: %w", err)
	}
	return errors.Join(err, conn.Close(ctx))
}
