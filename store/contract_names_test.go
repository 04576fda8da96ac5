package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store"
)

// A name that no database could keep is of nothing that is there, and fails alone.
func contractNames(t *testing.T, e engine) {
	s := e.fresh(t)
	for _, name := range []string{"a\x00b", "a\xffb"} {
		_, _, err := s.Settlement(t.Context(), name)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.ChangeRequest(t.Context(), name)
		require.ErrorIs(t, err, store.ErrNotFound)
		for _, c := range []store.Change{
			{Settlement: name}, {Session: name}, {Request: name}, {Purse: store.PurseKey{Card: name}},
			{Terminal: store.TerminalKey{Terminal: name}}, {Purchase: &store.AttemptKey{Random: name}},
		} {
			c.Decide = adding(purseEP, store.AttemptKey{}).Decide
			require.ErrorIs(t, s.Commit(t.Context(), c), store.ErrNotFound)
		}
	}
	require.Empty(t, record(t, s))
}
