package store_test

import (
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// Two stores on one server decide on what the other left, on the same purses, and share one record without a gap.
func TestPostgresTwoStores(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	var all sync.WaitGroup
	start := make(chan struct{})
	for node := range 2 {
		s := openPostgres(t, url)
		defer func() { require.NoError(t, s.Close()) }()
		all.Go(func() {
			<-start
			assert.NoError(t, countUp(s, fmt.Sprintf("node%d", node), 2000, 0, func(string) {}))
		})
	}
	close(start)
	all.Wait()
	s := openPostgres(t, url)
	there := record(t, s)
	assert.Len(t, there, 4000)
	assert.Equal(t, 4000, counted(t, s))
	assert.Greater(t, turns(there), 4, "both ran at the same time")
	require.NoError(t, s.Close())
}

// Many stores that open an empty database at once make its schema once.
func TestPostgresOpensTogether(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
			if assert.NoError(t, err) {
				assert.NoError(t, s.Ready(t.Context()))
				assert.NoError(t, s.Close())
			}
		})
	}
	all.Wait()
	assert.Equal(t, ask(t, url, `SELECT COUNT(DISTINCT version_id) FROM goose_db_version`), ask(t, url, `SELECT COUNT(*) FROM goose_db_version`))
}

// A role that may use the tables and not change them is enough once the schema is there.
func TestPostgresLeastPrivilege(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	server.Exec(t, url, `CREATE ROLE signer LOGIN`)
	asSigner := store.Postgres{URL: "postgresql://signer" + url[len("postgresql://postgres"):]}
	_, err := store.OpenPostgres(t.Context(), asSigner)
	require.ErrorContains(t, err, "its schema is version 0, this program needs ")
	require.NoError(t, openPostgres(t, url).Close())
	server.Exec(t, url, strings.ReplaceAll(store.Grants, "pursekeeper", "signer"))
	s, err := store.OpenPostgres(t.Context(), asSigner)
	require.NoError(t, err)
	require.NoError(t, countUp(s, "signer", 80, 0, func(string) {}))
	assert.Equal(t, 80, counted(t, s))
	release, err := s.Hold(t.Context())
	require.NoError(t, err)
	require.NoError(t, release())
	lease, err := s.TakeSealing(t.Context(), audit.Lease{Holder: "a"}, time.Now(), term)
	require.NoError(t, err)
	require.NoError(t, s.MarkSealed(t.Context(), lease, audit.Sealed{Size: 80, Checkpoint: "eighty"}))
	require.NoError(t, s.MarkPruned(t.Context(), 40))
	deleted, err := s.DeletePruned(t.Context(), 100)
	require.NoError(t, err)
	assert.Equal(t, 40, deleted)
	require.NoError(t, s.Close())
}

// What Open says of a database that it must not use.
func TestPostgresRefuses(t *testing.T) {
	server := pgtest.Start(t)
	for name, c := range map[string]struct{ spoil, says string }{
		"a newer schema":                     {`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`, "written by a newer one"},
		"a record without its last entry":    {`DELETE FROM audit_entries WHERE idx = 199`, "the audit record ends before entry 199, its head says 200"},
		"a record with a foreign entry":      {`INSERT INTO audit_entries VALUES (200, '{}')`, "the audit record ends before entry 201, its head says 200"},
		"a catalogue that was set back":      {`UPDATE custody SET revision = 3`, "the catalogue is at revision 3, the audit head says 0"},
		"a database that is taken for reads": {`ALTER ROLE postgres SET default_transaction_read_only = on`, "read only"},
	} {
		t.Run(name, func(t *testing.T) {
			url := server.Database(t)
			s := openPostgres(t, url)
			runCallers(t, s, 8, 200, freshLoads())
			require.NoError(t, s.Close())
			server.Exec(t, url, c.spoil)
			_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
			require.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, "test", "the error names the database")
			server.Exec(t, url, `SET default_transaction_read_only = off`, `ALTER ROLE postgres RESET default_transaction_read_only`)
		})
	}
	const chinese = "chinese"
	server.Exec(t, server.URL("postgres"), `CREATE DATABASE `+chinese+` ENCODING 'EUC_CN' TEMPLATE template0`)
	_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: server.URL(chinese)})
	require.ErrorContains(t, err, "database chinese: the database is away: the database keeps text as EUC_CN, expected UTF8")
	url := server.Database(t)
	server.Stop(t)
	server.Launch(t, "fsync=off")
	_, err = store.OpenPostgres(t.Context(), store.Postgres{URL: url})
	require.ErrorContains(t, err, "fsync off")
}

