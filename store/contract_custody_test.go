package store_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

func byRequest(c *store.Change) { c.Request = "one" }
func byCustody(c *store.Change) { c.Custody = true }

// replacing replaces the catalogue by the next revision, whose document names it.
func replacing(revision uint64) store.Change {
	return deciding(byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		next(p)
		return entries("replaced"), nil
	}, func(c *store.Change) { c.Revision = revision })
}

func next(p *store.Purse) {
	now := p.Custody()
	now.Revision++
	now.Document = fmt.Appendf(nil, "document %d", now.Revision)
}

func requesting(id string, index *uint64) store.Change {
	return deciding(func(c *store.Change) { c.Request = id }, func(p *store.Purse, at uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: id, Body: []byte(id), State: store.RequestOpen, AuditIndex: at, ExpiresAt: time.UnixMicro(1).UTC()})
		if index != nil {
			*index = at
		}
		return entries("requested"), nil
	})
}

// restoring brings the first catalogue, at revision 9.
func restoring(c *store.Change) { c.Custody, c.Restores = true, true }

func contractCustody(t *testing.T, e engine) {
	t.Run("a restored catalogue has the revision of its backup, and is the first", func(t *testing.T) {
		s := e.open(t, e.place(t))
		defer s.Close()
		at := func(revision uint64, lines ...audit.Entry) store.Change {
			return deciding(restoring, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Custody().Revision, p.Custody().Document = revision, fmt.Appendf(nil, "restored %d", revision)
				return lines, nil
			})
		}
		require.ErrorContains(t, s.Commit(t.Context(), at(9)), "expected revision 1", "without an entry")
		require.ErrorContains(t, s.Commit(t.Context(), at(0, entries("restored")...)), "bug")
		require.NoError(t, s.Commit(t.Context(), at(9, entries("restored")...)))
		require.ErrorContains(t, s.Commit(t.Context(), at(19, entries("restored")...)), "expected revision 10")
		require.NoError(t, s.Commit(t.Context(), replacing(9)))
	})
	t.Run("a document, again after a new start", func(t *testing.T) {
		place := e.place(t)
		s := e.open(t, place)
		holds := func(want store.Custody) {
			t.Helper()
			read, err := s.Custody(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, read)
			for known := range want.Revision + 2 {
				read, err := s.CustodyOtherThan(t.Context(), known)
				require.NoError(t, err)
				if known == want.Revision {
					assert.Equal(t, store.Custody{Revision: known}, read)
				} else {
					assert.Equal(t, want, read)
				}
			}
			require.NoError(t, s.Commit(t.Context(), deciding(byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Equal(t, want.Revision, p.Custody().Revision)
				assert.Equal(t, string(want.Document), string(p.Custody().Document))
				return nil, nil
			})))
		}
		holds(store.Custody{})
		for revision := range uint64(3) {
			require.NoError(t, s.Commit(t.Context(), replacing(revision)))
			holds(store.Custody{Revision: revision + 1, Document: fmt.Appendf(nil, "document %d", revision+1)})
		}
		require.ErrorIs(t, s.Commit(t.Context(), replacing(2)), store.ErrRevision)
		require.NoError(t, s.Close())
		s = e.open(t, place)
		defer s.Close()
		holds(store.Custody{Revision: 3, Document: []byte("document 3")})
		assert.Len(t, record(t, s), 3)
	})
	e.bubble(t, "a change under an older revision is refused, in one group too", func(t *testing.T, s store.Store) {
		require.NoError(t, s.Commit(t.Context(), replacing(0)))
		under := func(revision uint64) store.Change {
			c := adding(purseEP, store.AttemptKey{Counter: int(revision), Random: "00000001"})
			c.Revision = revision
			return c
		}
		outcomes := together(t, s, under(1), replacing(1), under(1), replacing(1), under(2))
		for i, want := range []error{nil, nil, store.ErrRevision, store.ErrRevision, nil} {
			require.ErrorIs(t, outcomes[i], want, "change %d", i)
		}
		require.ErrorContains(t, outcomes[2], "2, expected 1")
		assert.Len(t, record(t, s), 4)
	})
	e.bubble(t, "a change that fails has written nothing into the document that the next one sees", func(t *testing.T, s store.Store) {
		require.NoError(t, s.Commit(t.Context(), replacing(0)))
		spoil := deciding(byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Custody().Document[0] = 'X'
			return nil, errRefused
		})
		see := deciding(byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, "document 1", string(p.Custody().Document))
			return nil, nil
		})
		assert.Equal(t, []error{errRefused, nil}, together(t, s, spoil, see))
	})
}

