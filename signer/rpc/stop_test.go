package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Requests in flight get their answers, new connections are refused, and Serve ends without an error.
func TestGracefulStop(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var x trouble
		w := newWorld(t, x.setup)
		slow := newHangs()
		x.key.Store(slow.trouble())
		const flying = 8
		answers := make(chan reply, flying)
		platform := w.dial(w.tlsAs("platform"), http2)
		// One HTTP/2 connection, made beforehand: connections on which nothing is ever sent hold a stop up for five seconds.
		require.Equal(t, "not_found", platform.post(getTransaction, fields{"transactionId": demoID}).code())
		for range flying {
			go func() { answers <- platform.post(authorizeLoad, demoLoad()) }()
		}
		for range flying {
			<-slow.entered
		}
		ended := make(chan error)
		go func() { ended <- w.end() }()
		require.Eventually(t, func() bool { return refusesConnections(w.public) && refusesConnections(w.admin) }, 5*time.Second, time.Millisecond)
		select {
		case err := <-ended:
			t.Fatalf("ended with requests in flight: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(slow.release)
		for range flying {
			r := <-answers
			assert.Equal(t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body)
			assert.Equal(t, demoMAC2, r.body["mac2"])
		}
		require.NoError(t, <-ended)
		assert.Len(t, w.attempts(), 1)
	}
}

func refusesConnections(at net.Addr) bool {
	conn, err := net.Dial("tcp", at.String())
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// The grace period bounds the stop: what is in flight then is cut off, its context ends, and Serve says so.
func TestGracePeriodEnds(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var x trouble
		w := newWorld(t, x.setup, func(s *setup) { s.grace, s.timeout = 100*time.Millisecond, time.Minute })
		slow := newHangs()
		x.key.Store(slow.trouble())
		platform := w.dial(w.tlsAs("platform"), http2)
		lost := make(chan error)
		go func() {
			response, err := platform.http.Post(platform.base+authorizeLoad, "application/json", jsonReader(t, demoLoad()))
			if err == nil {
				_ = response.Body.Close()
			}
			lost <- err
		}()
		<-slow.entered
		start := time.Now()
		err := w.end()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "requests were cut off after 100ms")
		assert.Less(t, time.Since(start), 3*time.Second)
		require.Error(t, <-lost)
		assert.Less(t, time.Since(start), 10*time.Second, "the connection outlived Serve")
		require.Eventually(t, func() bool { return strings.Contains(w.logs.String(), `"code":"canceled"`) }, 5*time.Second, time.Millisecond)
		assert.Empty(t, w.attempts())
	}
}

// Serve ends, with the error, when one of its listeners fails; the other server is stopped as well.
func TestServeEndsWithAFailedListener(t *testing.T) {
	for _, failed := range []int{0, 1} {
		listeners := []net.Listener{listen(t), listen(t)}
		require.NoError(t, listeners[failed].Close())
		ended := make(chan error, 1)
		go func() {
			pair := &http.Server{TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil, errors.New("none")
			}, MinVersion: tls.VersionTLS13}, ReadHeaderTimeout: time.Second}
			ended <- Serve(context.Background(), pair, &http.Server{ReadHeaderTimeout: time.Second}, listeners[0], listeners[1], time.Second)
		}()
		select {
		case err := <-ended:
			require.ErrorIs(t, err, net.ErrClosed)
		case <-time.After(10 * time.Second):
			t.Fatal("Serve goes on without one of its listeners")
		}
		assert.True(t, refusesConnections(listeners[1-failed].Addr()))
	}
}