// A record that has gone back behind what a store committed, as on a copy that was promoted too early, takes nothing more from that store.
func TestPostgresGoneBack(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	s := openPostgres(t, url)
	runCallers(t, s, 8, 200, freshLoads())
	server.Exec(t, url, `DELETE FROM audit_entries WHERE idx = 199; UPDATE audit_head SET next = 199`)
	err := s.Commit(t.Context(), new(probe).change("one"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "the database has gone back: its next audit entry is 199, and this process committed those before 200")
	require.NoError(t, s.Close())
}

// A conflict is tried again with its decisions, and not for ever.
func TestPostgresConflicts(t *testing.T) {
	server := pgtest.Start(t)
	for code, name := range map[string]string{"20001": "a serialisation failure", "40P01": "a deadlock"} {
		t.Run(name, func(t *testing.T) {
			url := server.Database(t)
			s := openPostgres(t, url)
			// The server itself fails so many groups, when they write their first entry. A sequence is not undone with a transaction.
			server.Exec(t, url, `CREATE SEQUENCE conflicts`, `CREATE TABLE wanted (n BIGINT)`, `INSERT INTO wanted VALUES (3)`,
				`CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF nextval('conflicts') <= (SELECT n FROM wanted) THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '`+code+`'; END IF;
					RETURN NEW; END $$`,
				`CREATE TRIGGER conflict BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION conflict()`)
			var p probe
			require.NoError(t, s.Commit(t.Context(), p.change("one")))
			assert.EqualValues(t, 4, p.decided.Load())
			assert.EqualValues(t, 1, p.committed.Load())
			server.Exec(t, url, `UPDATE wanted SET n = 1000000`)
			var endless probe
			err := s.Commit(t.Context(), endless.change("endless"))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorContains(t, err, code)
			assert.EqualValues(t, 10, endless.decided.Load())
			server.Exec(t, url, `UPDATE wanted SET n = 0`)
			require.NoError(t, s.Commit(t.Context(), endless.change("two")))
			assert.Equal(t, []string{"one", "two"}, record(t, s))
			require.NoError(t, s.Close())
		})
	}
}

// A lock that another session holds on is waited for as SQLite waits for a file's: a moment, and then the group has failed.
func TestPostgresLocked(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	s := openPostgres(t, url)
	other, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer other.Close()
	tx, err := other.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`SELECT 1 FROM audit_head FOR UPDATE`)
	require.NoError(t, err)
	before := time.Now()
	require.ErrorIs(t, s.Commit(t.Context(), new(probe).change("one")), store.ErrUnavailable)
	assert.GreaterOrEqual(t, time.Since(before), time.Second)
	_, err = s.Custody(t.Context())
	require.NoError(t, err, "a reader does not wait for a writer")
	require.NoError(t, tx.Rollback())
	require.NoError(t, s.Commit(t.Context(), new(probe).change("two")))
	assert.Equal(t, []string{"two"}, record(t, s))
	require.NoError(t, s.Close())
}

// A group is three round trips, two where nothing depends on what was read first, however many changes are in it.
func TestPostgresRoundTrips(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t)
	p, url := newProxy(t, server, database)
	s := openOver(t, server, url)
	for _, c := range []struct {
		what  string
		next  func(n int) store.Change
		trips float64
	}{
		{"fresh purses", freshLoads(), 2},
		{"known purses", knownLoads(t, s, 2000), 3},
	} {
		runCallers(t, s, 64, 2000, c.next) // every statement is prepared
		groups, changes, turns := s.Stats().Groups.Load(), s.Stats().Changes.Load(), p.turns.Load()
		next := c.next
		runCallers(t, s, 64, 2000, func(n int) store.Change { return next(2000 + n) })
		ran := float64(s.Stats().Groups.Load() - groups)
		trips := float64(p.turns.Load()-turns) / ran
		t.Logf("%s: %.2f round trips a group of %.1f changes", c.what, trips, float64(s.Stats().Changes.Load()-changes)/ran)
		assert.InDelta(t, c.trips, trips, 0.1, c.what)
	}
	require.NoError(t, s.Close())
	server.Stop(t) // its sessions tell what they counted when they end
	server.Launch(t)
	scans := ask(t, database, `SELECT SUM(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('purses', 'cards', 'attempts')`)
	n, err := strconv.Atoi(scans)
	require.NoError(t, err)
	assert.Less(t, n, 20, "tables were read from end to end; some %d groups ran", s.Stats().Groups.Load())
}

