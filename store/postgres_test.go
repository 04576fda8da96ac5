package store_test

import (
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

func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	contract(t, engine{place: func(t testing.TB) string { return server.Database(t) }, open: openPostgres})
}
