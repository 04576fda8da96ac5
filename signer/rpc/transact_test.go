package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// uncompressed has answers sent as long as they are.
var uncompressed = connect.WithAcceptCompression("gzip", nil, nil)

type bidi = connect.BidiStreamForClientSimple[v1.TransactRequest, v1.TransactResponse]

// open begins a stream; it is closed with the test.
func (c caller) open(options ...connect.ClientOption) *bidi {
	c.t.Helper()
	c.http.Timeout = 0 // of a whole stream
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.signer(options...).Transact(ctx)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { cancel(); _ = stream.CloseResponse() })
	return stream
}

func loadOf(ref string, m *v1.AuthorizeLoadRequest) *v1.TransactRequest {
	return &v1.TransactRequest{Ref: ref, Request: &v1.TransactRequest_AuthorizeLoad{AuthorizeLoad: m}}
}

// collect reads answers to the end of the stream, by ref.
func collect(t *testing.T, stream *bidi) map[string]*v1.TransactResponse {
	t.Helper()
	all := map[string]*v1.TransactResponse{}
	for {
		m, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		require.NotContains(t, all, m.Ref)
		all[m.Ref] = m
	}
}

// More requests than a stream works on at once, each answered as its method alone would, good and bad side by side.
func TestAStreamAnswersEachRequestByItsRef(t *testing.T) {
	w := newWorld(t)
	stream := w.as("platform").open(connect.WithGRPC())
	for i := range 3 * inFlight {
		require.NoError(t, stream.Send(loadOf(fmt.Sprint("load ", i), demoMessage())))
	}
	bad := demoMessage()
	bad.TerminalId = "11"
	foreign := demoMessage()
	foreign.KeySet = "foreign"
	long := strings.Repeat("r", longestRef-1) + "é" // cut within its last character
	page := &v1.ListTransactionsRequest{KeySet: "demo", PageSize: streamPage + 1}
	for _, m := range []*v1.TransactRequest{
		loadOf("bad", bad), loadOf("foreign", foreign), loadOf("", demoMessage()), loadOf(long, demoMessage()), {Ref: "empty"},
		{Ref: "page", Request: &v1.TransactRequest_ListTransactions{ListTransactions: page}},
		{Ref: "list", Request: &v1.TransactRequest_ListTransactions{ListTransactions: &v1.ListTransactionsRequest{KeySet: "demo"}}},
	} {
		require.NoError(t, stream.Send(m))
	}
	require.NoError(t, stream.CloseRequest())
	answers := collect(t, stream)
	require.Len(t, answers, 3*inFlight+7)
	for i := range 3 * inFlight {
		load := answers[fmt.Sprint("load ", i)].GetAuthorizeLoad()
		require.Equal(t, v1.Outcome_OUTCOME_APPROVED, load.GetOutcome())
		assert.Equal(t, demoMAC2, load.GetMac2())
	}
	failed := func(ref, code, message string) {
		e := answers[ref].GetError()
		assert.Equal(t, code, e.GetCode(), ref)
		assert.Contains(t, e.GetMessage(), message, ref)
	}
	failed("bad", "invalid_argument", "terminalId: 1 bytes, expected 6")
	failed("foreign", "permission_denied", `::"foreign`)
	failed("", "invalid_argument", "ref: expected 1 to 64 bytes")
	failed(long[:longestRef-1], "invalid_argument", "ref: expected 1 to 64 bytes")
	failed("page", "invalid_argument", "pageSize: is 101, expected 1 to 100 in a stream")
	failed("empty", "invalid_argument", "request: missing")
	assert.NotNil(t, answers["list"].GetListTransactions())
	assert.Len(t, w.attempts(), 1, "one answer of the card, one transaction")
}

// A caller that sends and never reads is read no further than its window and the places of its stream; another's answers come
// meanwhile.
func TestASlowReaderHoldsNobodyElse(t *testing.T) {
	w := newWorld(t)
	fillPages(t, w)
	slow := w.as("platform").open(connect.WithGRPC(), uncompressed)
	const sent = 2000
	go func() {
		page := &v1.TransactRequest_ListTransactions{ListTransactions: &v1.ListTransactionsRequest{KeySet: "demo", PageSize: streamPage}}
		for i := range sent {
			if slow.Send(&v1.TransactRequest{Ref: fmt.Sprint(i), Request: page}) != nil {
				return // the test is over
			}
		}
	}()
	pages := func() float64 { return w.requests("ListTransactions") }
	require.Eventually(t, func() bool { return pages() >= inFlight }, 10*time.Second, 5*time.Millisecond)
	quick := w.as("platform").open(connect.WithGRPC())
	for i := range 100 {
		start := time.Now()
		require.NoError(t, quick.Send(loadOf(fmt.Sprint(i), demoMessage())))
		m, err := quick.Receive()
		require.NoError(t, err)
		require.Equal(t, demoMAC2, m.GetAuthorizeLoad().GetMac2())
		require.Less(t, time.Since(start), 5*time.Second)
	}
	stalled := pages()
	require.Eventually(t, func() bool {
		before := stalled
		stalled = pages()
		return stalled == before
	}, 20*time.Second, 500*time.Millisecond)
	assert.Less(t, stalled, float64(sent)/2, "a stream is read no further than it is answered")
}

