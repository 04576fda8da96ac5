package store_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// BenchmarkCommit commits what AuthorizeLoad commits, from many callers at once, on purses never seen (fresh) and on purses
// that the database knows, each at its next counter (known). cpu-us/op is the processor time of the whole process for one
// change, callers included: on a machine whose other cores are busy, a million over it is the rate. A PostgreSQL server is on the
// same machine, and its time is not in it.
func BenchmarkCommit(b *testing.B) {
	benchmarkCommit(b, "sqlite", []int{1, 13, 64, 256}, func(b *testing.B) *store.Database {
		s, err := store.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "state.db"))
		require.NoError(b, err)
		return s
	})
	server := pgtest.Start(b)
	benchmarkCommit(b, "postgres", []int{1, 13, 64, 256}, func(b *testing.B) *store.Database { return openOver(b, server, server.TCP(server.Database(b))) })
}

func benchmarkCommit(b *testing.B, engine string, callers []int, open func(*testing.B) *store.Database) {
	for _, purses := range []string{"fresh", "known"} {
		for _, callers := range callers {
			b.Run(fmt.Sprintf("%s/%s/%d", engine, purses, callers), func(b *testing.B) {
				s := open(b)
				next := freshLoads()
				if purses == "known" {
					next = knownLoads(b, s, 20_000)
				}
				commitAll(b, s, callers, next)
				require.NoError(b, s.Close())
			})
		}
	}
}

// commitAll commits b.N changes from so many callers and reports what one cost.
func commitAll(b *testing.B, s *store.Database, callers int, next func(n int) store.Change) {
	groups, changes, nanoseconds := s.Stats().Groups.Load(), s.Stats().Changes.Load(), s.Stats().Nanoseconds.Load()
	cpu := processorTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	waits := runCallers(b, s, callers, b.N, next)
	b.StopTimer()
	n := float64(b.N)
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1e3, "p99-ms")
	b.ReportMetric(float64(waits[len(waits)-1].Microseconds())/1e3, "max-ms")
	b.ReportMetric(n/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/n, "cpu-us/op")
	b.ReportMetric(float64(s.Stats().Nanoseconds.Load()-nanoseconds)/1e3/n, "writer-us/op")
	b.ReportMetric(float64(s.Stats().Changes.Load()-changes)/float64(s.Stats().Groups.Load()-groups), "changes/group")
	b.ReportMetric(float64(s.Stats().Groups.Load()-groups)/b.Elapsed().Seconds(), "groups/s")
}

// runCallers commits the changes from so many callers and returns how long each took.
func runCallers(t testing.TB, s store.Store, callers, changes int, next func(n int) store.Change) []time.Duration {
	waits := make([]time.Duration, changes)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for n := int(taken.Add(1)) - 1; n < changes; n = int(taken.Add(1)) - 1 {
				change, start := next(n), time.Now()
				if err := s.Commit(t.Context(), change); err != nil {
					t.Error(err)
					return
				}
				waits[n] = time.Since(start)
			}
		})
	}
	all.Wait()
	return waits
}

// freshLoads are loads of cards in no order, as cards come: each writes to a place of its own in the database's trees.
func freshLoads() func(int) store.Change {
	run := rand.Uint64()
	return func(n int) store.Change {
		return loadChange((run+uint64(n))*0x9E3779B97F4A7C15, 7)
	}
}

// knownLoads records one load of so many purses and returns the next ones of the same.
func knownLoads(t testing.TB, s store.Store, purses int) func(int) store.Change {
	change := func(n int) store.Change {
		return loadChange(uint64(n%purses)*0x9E3779B97F4A7C15, 7+n/purses)
	}
	runCallers(t, s, 256, purses, change)
	return func(n int) store.Change { return change(purses + n) }
}

// loadChange is an approved load as the signer commits it: passed attempts are settled, a new one is added.
func loadChange(card uint64, counter int) store.Change {
	at := store.PurseKey{KeySet: "gd-purse", Card: fmt.Sprintf("%016X", card), Purse: "EP"}
	made := newAttempt(at, store.AttemptKey{Counter: counter, Random: "A1B2C3D4"})
	entry := audit.Entry{
		Time: made.CreatedAt, Event: audit.Event(policy.AuthorizeLoad), Client: "platform", Role: policy.Platform,
		Policy: "5f8c1d6e0a7b49c2", KeySet: at.KeySet, Card: at.Card, Purse: at.Purse, Transaction: made.ID,
		Key: &audit.Key{Set: at.KeySet, Kind: "load", Version: 1, KCV: made.KCV}, Boundary: made.Boundary,
		Inputs: audit.Inputs{
			Initialize: "000003E800070100A1B2C3D47E1722D0", AmountFen: uint64(made.Amount), Terminal: made.Terminal,
			Date: made.Date, Time: made.Time,
		},
		Outcome: "APPROVED", MAC2: made.MAC2,
	}
	return store.Change{
		Purse: at, Counters: []int{counter},
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			if p.Highest != counter {
				for _, a := range p.At(p.Highest) {
					a.State, a.Evidence = store.Applied, store.ByCounter
				}
			}
			p.Highest = counter
			a := *made
			a.AuditIndex = index
			p.Add(&a)
			p.Cancel()
			return []audit.Entry{entry}, nil
		},
	}
}

func newAttempt(at store.PurseKey, key store.AttemptKey) *store.Attempt {
	return &store.Attempt{
		AttemptKey: key,
		ID:         fmt.Sprintf("%s/%s/%s/LOAD/%04X/%s", at.KeySet, at.Card, at.Purse, key.Counter, key.Random),
		Operation:  "LOAD", Amount: 100, Balance: 1000, Terminal: "112233445566", Date: "20240131", Time: "235959",
		KeyVersion: 1, KCV: "8CA64D", Boundary: "BOUNDARY_TOKEN", MAC2: "60B7B5B7",
		CreatedAt: time.Date(2024, 1, 31, 15, 59, 59, 123456000, time.UTC), State: store.Open,
	}
}

func processorTime(t testing.TB) time.Duration {
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
