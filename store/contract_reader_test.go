package store_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

var (
	terminalOne = store.TerminalKey{KeySet: "demo", Terminal: "112233445566"}
	offer       = store.AttemptKey{Counter: 3, Random: "A1B2C3D4"}
)

// deciding is a change of EP that decides on what it names beside it.
func deciding(name func(c *store.Change), decide func(p *store.Purse, index uint64) ([]audit.Entry, error), more ...func(c *store.Change)) store.Change {
	c := store.Change{Purse: purseEP, Decide: decide}
	for _, set := range append(more, name) {
		set(&c)
	}
	return c
}

func byTerminal(c *store.Change) { c.Terminal = terminalOne }
func byPurchase(c *store.Change) { key := offer; c.Purchase = &key }
func bySession(c *store.Change)  { c.Session = "one" }

// newPurchase is the purchase that offer names.
func newPurchase(index uint64) *store.Purchase {
	return &store.Purchase{AttemptKey: offer, ID: "id", Type: "06", Serial: 1, AuditIndex: index, State: store.Open}
}

func purchasing() store.Change {
	return deciding(byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddPurchase(newPurchase(index))
		return entries("purchased"), nil
	})
}

func contractTerminals(t *testing.T, e engine) {
	serials := func(s store.Store, key store.TerminalKey, end error) (serial uint32) {
		c := store.Change{Terminal: key, Decide: func(p *store.Purse, _ uint64) (none []audit.Entry, err error) {
			var ok bool
			serial, ok = p.Terminal().Next()
			assert.True(t, ok)
			return nil, end
		}}
		assert.Equal(t, end, s.Commit(t.Context(), c))
		return serial
	}
	t.Run("a serial number is given once, to many callers and after a new start", func(t *testing.T) {
		place := e.place(t)
		s := e.open(t, place)
		var mu sync.Mutex
		var all sync.WaitGroup
		var given []uint32
		for range 32 {
			all.Go(func() {
				for range 10 {
					serial := serials(s, terminalOne, nil)
					mu.Lock()
					given = append(given, serial)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		slices.Sort(given)
		for i, serial := range given {
			require.EqualValues(t, i+1, serial)
		}
		require.NoError(t, s.Close())
		s = e.open(t, place)
		defer s.Close()
		assert.EqualValues(t, 321, serials(s, terminalOne, errRefused))
		assert.EqualValues(t, 321, serials(s, terminalOne, nil), "a decision that erred took none")
		for _, other := range []store.TerminalKey{
			{KeySet: "demo-sm4", Terminal: terminalOne.Terminal}, {KeySet: "demo", Terminal: "112233445567"},
		} {
			assert.EqualValues(t, 1, serials(s, other, nil), "every terminal of every key set counts for itself")
		}
		assert.Empty(t, record(t, s))
	})
	t.Run("the last is given, and nothing after it", func(t *testing.T) {
		s := e.fresh(t)
		for _, want := range []bool{true, false, false} {
			require.NoError(t, s.Commit(t.Context(), deciding(byTerminal, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				p.Terminal().Last = max(p.Terminal().Last, math.MaxUint32-1)
				serial, ok := p.Terminal().Next()
				assert.Equal(t, want, ok)
				assert.Equal(t, want, serial == math.MaxUint32)
				return nil, nil
			})))
		}
		require.NoError(t, s.Commit(t.Context(), deciding(byTerminal, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Terminal().Last = 7
			return nil, nil
		})))
		require.NoError(t, s.Commit(t.Context(), deciding(byTerminal, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.EqualValues(t, uint32(math.MaxUint32), p.Terminal().Last, "it only rises")
			return nil, nil
		})))
	})
	e.bubble(t, "changes of one group see each other's serial numbers, in order", func(t *testing.T, s store.Store) {
		take := func(want uint32, err error) store.Change {
			return deciding(byTerminal, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				serial, _ := p.Terminal().Next()
				assert.Equal(t, want, serial)
				return nil, err
			})
		}
		assert.Equal(t, []error{nil, errRefused, nil}, together(t, s, take(1, nil), take(2, errRefused), take(2, nil)))
	})
}

// parts are the fields before State, which are fixed when a thing is made, and the others.
func parts(of reflect.Type) (fixed, judged []string) {
	state, _ := of.FieldByName("State")
	for i := range of.NumField() {
		if i < state.Index[0] {
			fixed = append(fixed, of.Field(i).Name)
		} else {
			judged = append(judged, of.Field(i).Name)
		}
	}
	return fixed, judged
}

