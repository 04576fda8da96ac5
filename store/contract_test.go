package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// engine is one implementation of store.Store under the contract.
type engine struct {
	// place names a new, empty database.
	place func(t testing.TB) string
	// open opens the database at a place.
	open func(t testing.TB, place string) store.Store
}

// contract is what every store.Store does; an engine's own test runs it.
func contract(t *testing.T, e engine) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, engine)
	}{
		{"changes", contractChanges},
		{"groups", contractGroups},
		{"copies", contractCopies},
		{"sight", contractSight},
		{"order", contractOrder},
		{"endings", contractEndings},
		{"attempts", contractAttempts},
		{"purses", contractPurses},
		{"resets", contractResets},
		{"settlements", contractSettlements},
		{"lists", contractLists},
		{"sealing", contractSealing},
		{"pruning", contractPruning},
		{"terminals", contractTerminals},
		{"purchases", contractPurchases},
		{"sessions", contractSessions},
		{"totals", contractTotals},
		{"totals given back", contractGivenBack},
		{"totals of all attempts", contractTotalsOfAll},
		{"totals swept", contractSweeping},
		{"beside", contractBeside},
		{"custody", contractCustody},
		{"requests", contractRequests},
		{"request lists", contractRequestLists},
		{"names", contractNames},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, e) })
	}
}

// fresh opens a new database, closed at the end of the test.
func (e engine) fresh(t testing.TB) store.Store {
	s := e.open(t, e.place(t))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

var (
	errRefused = errors.New("refused by the decision")
	purseEP    = store.PurseKey{KeySet: "demo", Card: "3105228000001117", Purse: "EP"}
	purseED    = store.PurseKey{KeySet: "demo", Card: "3105228000001117", Purse: "ED"}
)

// entry is a valid audit entry that says text.
func entry(text string) audit.Entry {
	return audit.Entry{Time: time.Unix(1706716799, 0), Event: "Tested", Outcome: "DONE", Detail: text}
}

func entries(text ...string) (all []audit.Entry) {
	for _, one := range text {
		all = append(all, entry(one))
	}
	return all
}

// change is a change of one purse that looks at counters 0 to 9.
func change(at store.PurseKey, decide func(p *store.Purse, index uint64) ([]audit.Entry, error)) store.Change {
	return store.Change{Purse: at, Counters: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, Decide: decide}
}

// adding records an attempt with an entry that names it.
func adding(at store.PurseKey, key store.AttemptKey) store.Change {
	return change(at, func(p *store.Purse, index uint64) ([]audit.Entry, error) {
		a := newAttempt(at, key)
		a.AuditIndex = index
		p.Highest = max(p.Highest, key.Counter)
		p.Add(a)
		return entries(a.ID), nil
	})
}

// start records the first entry of a record, which is about no attempt.
func start(t testing.TB, s store.Store) {
	t.Helper()
	require.NoError(t, s.Commit(t.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return entries("started"), nil
	}}))
}

// look runs a change that changes nothing, for what it sees.
func look(t testing.TB, s store.Store, at store.PurseKey, see func(p *store.Purse)) {
	t.Helper()
	require.NoError(t, s.Commit(t.Context(), change(at, func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		see(p)
		return nil, nil
	})))
}

// record returns the audit entries' details, and fails unless the indexes are gapless from 0.
func record(t testing.TB, s store.Store) []string {
	t.Helper()
	details := []string{}
	require.NoError(t, s.Entries(t.Context(), 0, func(index uint64, line []byte) bool {
		require.Equal(t, uint64(len(details)), index, "the index after entry %d", len(details)-1)
		e, err := audit.Decode(line)
		require.NoError(t, err)
		details = append(details, e.Detail)
		return true
	}))
	return details
}

// together commits the changes in one group, in their order, and returns their errors. It runs in a bubble of synctest in
// which s was opened: a change ahead of them holds the writer until they all wait.
func together(t testing.TB, s store.Store, changes ...store.Change) []error {
	t.Helper()
	release := make(chan struct{})
	outcomes := make([]error, len(changes))
	var all sync.WaitGroup
	commit := func(ctx context.Context, c store.Change, outcome *error) {
		all.Go(func() { *outcome = s.Commit(ctx, c) })
		synctest.Wait()
	}
	var first error
	commit(t.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		<-release
		return nil, nil
	}}, &first)
	for i, c := range changes {
		commit(t.Context(), c, &outcomes[i])
	}
	close(release)
	all.Wait()
	require.NoError(t, first)
	return outcomes
}

// fill sets every field to a value of its own, none of them zero: a field that an engine forgets then fails its test.
// The values are in the range that every engine keeps: text, whole microseconds in UTC.
func fill(v reflect.Value, seed *int) {
	*seed++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text%d", *seed))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*seed))
	case reflect.Uint8:
		v.SetUint(uint64(1 + *seed%250))
	case reflect.Uint32:
		v.SetUint(uint64(1<<32 - *seed))
	case reflect.Uint64:
		v.SetUint(uint64(*seed))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), seed)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMicro(1706716799123456 + int64(*seed)).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), seed)
		}
	default:
		panic("fill does not know " + v.Kind().String())
	}
}

// refill fills the fields of the struct that s points to, but for those named.
func refill(s any, seed *int, but ...string) {
	v := reflect.ValueOf(s).Elem()
	was := map[string]reflect.Value{}
	for _, name := range but {
		was[name] = reflect.ValueOf(v.FieldByName(name).Interface())
	}
	fill(v, seed)
	for name, value := range was {
		v.FieldByName(name).Set(value)
	}
}
