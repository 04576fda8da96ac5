package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// shared is a database on a PostgreSQL of the test's own, over TCP with a password in a file.
type shared struct {
	server   *pgtest.Server
	database string // URL over the socket
	edit     edit   // of a configuration
}

func newShared(t *testing.T) shared {
	t.Helper()
	return shared{server: pgtest.Start(t)}.another(t)
}

// another is a new database on the same server.
func (s shared) another(t *testing.T) shared {
	t.Helper()
	s.database = s.server.Database(t)
	password := filepath.Join(t.TempDir(), "password")
	home{t: t}.writeFile(password, s.server.Password)
	s.edit = edit{`store: .*`, `store: {postgres: {url: "` + s.server.TCP(s.database) + `", password: {file: "` + password + `"}}}`}
	return s
}

func (s shared) open() (*store.Database, error) {
	return store.OpenPostgres(context.Background(), store.Postgres{URL: s.database})
}

// Two commands over one store, each as over a file: what is not there is not made, and the password is needed.
func TestCommandsOnPostgres(t *testing.T) {
	h := newHome(t)
	state := newShared(t)
	config := h.config("pg.yaml", state.edit, edit{`audit: .*`, `audit: {directory: fresh}`})
	status, out := run(t, []string{"serve", "--config", config, "--check"})
	require.Zero(t, status, out)
	there, err := store.PostgresThere(t.Context(), store.Postgres{URL: state.database})
	require.NoError(t, err)
	require.False(t, there, "a check changes nothing")
	// The signer's own role may use the tables that the owner makes.
	state.server.Exec(t, state.database, "CREATE ROLE signer LOGIN PASSWORD '"+state.server.Password+"'")
	asSigner := h.config("signer.yaml", state.edit, edit{`audit: .*`, `audit: {directory: fresh}`}, edit{`postgresql://postgres@`, `postgresql://signer@`})
	status, out = run(t, []string{"serve", "--config", asSigner})
	require.NotZero(t, status)
	require.Contains(t, out, "its schema is version 0, this program needs ")
	status, out = run(t, []string{"migrate", "--config", config})
	require.Zero(t, status, out)
	require.Contains(t, out, "is up to date")
	status, out = run(t, []string{"migrate", "--config", config, "--grants", "public"})
	require.NotZero(t, status, "everybody")
	require.NotContains(t, out, "GRANT")
	status, grants := run(t, []string{"migrate", "--config", config, "--grants", "signer"})
	require.Zero(t, status, grants)
	state.server.Exec(t, state.database, grants)
	s := serveChild(h, asSigner)
	require.True(t, s.ready())
	require.Zero(t, s.terminate())
	status, out = run(t, []string{"audit", "verify", h.path("fresh"), "--key", h.path("fresh.pub")})
	require.Zero(t, status, out)

	state.server.Stop(t)
	status, out = run(t, []string{"serve", "--config", config})
	require.NotZero(t, status)
	require.Contains(t, out, "database test1: ")
	require.NotContains(t, out, state.server.Password)
	state.server.Launch(t)
	wrong := h.config("wrong.yaml", state.edit, edit{`password: {file: "[^"]*"}`, `password: {file: pin}`})
	status, out = run(t, []string{"serve", "--config", wrong})
	require.NotZero(t, status)
	require.Contains(t, out, "password authentication failed")
}
