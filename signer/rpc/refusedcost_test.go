package rpc

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// What a refused request costs, the client's half and TLS with it: processor time of the whole process.
func BenchmarkRefusedRequest(b *testing.B) {
	w := newWorld(b, func(s *setup) {
		s.admission.Clients = map[string]admission.Limits{"platform": {Queue: 1, Rate: 1e-9, Burst: 1}}
	})
	c := w.as("platform")
	body, err := proto.Marshal(newCards(b).deal())
	require.NoError(b, err)
	require.Equal(b, http.StatusOK, c.post1(b.Context(), b, authorizeLoad, body))
	used := processTime()
	for b.Loop() {
		require.Equal(b, http.StatusTooManyRequests, c.post1(b.Context(), b, authorizeLoad, body))
	}
	b.ReportMetric(float64(processTime()-used)/float64(b.N)/1e3, "cpu-µs/op")
}

// processTime is the processor time of this process, in nanoseconds.
func processTime() int64 {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
