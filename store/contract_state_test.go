package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// afterState are the fields of an attempt that a later decision may change, the others those that are fixed.
func afterState() (fixed, judged []string) {
	fields := reflect.VisibleFields(reflect.TypeFor[store.Attempt]())
	state, _ := reflect.TypeFor[store.Attempt]().FieldByName("State")
	for _, f := range fields {
		switch {
		case len(f.Index) > 1:
		case f.Index[0] < state.Index[0]:
			fixed = append(fixed, f.Name)
		default:
			judged = append(judged, f.Name)
		}
	}
	return fixed, judged
}

// seen fails unless all three ways to an attempt show want.
func seen(t *testing.T, s store.Store, at store.PurseKey, want store.Attempt) {
	t.Helper()
	found, err := s.Attempt(t.Context(), at, want.AttemptKey)
	require.NoError(t, err)
	assert.Equal(t, want, found, "Attempt")
	all, err := s.List(t.Context(), store.Filter{KeySet: at.KeySet, Card: at.Card, Purse: at.Purse, Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, []store.Listed{{Purse: at, Attempt: want}}, all, "List")
	look(t, s, at, func(p *store.Purse) {
		assert.Equal(t, &want, p.Attempt(want.AttemptKey), "a decision's Attempt")
		assert.Equal(t, []*store.Attempt{&want}, p.At(want.Counter), "a decision's At")
	})
}

func contractAttempts(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	start(t, s)
	fixed, judged := afterState()
	require.NotEmpty(t, fixed)
	require.NotEmpty(t, judged)
	var seed int
	var want store.Attempt
	refill(&want, &seed)
	made := change(purseEP, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		want.Counter, want.AuditIndex, want.Epoch, p.Highest = 7, index, 0, 7 // the epoch is the purse's
		made := want
		p.Add(&made)
		return entries("made"), nil
	})
	for _, bucket := range want.Buckets {
		made.Totals = append(made.Totals, store.Bucket{Name: bucket})
	}
	require.NoError(t, s.Commit(t.Context(), made))
	seen(t, s, purseEP, want)

	for n, field := range judged { // each alone, so that none is kept only because another changed
		require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			a := p.Attempt(want.AttemptKey)
			if field == "Contradicted" {
				a.Contradicted = false // the value that it was not made with
			} else {
				refill(a, &seed, slices.Concat(fixed, judged[:n], judged[n+1:])...)
			}
			require.NotEqual(t, want, *a, field)
			want = *a
			return nil, nil
		})))
		seen(t, s, purseEP, want)
	}

	require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		refill(p.Attempt(want.AttemptKey), &seed, judged...)
		p.Key.Card = "another"
		return nil, nil
	})))
	seen(t, s, purseEP, want)

	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	seen(t, s, purseEP, want)
	_, err := s.Attempt(t.Context(), purseED, want.AttemptKey)
	assert.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Attempt(t.Context(), purseEP, store.AttemptKey{Counter: 8, Random: want.Random})
	assert.ErrorIs(t, err, store.ErrNotFound)
}

// contractPurses: what is kept of a purse and of its card, shared by its purses.
func contractPurses(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	var seed int
	var want store.Card
	refill(&want, &seed)
	require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Card, p.Highest = want, 65536
		return nil, nil
	})))
	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	look(t, s, purseEP, func(p *store.Purse) {
		assert.Equal(t, purseEP, p.Key)
		assert.Equal(t, want, p.Card)
		assert.Equal(t, 65536, p.Highest)
	})
	look(t, s, purseED, func(p *store.Purse) {
		assert.Equal(t, want, p.Card)
		assert.Equal(t, store.NoCounter, p.Highest)
	})
}

// settling is the state of the settlements' contract.
type settling struct {
	*testing.T
	store.Store
	seed int
}

// begin begins a settlement of its own, and returns what must be found of it.
func (s *settling) begin(at store.PurseKey) (made store.Settlement) {
	refill(&made, &s.seed)
	require.NoError(s, s.Commit(s.Context(), change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		begun := made
		p.Begin(&begun)
		assert.Same(s, &begun, p.Pending())
		return nil, nil
	})))
	made.State = store.SettlementPending
	return made
}

func (s *settling) end(end func(*store.Purse)) {
	require.NoError(s, s.Commit(s.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		end(p)
		assert.Nil(s, p.Pending())
		return nil, nil
	})))
}

func (s *settling) found(at store.PurseKey, want store.Settlement) {
	s.Helper()
	key, settlement, err := s.Settlement(s.Context(), want.ID)
	require.NoError(s, err)
	assert.Equal(s, at, key)
	assert.Equal(s, want, settlement)
}

