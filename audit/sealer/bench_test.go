package sealer_test

import (
	"context"
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
// sealer costs the live signer is the difference. cpu-us/op is the processor time of the whole process.
func BenchmarkCommitsBesideSealing(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		name := "alone"
		if sealed {
			name = "sealed"
		}
		b.Run(name, func(b *testing.B) {
			p := place(b.TempDir())
			s := p.open(b)
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan struct{})
			c := config(p, s, &alarms{})
			c.Interval = 0 // its own
			go func() {
				defer close(ended)
				if sealed {
					sealer.New(c).Run(ctx)
				}
			}()
			cpu := processorTime(b)
			b.ResetTimer()
			commitFrom(b, s, 64)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/op")
			b.ReportMetric(float64(b.N)/float64(s.Stats().Groups.Load()), "entries/group")
			stop()
			<-ended
		})
	}
}

// commitFrom commits b.N entries, one in each change, from so many callers.
func commitFrom(b *testing.B, s *store.SQLite, callers int) {
	entry := audit.Entry{Event: "AuthorizeLoad", Client: "platform", Outcome: "APPROVED", Detail: strings.Repeat("x", 500)}
	var next atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for next.Add(1) <= int64(b.N) {
				err := s.Commit(b.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
					e := entry
					e.Time = time.Now()
					return []audit.Entry{e}, nil
				}})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
