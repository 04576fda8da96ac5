package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

const (
	// inFlight is how many requests of one stream are worked on at once. No more are read from the wire before one of them has been
	// answered, so a caller that sends without reading fills its own window and nobody else's. A request that has been read waits for its
	// client's turn before the next is read: a stream that sends more than its client's share is slowed down by its own window, where
	// refusing would only have it sent again. So one request of a stream waits at a time, and a client has streamsOfClient streams.
	inFlight = 64

	longestRef = 64 // bytes
)

var (
	errStopping = errors.New("the service stops; ask again on another connection")
	errUnread   = errors.New("the caller does not read its answers")
	errRef      = errors.New("ref: expected 1 to 64 bytes")
	errEmpty    = errors.New("request: missing")
)

// stream is one Transact. Three kinds of goroutine share it: one reads, one sends, and one for each request in flight works.
type stream struct {
	service *service
	arrival *arrival
	wire    *connect.BidiStream[v1.TransactRequest, v1.TransactResponse]
	places  chan struct{}             // one is taken before a request is read, and given back after its answer is sent
	answers chan *v1.TransactResponse // never full: as many as there are places
	sending atomic.Int64              // since when an answer is being sent, in nanoseconds since 1970; 0 none is

	mu      sync.Mutex // guards closed, so that no work begins after it has been waited for
	closed  bool
	working sync.WaitGroup
}

// Transact answers a stream of requests, each as its method alone would, in the order in which the answers are ready. It ends
// when the caller has said all and has been sent all answers. When the service stops, what is in flight is answered first. A message that
// comes after the caller's certificate was taken back, or he was suspended, ends the stream, and is not worked on.
func (s *service) Transact(ctx context.Context, wire *connect.BidiStream[v1.TransactRequest, v1.TransactResponse]) error {
	a := arrivalOf(ctx)
	a.read = true
	if err := a.unbound(); err != nil {
		return wireError(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st := &stream{
		service: s, arrival: a, wire: wire,
		places: make(chan struct{}, inFlight), answers: make(chan *v1.TransactResponse, inFlight),
	}
	done := make(chan error, 1)
	go func() { done <- s.guarded(func() error { return st.serve(ctx, cancel) }) }()
	watch := time.NewTicker(s.unreadTime / 8)
	defer watch.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-watch.C:
			if since := st.sending.Load(); since != 0 && time.Since(time.Unix(0, since)) > s.unreadTime {
				a.cut()
				<-done // the send ends with the stream, and must end before this function does
				return connect.NewError(connect.CodeDeadlineExceeded, errUnread)
			}
		}
	}
}

// serve runs the stream to its end.
func (st *stream) serve(ctx context.Context, cancel context.CancelFunc) error {
	read, sent := make(chan error, 1), make(chan error, 1)
	// Receive may outlast this function when the service stops: it ends with the stream.
	go func() { read <- st.service.guarded(func() error { return st.read(ctx) }) }()
	go func() { sent <- st.service.guarded(func() error { return st.send(cancel) }) }()
	var ended error
	select {
	case ended = <-read:
	case <-st.service.stopping:
		ended = connect.NewError(connect.CodeUnavailable, errStopping)
	}
	st.mu.Lock()
	st.closed = true
	st.mu.Unlock()
	st.working.Wait()
	close(st.answers)
	if err := <-sent; err != nil {
		return wireError(err)
	}
	return wireError(ended)
}

// read takes requests from the wire as places become free, and has each worked on; nil is the caller's own end of the stream.
func (st *stream) read(ctx context.Context) error {
	for {
		select {
		case st.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		m, err := st.wire.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		pass, err := st.service.admission.request(ctx, callerOf(ctx).Name(), costOf(len(m.GetVerifyTacs().GetItems())))
		if err != nil {
			return err
		}
		if err := st.arrival.stillTrusted(ctx); err != nil {
			pass.Leave()
			return err
		}
		st.mu.Lock()
		if st.closed {
			st.mu.Unlock()
			pass.Leave()
			return nil
		}
		st.working.Add(1)
		st.mu.Unlock()
		go func() {
			defer st.working.Done()
			answer := st.service.transact(ctx, m)
			pass.Leave()
			st.answers <- answer
		}()
	}
}

// send puts answers on the wire. After one that could not be sent the stream is dead: cancel ends the rest.
func (st *stream) send(cancel context.CancelFunc) (failed error) {
	for answer := range st.answers {
		if failed == nil {
			st.sending.Store(time.Now().UnixNano())
			if failed = st.wire.Send(answer); failed != nil {
				cancel()
			}
			st.sending.Store(0)
		}
		<-st.places
	}
	return failed
}

// guarded makes a panic of a stream's own goroutine that stream's error: one that nobody recovers would end the process.
func (s *service) guarded(run func() error) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			s.log.Error("bug: a stream panicked", "panic", bug, "at", frames(3))
			err = connect.NewError(connect.CodeInternal, errInternal)
		}
	}()
	return run()
}

// transact answers one request of a stream. A failure, a panic too, is its own and not the stream's.
func (s *service) transact(ctx context.Context, m *v1.TransactRequest) *v1.TransactResponse {
	answer := &v1.TransactResponse{Ref: m.Ref}
	method, run := s.bound(m, answer)
	failed := s.account(ctx, method, func(ctx context.Context) (inner any, err error) {
		defer func() {
			if bug := recover(); bug != nil {
				s.log.Error("bug: a handler panicked", "method", method, "panic", bug, "at", frames(3))
				err = connect.NewError(connect.CodeInternal, errInternal)
			}
		}()
		if len(m.Ref) < 1 || len(m.Ref) > longestRef {
			return nil, connect.NewError(connect.CodeInvalidArgument, errRef)
		}
		return run(ctx)
	})
	if failed != nil {
		answer.Ref = strings.ToValidUTF8(m.Ref[:min(len(m.Ref), longestRef)], "") // the cut may be within a character
		answer.Response = &v1.TransactResponse_Error{Error: writeError(failed)}
	}
	return answer
}

func writeError(e *connect.Error) *v1.Error {
	return &v1.Error{Code: e.Code().String(), Message: e.Message()}
}

// wireError is wire for an error that may be none, as an error that may be nil.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	return wire(err)
}

// unbound takes the server's time limits of a whole request off a stream; each of its requests has its own.
func (a *arrival) unbound() error {
	if a.control == nil {
		return nil
	}
	if err := a.control.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("stream without a read deadline: %w", err)
	}
	if err := a.control.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("stream without a write deadline: %w", err)
	}
	return nil
}

// cut ends a stream whose caller does not read: what is being sent fails at once.
func (a *arrival) cut() {
	if a.control != nil {
		_ = a.control.SetWriteDeadline(time.Now()) // what it answers changes nothing: the stream is given up
	}
}

// methodOf is the name of a method by its path.
func methodOf(procedure string) string { return path.Base(procedure) }
