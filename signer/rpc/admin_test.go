package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
)

// scrape asks the admin listener.
func (w *world) scrape(path string) (status int, body string) {
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.admin.String()+path, nil)
	require.NoError(w.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	content, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(content)
}

func TestAdminSaysHowItIs(t *testing.T) {
	var trouble atomic.Pointer[error]
	w := newWorld(t, func(s *setup) {
		s.ready = func(context.Context) error {
			if err := trouble.Load(); err != nil {
				return *err
			}
			return nil
		}
	})
	status, body := w.scrape("/healthz")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "ok\n", body)
	status, body = w.scrape("/readyz")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "ready\n", body)

	away := errors.New("the token is away")
	trouble.Store(&away)
	status, body = w.scrape("/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "not ready: the token is away\n", body)
	assert.Contains(t, w.logs.String(), `"msg":"not ready","error":"the token is away"`)
	status, _ = w.scrape("/healthz")
	assert.Equal(t, http.StatusOK, status, "it lives, though it is not ready")
	trouble.Store(nil)
	status, _ = w.scrape("/readyz")
	assert.Equal(t, http.StatusOK, status)
}

// Health, metrics and pprof are on the admin listener and nowhere else; the API is on the public one and nowhere else.
func TestListenersDoNotMix(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	for _, path := range []string{
		"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/heap",
	} {
		status, _ := w.scrape(path)
		assert.Equal(t, http.StatusOK, status, path)
		response, err := platform.http.Get(platform.base + path)
		require.NoError(t, err, path)
		_ = response.Body.Close()
		assert.Equal(t, http.StatusNotFound, response.StatusCode, path)
	}
	for path := range methodRows() {
		response, err := http.Post("http://"+w.admin.String()+path, "application/json", strings.NewReader("{}"))
		require.NoError(t, err)
		_ = response.Body.Close()
		assert.Equal(t, http.StatusNotFound, response.StatusCode, path)
	}
	response, err := http.Post("http://"+w.admin.String()+"/healthz", "text/plain", nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
}

// Every request is counted once, by the API's words alone: refused unread or by a handler, approved or not.
func TestMetricsCountRequests(t *testing.T) {
	w := newWorld(t)
	_, before := w.scrape("/metrics")
	for _, event := range []audit.Event{audit.UnexplainedCounter, audit.Contradiction, audit.CardLocked} {
		assert.Contains(t, before, `pursekeeper_alarms_total{event="`+string(event)+`"} 0`)
	}
	platform := w.as("platform")
	platform.approved(demoLoad())
	platform.approved(demoLoad())
	platform.post(authorizeLoad, demoLoad().with("initializeResponse", demoAnswer+"00000000"))
	platform.post(authorizeLoad, demoLoad().with("date", "x"))
	platform.post(authorizeLoad, demoLoad().with("tiem", "x"))
	platform.send(authorizeLoad, "text/plain", nil)
	platform.post("/"+demoCard, fields{})
	w.as("auditor").post(authorizeLoad, demoLoad())
	w.as("nobody").post(authorizeLoad, demoLoad())
	platform.post(confirmLoad, fields{"transactionId": demoID, "tac": demoTAC})

	_, body := w.scrape("/metrics")
	for _, line := range []string{
		`pursekeeper_requests_total{code="ok",method="AuthorizeLoad",outcome="OUTCOME_APPROVED"} 2`,
		`pursekeeper_requests_total{code="ok",method="AuthorizeLoad",outcome="OUTCOME_MAC_MISMATCH"} 1`,
		`pursekeeper_requests_total{code="invalid_argument",method="AuthorizeLoad",outcome=""} 1`,
		`pursekeeper_requests_total{code="malformed",method="AuthorizeLoad",outcome=""} 2`,
		`pursekeeper_requests_total{code="malformed",method="unknown",outcome=""} 1`,
		`pursekeeper_requests_total{code="permission_denied",method="AuthorizeLoad",outcome=""} 2`,
		`pursekeeper_requests_total{code="ok",method="ConfirmLoad",outcome="OUTCOME_VERIFIED"} 1`,
		`pursekeeper_request_seconds_count{method="AuthorizeLoad"} 5`,
		`pursekeeper_request_seconds_count{method="ConfirmLoad"} 1`,
	} {
		assert.Contains(t, body, line+"\n")
	}
	quiet(t, body, "metrics")
}
