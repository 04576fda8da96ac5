package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// A server is known by its certificate and its name: with another authority nothing is sent to it, and least of all the password.
func TestPostgresTLS(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t)
	ours, others := t.TempDir(), t.TempDir()
	for _, folder := range []string{ours, others} {
		require.NoError(t, devpki.WriteFolder(folder, time.Now()))
	}
	server.Stop(t)
	for _, name := range []string{"server.crt", "server.key"} {
		content, err := os.ReadFile(filepath.Join(ours, name))
		require.NoError(t, err)
		server.WriteData(t, name, content)
	}
	server.Launch(t, "ssl=on", "ssl_min_protocol_version=TLSv1.3")
	open := func(ca string) error {
		asked := false
		s, err := store.OpenPostgres(t.Context(), store.Postgres{
			URL: strings.Replace(server.TCP(database), "sslmode=disable", "sslmode=verify-full&sslrootcert=", 1) + filepath.Join(ca, "ca.crt"),
			Password: func(context.Context) ([]byte, error) {
				asked = true
				return []byte(server.Password), nil
			},
		})
		require.True(t, asked)
		if err == nil {
			require.NoError(t, s.Ready(t.Context()))
			require.Equal(t, "1", ask(t, database, `SELECT MIN(ssl::int) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
				WHERE datname = current_database() AND client_addr IS NOT NULL`))
			require.NoError(t, s.Close())
		}
		return err
	}
	require.NoError(t, open(ours))
	require.ErrorContains(t, open(others), "certificate")
}
