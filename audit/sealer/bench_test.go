package sealer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit/verifier"
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
