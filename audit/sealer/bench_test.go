package sealer_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/store"
)

// BenchmarkSealing seals entries of a real database into a real folder.
func BenchmarkSealing(b *testing.B) {
	p := place(b.TempDir())
	s := p.open(b)
	for n := 0; n < b.N; n += 200 {
		require.NoError(b, record(b.Context(), s, min(200, b.N-n)))
	}
	b.ResetTimer()
	require.NoError(b, once(b, config(p, s, &alarms{})).Err)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkVerifying verifies such a folder.
func BenchmarkVerifying(b *testing.B) {
	p := place(b.TempDir())
	s := p.open(b)
	for n := 0; n < b.N; n += 200 {
		require.NoError(b, record(b.Context(), s, min(200, b.N-n)))
	}
	require.NoError(b, once(b, config(p, s, &alarms{})).Err)
	_, key, err := key(1)
	require.NoError(b, err)
	b.ResetTimer()
	report, err := verifier.Verify(b.Context(), verifier.Config{Folder: p.folder(), Key: key})
	require.NoError(b, err)
	require.True(b, report.Held())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkCommitsBesideSealing commits entries of the size of a load's, from 64 callers, alone and beside a sealer at its own pace: what the
// sealer costs the live signer is the difference. fast is as fast as the store takes them, paced about 8,000 a second, as a token would.
// cpu-us/op is the processor time of the whole process, p50-ms and p99-ms are of a caller's wait.
func BenchmarkCommitsBesideSealing(b *testing.B) {
	for _, pace := range []struct {
		name  string
		pause time.Duration
	}{{"fast", 0}, {"paced", 7 * time.Millisecond}} {
		for _, sealed := range []string{"alone", "sealed"} {
			b.Run(pace.name+"/"+sealed, func(b *testing.B) {
				p := place(b.TempDir())
				s := p.open(b)
				ctx, stop := context.WithCancel(b.Context())
				ended := make(chan struct{})
				c := config(p, s, &alarms{})
				c.Interval = 0 // its own
				go func() {
					defer close(ended)
					if sealed == "sealed" {
						sealer.New(c).Run(ctx)
					}
				}()
				cpu := processorTime(b)
				b.ResetTimer()
				waits := commitFrom(b, s, 64, pace.pause)
				b.StopTimer()
				n := float64(b.N)
				b.ReportMetric(n/b.Elapsed().Seconds(), "entries/s")
				b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/n, "cpu-us/op")
				b.ReportMetric(waits[len(waits)/2].Seconds()*1e3, "p50-ms")
				b.ReportMetric(waits[len(waits)*99/100].Seconds()*1e3, "p99-ms")
				stop()
				<-ended
			})
		}
	}
}

// commitFrom commits b.N entries, one in each change, from so many callers that each pause between two, and returns how long each waited, the
// shortest first.
func commitFrom(b *testing.B, s *store.Database, callers int, pause time.Duration) []time.Duration {
	entry := audit.Entry{Event: "AuthorizeLoad", Client: "platform", Outcome: "APPROVED", Detail: strings.Repeat("x", 500)}
	waits := make([]time.Duration, b.N)
	var next atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(b.N) {
					return
				}
				began := time.Now()
				err := s.Commit(b.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
					e := entry
					e.Time = time.Now()
					return []audit.Entry{e}, nil
				}})
				if err != nil {
					b.Error(err)
					return
				}
				waits[n] = time.Since(began)
				time.Sleep(pause)
			}
		})
	}
	group.Wait()
	slices.Sort(waits)
	return waits
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