// contractRequests: a change request is kept whole; what it was made with stays, and so does every approval, and its end.
func contractRequests(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	start(t, s)
	_, judged := parts(reflect.TypeFor[store.ChangeRequest]())
	var seed int
	want := store.ChangeRequest{}
	require.NoError(t, s.Commit(t.Context(), deciding(byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		require.Nil(t, p.Request())
		refill(&want, &seed)
		want.ID, want.AuditIndex, want.State, want.Ended = "one", index, store.RequestOpen, 0
		made := want
		p.AddRequest(&made)
		return entries("made"), nil
	})))
	seen := func() {
		t.Helper()
		found, err := s.ChangeRequest(t.Context(), "one")
		require.NoError(t, err)
		assert.Equal(t, want, found)
		require.NoError(t, s.Commit(t.Context(), deciding(byRequest, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, &want, p.Request())
			return nil, nil
		})))
	}
	seen()
	edit := func(do func(r *store.ChangeRequest, index uint64)) {
		t.Helper()
		require.NoError(t, s.Commit(t.Context(), deciding(byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			do(p.Request(), index)
			return entries("edited"), nil
		})))
	}
	for _, field := range judged { // each alone, so that none is kept only because another changed
		edit(func(r *store.ChangeRequest, _ uint64) {
			switch field {
			case "State":
				r.State = store.RequestExecuting
			case "Ended": // with the state, below
			case "Approvals":
				r.Approvals = append(r.Approvals, store.Approval{Officer: "new", At: time.UnixMicro(5).UTC()})
			default:
				fill(reflect.ValueOf(r).Elem().FieldByName(field), &seed)
			}
			want = *r
		})
		seen()
	}
	edit(func(r *store.ChangeRequest, _ uint64) {
		refill(r, &seed, judged...) // what is fixed stays as it was made
		for i := range r.Approvals {
			r.Approvals[i].Officer = "another"
		}
	})
	seen()
	edit(func(r *store.ChangeRequest, _ uint64) { r.Approvals = nil })
	seen()
	edit(func(r *store.ChangeRequest, index uint64) {
		r.State, r.Ended = store.RequestApplied, index
		want = *r
	})
	seen()
	edit(func(r *store.ChangeRequest, _ uint64) { r.State, r.Ended = store.RequestOpen, 0 })
	seen()
	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	seen()
	_, err := s.ChangeRequest(t.Context(), "two")
	assert.ErrorIs(t, err, store.ErrNotFound)
}

func contractRequestLists(t *testing.T, e engine) {
	s := e.fresh(t)
	start(t, s)
	indexes := make([]uint64, 6)
	for n := range indexes {
		require.NoError(t, s.Commit(t.Context(), requesting(fmt.Sprint(n), &indexes[n])))
	}
	for n, state := range map[int]store.RequestState{1: store.RequestApplied, 2: store.RequestApproved, 4: store.RequestApplied} {
		c := deciding(func(c *store.Change) { c.Request = fmt.Sprint(n) }, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			p.Request().State = state
			if state.Over() {
				p.Request().Ended = index
			}
			return entries("moved"), nil
		})
		require.NoError(t, s.Commit(t.Context(), c))
	}
	for _, c := range []struct {
		filter store.RequestFilter
		want   []string
	}{
		{store.RequestFilter{Limit: 10}, []string{"0", "1", "2", "3", "4", "5"}},
		{store.RequestFilter{Limit: 2}, []string{"0", "1"}},
		{store.RequestFilter{After: indexes[1], Limit: 2}, []string{"2", "3"}},
		{store.RequestFilter{OpenOnly: true, Limit: 10}, []string{"0", "2", "3", "5"}},
		{store.RequestFilter{State: store.RequestApplied, Limit: 10}, []string{"1", "4"}},
		{store.RequestFilter{State: store.RequestApplied, OpenOnly: true, Limit: 10}, nil},
		{store.RequestFilter{State: store.RequestApplied, After: indexes[1], Limit: 10}, []string{"4"}},
	} {
		found, err := s.ChangeRequests(t.Context(), c.filter)
		require.NoError(t, err)
		var ids []string
		for _, r := range found {
			ids = append(ids, r.ID)
		}
		assert.Equal(t, c.want, ids, "%+v", c.filter)
	}
}

// The states that are over, so that a new one is thought about.
func TestRequestStatesThatAreOver(t *testing.T) {
	open := []store.RequestState{store.RequestOpen, store.RequestApproved, store.RequestExecuting}
	for _, s := range []store.RequestState{
		store.RequestOpen, store.RequestApproved, store.RequestExecuting, store.RequestApplied, store.RequestRejected,
		store.RequestCancelled, store.RequestExpired, store.RequestFailed,
	} {
		assert.Equal(t, !slices.Contains(open, s), s.Over(), s)
	}
}

// custodyBugs are besideBugs of the catalogue and the change requests.
var custodyBugs = map[string]besideBug{
	"a catalogue that was not named": {byRequest, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Custody()
		return nil, nil
	}, "did not name"},
	"a request that was not named": {byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Request()
		return nil, nil
	}, "did not name"},
	"another request": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "two", State: store.RequestOpen, AuditIndex: index})
		return entries("two"), nil
	}, "did not name"},
	"a request made twice": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "one", State: store.RequestOpen, AuditIndex: index})
		p.AddRequest(&store.ChangeRequest{ID: "one", State: store.RequestOpen, AuditIndex: index})
		return entries("twice"), nil
	}, "twice"},
	"a request without a state": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "one", AuditIndex: index})
		return entries("no state"), nil
	}, "no state"},
	"a request without an entry": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "one", State: store.RequestOpen, AuditIndex: index})
		return nil, nil
	}, "audit index"},
	"a request that is over without an entry": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "one", State: store.RequestApplied, AuditIndex: index})
		return entries("over"), nil
	}, "ended with entry 0"},
	"a request that ended with another's entry": {byRequest, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddRequest(&store.ChangeRequest{ID: "one", State: store.RequestApplied, AuditIndex: index, Ended: index + 1})
		return entries("over"), nil
	}, "ended with entry"},
	"a catalogue without an entry": {byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		next(p)
		return nil, nil
	}, "without an entry"},
	"a catalogue two revisions on": {byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		next(p)
		p.Custody().Revision++
		return entries("two on"), nil
	}, "expected revision 1"},
	"a catalogue with its old revision": {byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Custody().Document = []byte("changed")
		return entries("changed"), nil
	}, "expected revision 1"},
	"a catalogue without a document": {byCustody, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Custody().Revision++
		return entries("empty"), nil
	}, "with 0 bytes"},
}