func (s *settling) pending(at store.PurseKey, want *store.Settlement) {
	s.Helper()
	look(s.T, s.Store, at, func(p *store.Purse) { assert.Equal(s, want, p.Pending()) })
}

func contractSettlements(t *testing.T, e engine) {
	s := &settling{T: t, Store: e.fresh(t)}
	first := s.begin(purseEP)
	s.found(purseEP, first)
	s.pending(purseEP, &first)
	s.pending(purseED, nil)

	second := s.begin(purseEP)
	first.State = store.SettlementReplaced
	s.found(purseEP, first)
	s.found(purseEP, second)
	s.pending(purseEP, &second)

	other := s.begin(purseED)
	s.end((*store.Purse).Cancel)
	second.State = store.SettlementCancelled
	s.found(purseEP, second)
	s.pending(purseEP, nil)
	s.pending(purseED, &other)
	s.end((*store.Purse).Cancel) // none is pending: nothing happens

	third := s.begin(purseEP)
	s.end(func(p *store.Purse) {
		used := p.Pending()
		p.Use()
		refill(used, &s.seed, "ID", "Terminal", "IssuerID", "ExpiresAt", "State")
		third = *used
		third.Settled = slices.Clone(used.Settled)
	})
	assert.Equal(t, store.SettlementUsed, third.State)
	s.found(purseEP, third)

	for _, c := range []struct {
		at   store.PurseKey
		id   string
		want *store.Settlement
	}{{purseEP, third.ID, &third}, {purseED, third.ID, nil}, {purseED, other.ID, &other}, {purseEP, "none", nil}} {
		naming := change(c.at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, c.want, p.Settlement(c.id))
			return nil, nil
		})
		naming.Settlement = c.id
		require.NoError(t, s.Commit(t.Context(), naming))
	}
	_, _, err := s.Settlement(t.Context(), "none")
	assert.ErrorIs(t, err, store.ErrNotFound)
}

func contractLists(t *testing.T, e engine) {
	s := e.fresh(t)
	start(t, s)
	var ids []string
	for _, at := range []store.PurseKey{purseEP, purseED, {KeySet: "demo", Card: "1", Purse: "EP"}, {KeySet: "demo-sm4", Card: "1", Purse: "EP"}} {
		for counter := range 3 {
			c := adding(at, store.AttemptKey{Counter: counter, Random: fmt.Sprintf("%08X", counter)})
			require.NoError(t, s.Commit(t.Context(), c))
			ids = append(ids, newAttempt(at, store.AttemptKey{Counter: counter, Random: fmt.Sprintf("%08X", counter)}).ID)
		}
	}
	require.NoError(t, s.Commit(t.Context(), change(purseEP, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.At(1)[0].State = store.Applied
		return nil, nil
	})))
	for _, c := range []struct {
		name   string
		filter store.Filter
		want   []string
	}{
		{"all, in the order of commit", store.Filter{Limit: 100}, ids},
		{"a key set", store.Filter{KeySet: "demo-sm4", Limit: 100}, ids[9:]},
		{"a card", store.Filter{KeySet: "demo", Card: purseEP.Card, Limit: 100}, ids[:6]},
		{"a purse", store.Filter{KeySet: "demo", Card: purseEP.Card, Purse: "ED", Limit: 100}, ids[3:6]},
		{"open ones", store.Filter{KeySet: "demo", Card: purseEP.Card, OpenOnly: true, Limit: 100}, append(slices.Clone(ids[:1]), ids[2:6]...)},
		{"a page", store.Filter{Limit: 5}, ids[:5]},
		{"the next page", store.Filter{After: 5, Limit: 5}, ids[5:10]},
		{"after the last", store.Filter{After: 12, Limit: 5}, nil},
		{"none", store.Filter{KeySet: "other", Limit: 5}, nil},
	} {
		all, err := s.List(t.Context(), c.filter)
		require.NoError(t, err)
		var found []string
		for _, one := range all {
			found = append(found, one.Attempt.ID)
		}
		assert.Equal(t, c.want, found, c.name)
	}
	assert.Equal(t, append([]string{"started"}, ids...), record(t, s))
	var some []uint64
	require.NoError(t, s.Entries(t.Context(), 4, func(index uint64, _ []byte) bool {
		some = append(some, index)
		return len(some) < 3
	}))
	assert.Equal(t, []uint64{4, 5, 6}, some)
	require.NoError(t, s.Entries(t.Context(), 13, func(uint64, []byte) bool { t.Error("an entry after the last"); return false }))
}
