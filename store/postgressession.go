package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is what the writing connection's session has, where the server knows the setting. A session that its node left is ended within
// some ten seconds, and its locks go. Nothing bounds a statement: the lock is waited for no longer than lock_timeout, nothing else takes
// long, and a COMMIT that is cut short while it waits for other servers would not be what its answer says.
//
// A group asks for a few rows, each by a key: the best plan is always the same, one look into an index for each. Left to itself the server would
// choose once, by how few rows there were when a table was new, to read it from end to end, and keep to that while it grows.
var session = map[string]string{
	"lock_timeout":                        "2s",
	"idle_in_transaction_session_timeout": "10s",
	"statement_timeout":                   "0",
	"transaction_timeout":                 "0",
	"client_connection_check_interval":    "2s",
	"tcp_keepalives_idle":                 "5",
	"tcp_keepalives_interval":             "2",
	"tcp_keepalives_count":                "3",
	"tcp_user_timeout":                    "10s",
	"plan_cache_mode":                     "force_generic_plan",
	"enable_seqscan":                      "off",
	"enable_hashjoin":                     "off",
	"enable_mergejoin":                    "off",
	"jit":                                 "off", // it takes a plan that was turned off for one of great cost
}

// reach makes the writing connection, in place of the one that there was.
func (e *postgresEngine) reach() error {
	e.drop()
	// Time for each of the hosts, with two addresses each, and for what the session is to have.
	ctx, cancel := context.WithTimeout(e.ctx, time.Duration(1+len(e.config.Fallbacks))*2*connectTimeout+exchangeTimeout)
	defer cancel()
	conn, warned, err := e.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	e.conn, e.warned = conn, warned
	e.made++
	return nil
}

// connect makes a connection whose session is as the writing one's; warned becomes true when its server warns.
func (e *postgresEngine) connect(ctx context.Context) (conn *pgx.Conn, warned *atomic.Bool, err error) {
	config := e.config.Copy()
	warned = &atomic.Bool{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if severity((*pgconn.PgError)(n)) == "WARNING" {
			warned.Store(true)
		}
	}
	if err := withPassword(ctx, config, e.password); err != nil {
		return nil, nil, err
	}
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, nil, err
	}
	if err := settle(ctx, conn); err != nil {
		return nil, nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, warned, nil
}

// settle refuses a server that forgets what it committed, and a database that does not keep every text as it is: one text that it would not
// take fails the whole group. It sets what the session is to have.
func settle(ctx context.Context, conn *pgx.Conn) error {
	has := map[string]string{}
	rows, err := conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'server_encoding')`)
	if err != nil {
		return err
	}
	var name, setting string
	if _, err := pgx.ForEachRow(rows, []any{&name, &setting}, func() error {
		has[name] = setting
		return nil
	}); err != nil {
		return err
	}
	if has["fsync"] == "off" {
		return errors.New("the server has fsync off: it may lose what it committed")
	}
	if encoding, known := has["server_encoding"]; known && encoding != "UTF8" {
		return fmt.Errorf("the database keeps text as %s, expected UTF8", encoding)
	}
	var names, values []string
	for name, value := range session {
		names, values = append(names, name), append(values, value)
	}
	durable := "on" // what a session has set itself stays, whatever the server's configuration becomes while it lasts
	if has["synchronous_commit"] == "remote_apply" {
		durable = "remote_apply"
	}
	names, values = append(names, "synchronous_commit"), append(values, durable)
	_, err = conn.Exec(ctx, `SELECT set_config(s.name, w.value, false) FROM pg_settings s
		JOIN unnest($1::text[], $2::text[]) AS w (name, value) ON w.name = s.name`, names, values)
	return err
}
