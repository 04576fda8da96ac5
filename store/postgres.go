package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Postgres is where a PostgreSQL is, which several nodes may share.
type Postgres struct {
	URL string // postgresql://USER@HOST:PORT/DATABASE?…, as CheckPostgresURL accepts it
	// Password reads the password, anew for each connection. Nil where the server asks for none.
	Password func(ctx context.Context) ([]byte, error)
}

const (
	// connectTimeout bounds a connection's making, for each address of the hosts that the URL names.
	connectTimeout = 2 * time.Second
	// exchangeTimeout bounds a round trip of a group; at the beginning it waits for the groups of other nodes too.
	exchangeTimeout = 5 * time.Second
)

// OpenPostgres opens a database that is there, brings its schema up to date, and starts the group commit. It refuses a server that does not
// keep what it committed when its power fails, a schema that is newer than this program's, and a record whose last entry is not the one
// that its head says.
func OpenPostgres(ctx context.Context, p Postgres) (*Database, error) {
	config, err := p.config()
	if err != nil {
		return nil, err
	}
	e := newPostgresEngine(ctx, config, p.Password)
	s := &Database{dialect: postgres, readers: p.pool(config, 4), lists: p.pool(config, 2), hold: e.holdRow}
	for _, step := range []func(context.Context, *sql.DB) error{
		func(context.Context, *sql.DB) error { return e.reach() }, migratePostgres, checkHead, e.forgetOthers,
	} {
		if err := step(ctx, s.readers); err != nil {
			return nil, errors.Join(fmt.Errorf("database %s: %w", config.Database, err), e.close(), s.lists.Close(), s.readers.Close())
		}
	}
	return begin(s, e), nil
}

// config is what every connection has in common. Passwords, ports and options that the environment or a file in the home folder offers are not
// taken.
func (p Postgres) config() (*pgx.ConnConfig, error) {
	if err := CheckPostgresURL(p.URL); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(withPort(p.URL))
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	config.Password = ""
	delete(config.RuntimeParams, "options")
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "pursekeeper"
	config.RuntimeParams["client_encoding"] = "UTF8" // whatever a role is set to
	// A server that stands by would answer reads with what was, and take no writes.
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	// A peer that is gone is noticed within some ten seconds, also where nothing is on its way.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	return config, nil
}

// pool has connections for reads. It makes none before it is asked.
func (p Postgres) pool(config *pgx.ConnConfig, most int) *sql.DB {
	db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(func(ctx context.Context, c *pgx.ConnConfig) error {
		return withPassword(ctx, c, p.Password)
	}))
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db
}

// withPassword puts the password into a copy of the configuration, for the library takes it as text.
func withPassword(ctx context.Context, c *pgx.ConnConfig, read func(context.Context) ([]byte, error)) error {
	if read == nil {
		return nil
	}
	password, err := read(ctx)
	if err != nil {
		return fmt.Errorf("the database's password: %w", err)
	}
	c.Password = string(password)
	return nil
}