func contractPurchases(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	start(t, s)
	fixed, judged := parts(reflect.TypeFor[store.Purchase]())
	require.NotEmpty(t, judged)
	var seed int
	want := store.Purchase{}
	require.NoError(t, s.Commit(t.Context(), deciding(byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		require.Nil(t, p.Purchase())
		refill(&want, &seed)
		want.AttemptKey, want.AuditIndex = offer, index
		made := want
		p.AddPurchase(&made)
		return entries("made"), nil
	})))
	seen := func() {
		t.Helper()
		found, err := s.Purchase(t.Context(), purseEP, offer)
		require.NoError(t, err)
		assert.Equal(t, want, found)
		require.NoError(t, s.Commit(t.Context(), deciding(byPurchase, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, &want, p.Purchase())
			return nil, nil
		})))
	}
	seen()
	change := func(but []string) {
		require.NoError(t, s.Commit(t.Context(), deciding(byPurchase, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			refill(p.Purchase(), &seed, but...)
			require.NotEqual(t, want, *p.Purchase())
			if len(but) > len(judged) {
				want = *p.Purchase()
			}
			return nil, nil
		})))
		seen()
	}
	for n := range judged { // each alone, so that none is kept only because another changed
		change(slices.Concat(fixed, judged[:n], judged[n+1:]))
	}
	change(judged) // what is fixed stays as it was made
	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	seen()
	for _, c := range []struct {
		at  store.PurseKey
		key store.AttemptKey
	}{{purseED, offer}, {purseEP, store.AttemptKey{Counter: 4, Random: offer.Random}}, {purseEP, store.AttemptKey{Counter: 3, Random: "0"}}} {
		_, err := s.Purchase(t.Context(), c.at, c.key)
		assert.ErrorIs(t, err, store.ErrNotFound)
	}
}

func contractSessions(t *testing.T, e engine) {
	place := e.place(t)
	s := e.open(t, place)
	_, judged := parts(reflect.TypeFor[store.ReaderSession]())
	var seed int
	var want store.ReaderSession
	require.NoError(t, s.Commit(t.Context(), deciding(bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		require.Nil(t, p.Session())
		refill(&want, &seed)
		want.ID = "one"
		made := want
		p.BeginSession(&made)
		return nil, nil
	})))
	seen := func() {
		t.Helper()
		found, err := s.ReaderSession(t.Context(), "one")
		require.NoError(t, err)
		assert.Equal(t, want, found)
		require.NoError(t, s.Commit(t.Context(), deciding(bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, &want, p.Session())
			return nil, nil
		})))
	}
	seen()
	for _, field := range judged {
		require.NoError(t, s.Commit(t.Context(), deciding(bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			fill(reflect.ValueOf(p.Session()).Elem().FieldByName(field), &seed)
			require.NotEqual(t, want, *p.Session(), field)
			want = *p.Session()
			return nil, nil
		})))
		seen()
	}
	require.NoError(t, s.Commit(t.Context(), deciding(bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		refill(p.Session(), &seed, judged...) // what is fixed stays as it was made
		return nil, nil
	})))
	seen()
	require.NoError(t, s.Close())
	s = e.open(t, place)
	defer s.Close()
	seen()
	_, err := s.ReaderSession(t.Context(), "two")
	assert.ErrorIs(t, err, store.ErrNotFound)
}

