package rpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// withLimits bounds one client.
func withLimits(client string, limits admission.Limits) func(*setup) {
	return func(s *setup) { s.admission.Clients = map[string]admission.Limits{client: limits} }
}

// never is a rate at which nothing more enters while a test runs.
const never = 1e-6

// Beyond its bound a client is refused before its body is looked at, is told when to come again, and leaves nothing in the record and one line
// in the log. Nobody else notices.
func TestBeyondItsBoundAClientIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t, withLimits("platform", admission.Limits{Queue: 4, Rate: never, Burst: 1}))
	platform := w.as("platform")
	platform.approved(demoLoad())
	before := len(w.entries())
	for range 20 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, platform.base+authorizeLoad, strings.NewReader("{no JSON"))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := platform.http.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		require.Equal(t, "1000000", response.Header.Get("Retry-After"))
	}
	r := platform.post(authorizeLoad, demoLoad())
	assert.Equal(t, "resource_exhausted", r.code())
	assert.Equal(t, "client platform sends more than its rate, 1e-06 requests a second; nothing was done, try again later", r.message())
	_, err := platform.signer(connect.WithGRPC()).GetTransaction(t.Context(), &v1.GetTransactionRequest{TransactionId: demoID})
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
	var coded *connect.Error
	require.ErrorAs(t, err, &coded)
	assert.Equal(t, "1000000", coded.Meta().Get("Retry-After"))

	assert.Len(t, w.entries(), before, "the record")
	said := strings.Count(w.logs.String(), `"requests refused"`)
	assert.True(t, said >= 1 && said <= 1+int(time.Minute/quietFor), "%d lines", said)
	assert.Less(t, said, 20)
	assert.EqualValues(t, 22, w.counted("pursekeeper_admission_refused_total", "rate", "platform", lineRequests))
	assert.Zero(t, w.counted("pursekeeper_admission_refused_total", "queue", "platform", lineRequests))
	assert.EqualValues(t, 1, w.counted("pursekeeper_admission_admitted_total", "platform", lineRequests))

	assert.Equal(t, http.StatusOK, w.as("officer").post(unlockCard,
		fields{"keySet": "demo", "cardSerial": demoCard, "reason": "found"}).status)
	assert.Equal(t, http.StatusOK, w.as("auditor").post(listEntries, fields{}).status)
}

// counted is the counter whose labels, in the order of their names, have these values.
func (w *world) counted(name string, values ...string) float64 {
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(labels, values) {
				return metric.GetCounter().GetValue()
			}
		}
	}
	require.Fail(w.t, "no such counter", "%s%v", name, values)
	return 0
}

// A client that may do nothing takes no place: it is refused before.
func TestWhoMayNotCallTakesNoPlace(t *testing.T) {
	w := newWorld(t, func(s *setup) {
		s.clients = append(s.clients, policy.Client{
			Name: "gone", Identity: devpki.Identity("gone"), Role: policy.Platform, KeySets: []string{"demo"}, Suspended: true,
		})
	})
	for _, name := range []string{"gone", "stranger"} {
		assert.Equal(t, "permission_denied", w.as(name).post(authorizeLoad, demoLoad()).code())
	}
	assert.Empty(t, w.admission.requests.Stats())
}

// A stream that sends more than its client's rate is slowed down, and nothing of it is refused.
func TestAStreamIsSlowedDown(t *testing.T) {
	const messages, rate = 20, 100
	w := newWorld(t, withLimits("platform", admission.Limits{Queue: 1, Rate: rate, Burst: 1}))
	stream := w.as("platform").open()
	start := time.Now()
	for i := range messages {
		require.NoError(t, stream.Send(&v1.TransactRequest{Ref: fmt.Sprint(i), Request: &v1.TransactRequest_GetTransaction{
			GetTransaction: &v1.GetTransactionRequest{TransactionId: demoID},
		}}))
	}
	require.NoError(t, stream.CloseRequest())
	answers := collect(t, stream)
	require.Len(t, answers, messages)
	assert.GreaterOrEqual(t, time.Since(start), (messages-1)*time.Second/rate)
	for ref, m := range answers {
		assert.Equal(t, "not_found", m.GetError().GetCode(), ref)
	}
}

