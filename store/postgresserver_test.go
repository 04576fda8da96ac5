package store_test

import (
	"database/sql"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// One entry of a long record is read as one, and not with all that follow: a page of a listing, and the sealer's look at its oldest entry,
// would cost the whole record each.
func TestPostgresReadsAPageOfTheRecord(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	s := openPostgres(t, url)
	server.Exec(t, url, `INSERT INTO audit_entries (idx, entry) SELECT n, repeat('x', 500) FROM generate_series(0, 19999) n`)
	read := 0
	require.NoError(t, s.Entries(t.Context(), 100, func(uint64, []byte) bool { read++; return false }))
	assert.Equal(t, 1, read)
	require.NoError(t, s.Close()) // the server counts what a session read when it ends
	eventually(t, "it is counted", func() bool { return ask(t, url, `SELECT `+rowsRead+` > 0`) == "true" })
	assert.Equal(t, "true", ask(t, url, `SELECT `+rowsRead+` < 1000`), "of 20000")
}

const rowsRead = `(SELECT COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'audit_entries')`

// A program that waits while a newer one migrates refuses what that one made.
func TestPostgresMigratedByANewerOne(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	require.NoError(t, openPostgres(t, url).Close())
	server.Exec(t, url, `DELETE FROM goose_db_version WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)`)
	newer, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer newer.Close()
	tx, err := newer.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`SELECT one FROM schema_lock WHERE one = 1 FOR UPDATE`)
	require.NoError(t, err)
	opened := make(chan error, 1)
	go func() {
		s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	eventually(t, "it waits", func() bool { return ask(t, url, resolverWaits) == "true" })
	_, err = tx.Exec(`INSERT INTO goose_db_version (version_id, is_applied) SELECT MAX(version_id) + n, true FROM goose_db_version, generate_series(1, 2) n
		GROUP BY n`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.ErrorContains(t, <-opened, "written by a newer one")
}

// A role that is set to another encoding changes no text.
func TestPostgresText(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	server.Exec(t, url, `ALTER ROLE postgres SET client_encoding = 'GBK'`)
	s := openPostgres(t, url)
	const text = "中文 é🙂"
	require.NoError(t, s.Commit(t.Context(), change(purseEP, func(*store.Purse, uint64) ([]audit.Entry, error) { return entries(text), nil })))
	assert.Equal(t, []string{text}, record(t, s))
	require.NoError(t, s.Close())
	server.Exec(t, url, `ALTER ROLE postgres RESET client_encoding`)
	assert.Equal(t, "true", ask(t, url, fmt.Sprintf(`SELECT entry LIKE '%%%s%%' FROM audit_entries`, text)))
}

// The environment of other clients says nothing of which server is meant, nor how its sessions are.
func TestPostgresLeavesTheEnvironmentAlone(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	t.Setenv("PGOPTIONS", "-c search_path=nowhere")
	t.Setenv("PGPORT", strconv.Itoa(server.Port))
	require.NoError(t, openPostgres(t, url).Close())
	there, err := store.PostgresThere(t.Context(), store.Postgres{URL: url})
	require.NoError(t, err)
	assert.True(t, there)
	_, err = store.OpenPostgres(t.Context(), store.Postgres{URL: "postgresql://postgres@127.0.0.1/test1?sslmode=disable"})
	require.ErrorContains(t, err, "127.0.0.1:5432 ")
	_, err = store.OpenPostgres(t.Context(), store.Postgres{URL: "postgresql://postgres@/test1?host=" + server.Folder})
	require.ErrorContains(t, err, "5432")
}

// A copy that had less took the server's place, and others have committed as much on it since: the number of the head tells nothing any
// more, the entry does. An entry that was pruned meanwhile is not missed.
func TestPostgresGoneBackAndOn(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	s := openPostgres(t, url)
	runCallers(t, s, 8, 200, freshLoads())
	const otherServer = `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`
	ask(t, url, otherServer)
	require.NoError(t, s.Commit(t.Context(), new(probe).change("one")), "all is there")

	ask(t, url, otherServer)
	server.Exec(t, url, `UPDATE audit_pruned SET before = 201`, `DELETE FROM audit_entries WHERE idx < 201`)
	server.Exec(t, url, `INSERT INTO audit_entries (idx, entry) VALUES (201, 'of another')`, `UPDATE audit_head SET next = 202`)
	require.NoError(t, s.Commit(t.Context(), new(probe).change("two")), "all was there")

	server.Exec(t, url, `UPDATE audit_entries SET entry = 'of another' WHERE idx = 202`)
	require.NoError(t, s.Commit(t.Context(), new(probe).change("three")), "of the same connection the head is enough")
	server.Exec(t, url, `UPDATE audit_entries SET entry = 'of another' WHERE idx = 203`)
	ask(t, url, otherServer)
	for range 2 {
		err := s.Commit(t.Context(), new(probe).change("four"))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, "the database has gone back: its audit entry 203 is not the one that this process committed")
	}
	require.NoError(t, s.Close())
}

// Hosts that do not answer keep no one from the last that does.
func TestPostgresPassesDarkHosts(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	database := server.Database(t)
	require.NoError(t, openPostgres(t, database).Close()) // the schema, which takes connections of its own
	const one = "@127.0.0.1:"
	hosts := ""
	for range 3 {
		dark, err := net.Listen("tcp", "127.0.0.1:0") // it is connected to, and never says a word
		require.NoError(t, err)
		defer dark.Close()
		hosts += dark.Addr().String() + ","
	}
	s := openOver(t, server, strings.Replace(server.TCP(database), one, "@"+hosts+one[1:], 1))
	require.NoError(t, s.Close())
}

// A server whose configuration is made weaker while a node runs does not make that node's commits weaker.
func TestPostgresKeepsItsCommitsDurable(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	s := openPostgres(t, url)
	defer func() { require.NoError(t, s.Close()) }()
	server.Exec(t, url, `CREATE TABLE seen (setting TEXT)`,
		`CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen VALUES (current_setting('synchronous_commit'));
			RETURN NEW;
		END $$`,
		`CREATE TRIGGER see AFTER UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION see()`,
		`ALTER SYSTEM SET synchronous_commit = off`, `SELECT pg_reload_conf()`)
	eventually(t, "it is reloaded", func() bool { return ask(t, url, `SHOW synchronous_commit`) == "off" })
	require.NoError(t, s.Ready(t.Context()))
	require.NoError(t, s.Ready(t.Context())) // a session takes a new configuration between two statements
	assert.Equal(t, "on", ask(t, url, `SELECT string_agg(DISTINCT setting, ' ') FROM seen`))
}