// A caller that does not read for too long is cut, on each protocol, and the service goes on: nothing of the stream is left running
// that could meet the end of its request.
func TestAStreamThatIsNotReadIsCut(t *testing.T) {
	for name, options := range map[string][]connect.ClientOption{"gRPC": {connect.WithGRPC(), uncompressed}, "Connect": {uncompressed}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(s *setup) { s.unread = 300 * time.Millisecond })
			fillPages(t, w)
			before := runtime.NumGoroutine()
			slow := w.as("auditor").open(options...)
			page := &v1.TransactRequest_ListTransactions{ListTransactions: &v1.ListTransactionsRequest{KeySet: "demo", PageSize: streamPage}}
			for i := range 2000 {
				if slow.Send(&v1.TransactRequest{Ref: fmt.Sprint(i), Request: page}) != nil {
					break // it was cut
				}
			}
			require.Eventually(t, func() bool { return slow.Send(&v1.TransactRequest{Ref: "more", Request: page}) != nil }, time.Minute, 20*time.Millisecond)
			assert.Equal(t, demoMAC2, w.as("platform").approved(demoLoad()).text("mac2"))
			assert.Eventually(t, func() bool { return runtime.NumGoroutine() < before+inFlight/2 }, 10*time.Second, 20*time.Millisecond)
			assert.NotContains(t, w.logs.String(), "panic")
		})
	}
}

// fillPages records a thousand transactions, so that a page of them has hundreds of kilobytes.
func fillPages(t *testing.T, w *world) {
	t.Helper()
	var filling sync.WaitGroup
	for i := range 1000 {
		filling.Go(func() {
			key := store.PurseKey{KeySet: "demo", Card: fmt.Sprintf("%016d", i), Purse: "EP"}
			assert.NoError(t, w.store.Commit(context.Background(), store.Change{
				Purse: key, Counters: []int{7},
				Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
					p.Highest = 7
					p.Add(&store.Attempt{
						AttemptKey: store.AttemptKey{Counter: 7, Random: "A1B2C3D4"}, Operation: "LOAD", AuditIndex: index, State: store.Open,
						ID: fmt.Sprintf("demo/%016d/EP/LOAD/0007/A1B2C3D4", i), Terminal: "112233445566", CreatedAt: time.Now(),
					})
					return []audit.Entry{{Event: "Filled", Time: time.Now(), Outcome: "OK"}}, nil
				},
			}))
		})
	}
	filling.Wait()
}

// A stream outlives the server's limits for one request.
func TestAStreamOutlivesTheLimitsOfARequest(t *testing.T) {
	w := newWorld(t, func(s *setup) {
		s.server = func(server *http.Server) {
			server.ReadTimeout, server.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
		}
	})
	stream := w.as("platform").open(connect.WithGRPC())
	for i := range 3 {
		time.Sleep(time.Duration(i) * 400 * time.Millisecond)
		require.NoError(t, stream.Send(loadOf(fmt.Sprint(i), demoMessage())))
		m, err := stream.Receive()
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(i), m.Ref)
	}
}

// A service that stops answers what it took and ends its streams; it does not wait for callers who have not finished.
func TestStreamsEndWhenTheServiceStops(t *testing.T) {
	w := newWorld(t, func(s *setup) { s.grace = 10 * time.Second })
	stream := w.as("platform").open(connect.WithGRPC())
	require.NoError(t, stream.Send(loadOf("before", demoMessage())))
	m, err := stream.Receive()
	require.NoError(t, err)
	require.Equal(t, "before", m.Ref)
	start := time.Now()
	require.NoError(t, w.end())
	assert.Less(t, time.Since(start), 5*time.Second)
	_, err = stream.Receive()
	assert.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
}

// An unknown field, or a message over the limit, ends the stream after what came before it.
func TestAMalformedMessageEndsItsStream(t *testing.T) {
	w := newWorld(t)
	stream := w.as("platform").open(connect.WithGRPC())
	require.NoError(t, stream.Send(loadOf("good", demoMessage())))
	large := demoMessage()
	large.CardSerial = strings.Repeat("1", MaxRequest)
	require.NoError(t, stream.Send(loadOf("large", large)))
	m, err := stream.Receive()
	require.NoError(t, err)
	assert.Equal(t, "good", m.Ref)
	_, err = stream.Receive()
	assert.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
}

// requests is how many requests of a method were counted.
func (w *world) requests(method string) (n float64) {
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, family := range families {
		if family.GetName() != "pursekeeper_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "method" && label.GetValue() == method {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}
