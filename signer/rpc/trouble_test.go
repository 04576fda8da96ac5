package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/store"
)

// troubledKey is a key whose token does something else first. The zero trouble is none.
type troubledKey struct {
	keyderive.Key
	trouble *atomic.Pointer[func(context.Context) error]
}

func (k troubledKey) Lend(ctx context.Context, levels keyderive.Path, use func(keyderive.Unit) error) error {
	if trouble := k.trouble.Load(); trouble != nil {
		if err := (*trouble)(ctx); err != nil {
			return err
		}
	}
	return k.Key.Lend(ctx, levels, use)
}

// trouble is what the tokens and the store of a world do first.
type trouble struct {
	key    atomic.Pointer[func(context.Context) error]
	commit atomic.Pointer[func(context.Context) error]
}

func (x *trouble) setup(s *setup) {
	for i := range s.keySets {
		for j := range s.keySets[i].Versions {
			v := &s.keySets[i].Versions[j]
			v.Key = troubledKey{v.Key, &x.key}
		}
	}
	s.store = func(real store.Store) store.Store { return troubledStore{real, &x.commit} }
}

type troubledStore struct {
	store.Store
	trouble *atomic.Pointer[func(context.Context) error]
}

func (s troubledStore) Commit(ctx context.Context, c store.Change) error {
	if trouble := s.trouble.Load(); trouble != nil {
		if err := (*trouble)(ctx); err != nil {
			return err
		}
	}
	return s.Store.Commit(ctx, c)
}

// fails always fails with err.
func fails(err error) *func(context.Context) error {
	f := func(context.Context) error { return err }
	return &f
}

// hangs is a token that does not answer: entered tells that a call is in it, and it ends with its context, as keyderive.Key
// asks, or when it is released.
type hangs struct{ entered, release chan struct{} }

func newHangs() hangs { return hangs{make(chan struct{}, 64), make(chan struct{})} }

func (h hangs) trouble() *func(context.Context) error {
	f := func(ctx context.Context) error {
		h.entered <- struct{}{}
		select {
		case <-h.release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return &f
}

// Every error of the token and the store has its code; nothing was recorded, and when the trouble is over the same request is
// approved. What is not known is "internal error", whose cause is in the log alone.
func TestTroubleOnTheWire(t *testing.T) {
	const cause = "CKR_DEVICE_ERROR in slot 7"
	var x trouble
	w := newWorld(t, x.setup)
	for _, c := range []struct {
		err     error
		code    connect.Code
		message string
	}{
		{hsm.ErrBusy, connect.CodeResourceExhausted, "the token has more callers waiting than it may; try again"},
		{hsm.ErrUnavailable, connect.CodeUnavailable, "the token is away; nothing was signed"},
		{hsm.ErrPINLatched, connect.CodeUnavailable, "the token is away; nothing was signed"},
		{hsm.ErrClosed, connect.CodeUnavailable, "the token is away; nothing was signed"},
		{store.ErrUnavailable, connect.CodeUnavailable, "the database is away; nothing was signed"},
		{hsm.ErrKCVMismatch, connect.CodeInternal, "internal error"},
		{keyderive.ErrUnsupported, connect.CodeInternal, "internal error"},
		{errors.New("odd"), connect.CodeInternal, "internal error"},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "the request took too long; ask again with the same request"},
		{context.Canceled, connect.CodeCanceled, "the caller left"},
	} {
		wrapped := fmt.Errorf("%s: %w", cause, c.err)
		for place, at := range map[string]*atomic.Pointer[func(context.Context) error]{"token": &x.key, "store": &x.commit} {
			at.Store(fails(wrapped))
			what := fmt.Sprintf("%v of the %s", c.err, place)
			r := w.as("platform").post(authorizeLoad, demoLoad())
			assert.Equal(t, c.code.String(), r.code(), what)
			assert.Equal(t, c.message, r.message(), what)
			_, err := w.as("platform").signer(connect.WithGRPC()).AuthorizeLoad(t.Context(), demoMessage())
			assert.Equal(t, c.code, connect.CodeOf(err), what)
			assert.NotContains(t, err.Error(), cause, what)
			at.Store(nil)
		}
	}
	assert.Empty(t, w.attempts())
	assert.Len(t, w.entries(), 1)
	assert.Contains(t, w.logs.String(), cause+": odd", "the operator needs the cause")
	assert.Equal(t, demoMAC2, w.as("platform").approved(demoLoad()).body["mac2"])
}

// A denial that cannot be recorded is not answered as one: the record comes first.
func TestDenialWithoutAStore(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup)
	x.commit.Store(fails(store.ErrUnavailable))
	assert.Equal(t, "unavailable", w.as("auditor").post(authorizeLoad, demoLoad()).code())
	assert.Equal(t, "unavailable", w.as("nobody").post(authorizeLoad, demoLoad()).code())
}

