package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

func openPostgres(t testing.TB, url string) store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
	require.NoError(t, err)
	return s
}

// The contract holds for a role that may do no more than store.Grants allows.
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	server.Exec(t, server.URL("postgres"), `CREATE ROLE pursekeeper LOGIN`)
	contract(t, engine{open: openPostgres, place: func(t testing.TB) string {
		url := server.Database(t)
		require.NoError(t, openPostgres(t, url).Close())
		server.Exec(t, url, store.Grants)
		return strings.Replace(url, "postgres@", "pursekeeper@", 1)
	}})
}