// contractBeside: what a change names beside its purse obeys the rules of a purse.
func contractBeside(t *testing.T, e engine) {
	nothing := func(t *testing.T, s store.Store) {
		_, err := s.Purchase(t.Context(), purseEP, offer)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.ReaderSession(t.Context(), "one")
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.ChangeRequest(t.Context(), "one")
		require.ErrorIs(t, err, store.ErrNotFound)
		catalogue, err := s.Custody(t.Context())
		require.NoError(t, err)
		require.Zero(t, catalogue)
	}
	bugs := maps.Clone(besideBugs)
	maps.Copy(bugs, custodyBugs)
	for name, bug := range bugs {
		e.bubble(t, name+" fails alone", func(t *testing.T, s store.Store) {
			outcomes := together(t, s, adding(purseED, store.AttemptKey{Counter: 1, Random: "00000001"}),
				deciding(bug.name, bug.decide), adding(purseED, store.AttemptKey{Counter: 1, Random: "00000002"}))
			require.NoError(t, outcomes[0])
			require.ErrorContains(t, outcomes[1], bug.says)
			require.NoError(t, outcomes[2])
			nothing(t, s)
			assert.Len(t, record(t, s), 2)
		})
	}
	e.bubble(t, "changes of one group see each other, and nothing of one that failed", func(t *testing.T, s store.Store) {
		session := store.ReaderSession{ID: "one", State: store.SessionChallenged}
		begin := func(err error) store.Change {
			return deciding(bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
				assert.Nil(t, p.Session())
				begun := session
				p.BeginSession(&begun)
				return nil, err
			})
		}
		spoil := deciding(func(c *store.Change) { byPurchase(c); bySession(c) }, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Purchase().WrongMAC2s[0], p.Purchase().State = "22222222", store.Verified
			p.Session().State = store.SessionEnded
			return nil, errRefused
		})
		wrong := deciding(byPurchase, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			p.Purchase().WrongMAC2s = []string{"11111111"}
			return nil, nil
		})
		look := deciding(func(c *store.Change) { byPurchase(c); bySession(c) }, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			assert.Equal(t, []string{"11111111"}, p.Purchase().WrongMAC2s)
			assert.Equal(t, store.Open, p.Purchase().State)
			assert.Equal(t, session, *p.Session())
			return nil, nil
		})
		assert.Equal(t, []error{errRefused, nil, nil, nil, errRefused, nil},
			together(t, s, begin(errRefused), begin(nil), purchasing(), wrong, spoil, look))
		found, err := s.Purchase(t.Context(), purseEP, offer)
		require.NoError(t, err)
		assert.Equal(t, []string{"11111111"}, found.WrongMAC2s)
	})
	e.bubble(t, "many of a kind are read and written together", func(t *testing.T, s store.Store) {
		var changes []store.Change
		for n := range 100 {
			key := store.AttemptKey{Counter: n, Random: fmt.Sprintf("%08X", n)}
			id := fmt.Sprint("session ", n)
			name := func(c *store.Change) { c.Purchase, c.Session, c.Terminal = &key, id, terminalOne }
			changes = append(changes, deciding(name, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
				made := newPurchase(index)
				made.AttemptKey = key
				made.Terminal = terminalOne.Terminal
				made.Serial, _ = p.Terminal().Next()
				p.AddPurchase(made)
				p.BeginSession(&store.ReaderSession{ID: id, State: store.SessionOpen})
				return entries(id), nil
			}))
		}
		for _, err := range together(t, s, changes...) {
			require.NoError(t, err)
		}
		for n := range 100 {
			found, err := s.Purchase(t.Context(), purseEP, store.AttemptKey{Counter: n, Random: fmt.Sprintf("%08X", n)})
			require.NoError(t, err)
			assert.EqualValues(t, n+1, found.Serial)
			_, err = s.ReaderSession(t.Context(), fmt.Sprint("session ", n))
			require.NoError(t, err)
		}
	})
}

type besideBug struct {
	name   func(*store.Change)
	decide func(p *store.Purse, index uint64) ([]audit.Entry, error)
	says   string
}

// besideBugs are decisions that fail though they do not mean to, and what Commit says of them.
var besideBugs = map[string]besideBug{
	"a terminal that was not named": {byPurchase, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Terminal()
		return nil, nil
	}, "did not name"},
	"a purchase that was not named": {bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Purchase()
		return nil, nil
	}, "did not name"},
	"a session that was not named": {byTerminal, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Session()
		return nil, nil
	}, "did not name"},
	"a purchase recorded elsewhere": {byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		made := newPurchase(index)
		made.Counter++
		p.AddPurchase(made)
		return entries("elsewhere"), nil
	}, "did not name"},
	"a session begun elsewhere": {bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.BeginSession(&store.ReaderSession{ID: "two", State: store.SessionOpen})
		return nil, nil
	}, "did not name"},
	"a purchase recorded twice": {byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddPurchase(newPurchase(index))
		p.AddPurchase(newPurchase(index))
		return entries("twice"), nil
	}, "twice"},
	"a session begun twice": {bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.BeginSession(&store.ReaderSession{ID: "one", State: store.SessionOpen})
		p.BeginSession(&store.ReaderSession{ID: "one", State: store.SessionOpen})
		return nil, nil
	}, "twice"},
	"a purchase without an entry": {byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		p.AddPurchase(newPurchase(index))
		return nil, nil
	}, "audit index"},
	"a purchase without a state": {byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		made := newPurchase(index)
		made.State = ""
		p.AddPurchase(made)
		return entries("no state"), nil
	}, "no state"},
	"a purchase without a serial number": {byPurchase, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		made := newPurchase(index)
		made.Serial = 0
		p.AddPurchase(made)
		return entries("no serial"), nil
	}, "no serial number"},
	"a session without a state": {bySession, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.BeginSession(&store.ReaderSession{ID: "one"})
		return nil, nil
	}, "no state"},
}
