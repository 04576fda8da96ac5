package rpc

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The limits of a connection are what the server is made with.
func TestServersAreLimited(t *testing.T) {
	w := newWorld(t, func(s *setup) {
		s.server = func(server *http.Server) {
			assert.Equal(t, headerTimeout, server.ReadHeaderTimeout)
			assert.Equal(t, readTimeout, server.ReadTimeout)
			assert.Equal(t, writeTimeout, server.WriteTimeout)
			assert.Equal(t, idleTimeout, server.IdleTimeout)
			assert.Equal(t, maxHeaderBytes, server.MaxHeaderBytes)
		}
	})
	w.as("platform").approved(demoLoad())
}

// A header over the limit gets 431 on both versions of HTTP, and the service goes on.
func TestLargeHeaders(t *testing.T) {
	w := newWorld(t)
	for _, http2 := range []bool{false, true} {
		platform := w.dial(w.tlsAs("platform"), http2)
		send := func(size int) (int, error) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, platform.base+authorizeLoad, jsonReader(t, demoLoad()))
			require.NoError(t, err)
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("X-Large", strings.Repeat("x", size))
			response, err := platform.http.Do(request)
			if err != nil {
				return 0, err
			}
			return response.StatusCode, response.Body.Close()
		}
		status, err := send(maxHeaderBytes / 2)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		status, err = send(2 * maxHeaderBytes)
		if err == nil { // an HTTP/2 client may refuse to send what the server's settings do not allow
			assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
		}
	}
	w.as("platform").approved(demoLoad())
}

// A caller that sends its handshake, its header or its body a drop at a time is cut off.
func TestSlowCallersAreCutOff(t *testing.T) {
	const limit = 150 * time.Millisecond
	w := newWorld(t, func(s *setup) {
		s.server = func(server *http.Server) { server.ReadHeaderTimeout, server.ReadTimeout = limit, 2*limit }
	})
	for name, opening := range map[string]string{
		"nothing": "", "header": "POST " + authorizeLoad + " HTTP/1.1\r\nHost: localhost\r\n",
		"body": "POST " + authorizeLoad + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	} {
		config := w.tlsAs("platform")
		config.NextProtos = []string{"http/1.1"}
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", w.public.String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		start := time.Now()
		_, err = io.WriteString(conn, opening)
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err, "%s: not cut off", name)
		assert.NotContains(t, string(answer), "200 OK", name)
		assert.GreaterOrEqual(t, time.Since(start), limit/2, name)
		assert.Less(t, time.Since(start), 5*time.Second, name)
		_ = conn.Close()
	}
	w.as("platform").approved(demoLoad())
}
