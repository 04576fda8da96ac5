package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
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
		for _, c := range []store.Change{
			charging(purseEP, attemptKey(7, 1), 100, name),
			change(purseEP, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				a := newAttempt(purseEP, attemptKey(7, 1))
				a.AuditIndex, a.Client, p.Highest = index, name, 7
				p.Add(a)
				return entries(a.ID), nil
			}),
			{Purse: purseEP, Purchase: &newPurchase(0).AttemptKey, Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				made := newPurchase(index)
				made.Client = name
				p.AddPurchase(made)
				return entries(made.ID), nil
			}},
			{Session: "one", Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.BeginSession(&store.ReaderSession{ID: "one", State: store.SessionOpen, Client: name})
				return entries("one"), nil
			}},
		} {
			err := s.Commit(t.Context(), c)
			require.ErrorContains(t, err, "bug: ")
			require.NotErrorIs(t, err, store.ErrUnavailable, "it fails the group")
		}
	}
	var long strings.Builder
	for n := range 3000 {
		fmt.Fprint(&long, n*7919%10007) // nothing that a database could write shorter
	}
	err := s.Commit(t.Context(), charging(purseEP, attemptKey(7, 1), 100, long.String()))
	require.NotErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "bug: bucket")
	require.Empty(t, record(t, s))
}