// A slow token costs its caller the service's own deadline and no more, and signs nothing.
func TestSlowTokenMeetsTheDeadline(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup, func(s *setup) { s.timeout = 50 * time.Millisecond })
	slow := newHangs()
	x.key.Store(slow.trouble())
	for _, http2 := range []bool{false, true} {
		start := time.Now()
		r := w.dial(w.tlsAs("platform"), http2).post(authorizeLoad, demoLoad())
		assert.Equal(t, "deadline_exceeded", r.code())
		assert.Equal(t, http.StatusGatewayTimeout, r.status)
		assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
		assert.Less(t, time.Since(start), 5*time.Second)
	}
	_, err := w.as("platform").signer(connect.WithGRPC()).AuthorizeLoad(t.Context(), demoMessage())
	assert.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err))
	x.key.Store(nil)
	assert.Empty(t, w.attempts())
	w.as("platform").approved(demoLoad())
}

// A store that hangs holds nobody for longer either: not a request, and not the record of an unknown caller.
func TestSlowStoreMeetsTheDeadline(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup, func(s *setup) { s.timeout = 50 * time.Millisecond })
	x.commit.Store(newHangs().trouble())
	assert.Equal(t, "deadline_exceeded", w.as("platform").post(authorizeLoad, demoLoad()).code())
	assert.Equal(t, "deadline_exceeded", w.as("nobody").post(authorizeLoad, demoLoad()).code())
}

// A caller may ask for less time than the service gives, never for more.
func TestCallersOwnDeadline(t *testing.T) {
	for header, service := range map[string]time.Duration{"20": time.Minute, "3600000": 50 * time.Millisecond} {
		var x trouble
		w := newWorld(t, x.setup, func(s *setup) { s.timeout = service })
		x.key.Store(newHangs().trouble())
		platform := w.as("platform")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, platform.base+authorizeLoad, jsonReader(t, demoLoad()))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Connect-Timeout-Ms", header)
		assert.Equal(t, "deadline_exceeded", platform.do(request).code(), header) // within the client's own 20 s
	}
}

// A caller that leaves ends its request; nothing is recorded, and the log says why.
func TestCallerLeaves(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var x trouble
		w := newWorld(t, x.setup)
		slow := newHangs()
		x.key.Store(slow.trouble())
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		client := w.dial(w.tlsAs("platform"), http2).signer()
		go func() {
			_, err := client.AuthorizeLoad(ctx, demoMessage())
			left <- err
		}()
		<-slow.entered
		leave()
		require.Equal(t, connect.CodeCanceled, connect.CodeOf(<-left))
		require.Eventually(t, func() bool { return strings.Contains(w.logs.String(), `"code":"canceled"`) }, 5*time.Second, time.Millisecond)
		x.key.Store(nil)
		assert.Empty(t, w.attempts())
		w.as("platform").approved(demoLoad())
	}
}

// A panic is one caller's internal error: its text stays inside, the log says where, and the service lives on.
func TestPanicIsOneCallersError(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup)
	bug := func(context.Context) error { panic("index out of luck") }
	for place, at := range map[string]*atomic.Pointer[func(context.Context) error]{"token": &x.key, "store": &x.commit} {
		at.Store(&bug)
		for name, options := range map[string][]connect.ClientOption{"grpc": {connect.WithGRPC()}, "connect": nil} {
			_, err := w.as("platform").signer(options...).AuthorizeLoad(t.Context(), demoMessage())
			require.Equal(t, connect.CodeInternal, connect.CodeOf(err), "%s %s", place, name)
			assert.EqualError(t, err, "internal: internal error", place)
		}
		at.Store(nil)
	}
	log := w.logs.String()
	assert.Contains(t, log, `"panic":"index out of luck"`)
	assert.Contains(t, log, "TestPanicIsOneCallersError.func1:", "where it was")
	answer, err := w.as("platform").signer(connect.WithGRPC()).AuthorizeLoad(t.Context(), demoMessage())
	require.NoError(t, err)
	assert.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome)
}