// What is read without officers, and where nothing is.
func TestPeekPostgres(t *testing.T) {
	server := pgtest.Start(t)
	for _, url := range []string{server.URL("nowhere"), server.Database(t)} {
		c, err := store.PeekPostgres(t.Context(), store.Postgres{URL: url})
		require.NoError(t, err)
		assert.Zero(t, c)
		if url != server.URL("nowhere") {
			assert.Equal(t, "0", ask(t, url, `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`), "it makes nothing")
		}
	}
	url := server.Database(t)
	s := openPostgres(t, url)
	peek := func() store.Custody {
		c, err := store.PeekPostgres(t.Context(), store.Postgres{URL: url})
		require.NoError(t, err)
		return c
	}
	assert.Zero(t, peek())
	c := change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		next(p)
		return entries("first"), nil
	})
	c.Custody = true
	require.NoError(t, s.Commit(t.Context(), c))
	assert.EqualValues(t, 1, peek().Revision)
	assert.Equal(t, "document 1", string(peek().Document))
	require.NoError(t, s.Close())
	server.Stop(t)
	_, err := store.PeekPostgres(t.Context(), store.Postgres{URL: url})
	require.Error(t, err)
}

func TestCheckPostgresURL(t *testing.T) {
	for url, says := range map[string]string{
		"postgresql://signer@/pursekeeper?host=/run/postgresql":                       "",
		"postgresql://signer@localhost:5432/pursekeeper":                              "",
		"postgres://signer@[::1]/pursekeeper?sslmode=require":                         "",
		"postgresql://signer@db.example.org/pursekeeper?sslmode=verify-full":          "",
		"postgresql://signer@a:1,b:2/pursekeeper?sslmode=verify-full&sslrootcert=ca":  "",
		"postgresql://signer@a:1,b:2/pursekeeper":                                     `a is on another machine, and sslmode is "", expected verify-full`,
		"postgresql://signer@127.0.0.1,b/pursekeeper?sslmode=verify-ca":               `b is on another machine, and sslmode is "verify-ca", expected verify-full`,
		"postgresql://signer@/pursekeeper?host=db.example.org&sslmode=require":        "expected verify-full",
		"postgresql://signer:wallet@localhost/pursekeeper":                            "it holds a password",
		"postgresql://signer@localhost/pursekeeper?password=wallet":                   "it holds a password",
		"postgresql://localhost/pursekeeper":                                          "it names no user",
		"postgresql://signer@localhost":                                               "it names no database",
		"postgresql://signer@/pursekeeper":                                            "it names no host",
		"postgresql://signer@localhost/pursekeeper?host=/run":                         "it names a host twice",
		"postgresql://signer@localhost/pursekeeper?sslmode=verify-full&sslmode=allow": `"sslmode" twice`,
		"postgresql://signer@localhost/pursekeeper?options=-csynchronous_commit=off":  `it has the parameter "options"`,
		"mysql://signer@localhost/pursekeeper":                                        `its scheme is "mysql", expected postgresql`,
		"host=localhost user=signer":                                                  "its scheme is",
		"postgresql://signer:wal%zzlet@localhost/pursekeeper":                         "it is no URL",
	} {
		err := store.CheckPostgresURL(url)
		if says == "" {
			assert.NoError(t, err, url)
			continue
		}
		assert.ErrorContains(t, err, says, url)
		if err != nil {
			assert.NotContains(t, err.Error(), "wallet")
			assert.NotContains(t, err.Error(), "let@")
		}
	}
}