func TestStreamsOfAClientAreBounded(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	var streams []*bidi
	ask := func(stream *bidi) error {
		err := stream.Send(&v1.TransactRequest{Ref: "a", Request: &v1.TransactRequest_GetTransaction{GetTransaction: &v1.GetTransactionRequest{}}})
		if err == nil {
			_, err = stream.Receive()
		}
		return err
	}
	for range streamsOfClient {
		streams = append(streams, platform.open(connect.WithGRPC()))
		require.NoError(t, ask(streams[len(streams)-1]))
	}
	more := platform.open(connect.WithGRPC())
	_ = more.Send(&v1.TransactRequest{Ref: "a"}) // may come too late to be sent
	_, err := more.Receive()
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
	require.NoError(t, streams[0].CloseRequest())
	collect(t, streams[0])
	require.Eventually(t, func() bool { return ask(platform.open(connect.WithGRPC())) == nil }, 10*time.Second, time.Millisecond)
}

// Batches that wait do not keep the bytes of the one that works from it, though all come on one connection; and one more than may wait is
// refused.
func TestBatchesThatWaitOnOneConnection(t *testing.T) {
	w := newWorld(t, func(s *setup) { s.timeout = time.Minute })
	platform := w.as("platform")
	platform.http.Timeout = time.Minute
	batch := rightTACs(t, 2000)
	for _, item := range batch.Items {
		item.Ref = strings.Repeat("r", 1000)
	}
	body, err := proto.Marshal(batch)
	require.NoError(t, err)
	require.Greater(t, len(body), 2<<20, "more than the windows of a connection")
	var held []*admission.Pass
	for range max(2, runtime.GOMAXPROCS(0)) { // all slots, while their client is alone
		pass, err := w.admission.batches.Enter("other")
		require.NoError(t, err)
		require.NoError(t, pass.Wait(t.Context(), 1))
		held = append(held, pass)
	}
	platform.approved(demoLoad()) // the connection
	var senders sync.WaitGroup
	for range batchesWaiting {
		senders.Go(func() { assert.Equal(t, http.StatusOK, platform.post1(t.Context(), t, verifyTacs, body)) })
	}
	require.Eventually(t, func() bool {
		for _, s := range w.admission.batches.Stats() {
			if s.Client == "platform" && s.Waiting == batchesWaiting {
				return true
			}
		}
		return false
	}, 30*time.Second, time.Millisecond)
	assert.Equal(t, http.StatusTooManyRequests, platform.post1(t.Context(), t, verifyTacs, body))
	platform.approved(demoLoad()) // batches hold none of the slots of requests
	for _, pass := range held {
		pass.Leave()
	}
	senders.Wait()
	for _, queue := range []*admission.Queue{w.admission.requests, w.admission.batches, w.admission.turns} {
		for _, s := range queue.Stats() {
			assert.Zero(t, s.Held+s.Waiting, "%v", s)
		}
	}
}

// The rest of a batch that is too long may never come: it is refused before it has a slot, which others wait for.
func TestABatchThatIsTooLongHoldsNoSlot(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	for _, kind := range []string{"application/proto", "application/json", "application/grpc"} {
		rest, body := io.Pipe()
		defer body.Close() //nolint:errcheck // a pipe's
		go func() { _, _ = body.Write(make([]byte, MaxBatchRequest+2<<10)) }()
		ctx, cancel := context.WithTimeout(t.Context(), readTimeout/2)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, platform.base+verifyTacs, rest)
		require.NoError(t, err)
		request.Header.Set("Content-Type", kind)
		response, err := platform.http.Do(request)
		require.NoError(t, err, kind)
		require.NoError(t, response.Body.Close())
		if kind != "application/grpc" {
			assert.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		}
	}
	for _, s := range w.admission.batches.Stats() {
		assert.Zero(t, s.Admitted, "%v", s)
	}
	assert.EqualValues(t, 3, w.counted("pursekeeper_requests_total", "resource_exhausted", "VerifyTacs", ""))
	assert.Contains(t, w.logs.String(), `"msg":"request refused unread","method":"VerifyTacs","client":"platform","code":"resource_exhausted"`)
}
