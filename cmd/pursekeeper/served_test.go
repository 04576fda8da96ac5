package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// anywhere lets the system choose the addresses.
var anywhere = []string{"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}

// home is a folder that `pursekeeper dev` made, whose configuration a test rewrites for serve.
type home struct {
	t   *testing.T
	dir string
}

func newHome(t *testing.T) home {
	t.Helper()
	h := home{t, filepath.Join(t.TempDir(), "dev")}
	p := start(t, append([]string{"dev", "--dir", h.dir}, anywhere...))
	p.says(`Stop with Ctrl-C`)
	require.Zero(t, p.terminate())
	return h
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

func (h home) read(name string) string {
	h.t.Helper()
	content, err := os.ReadFile(h.path(name))
	require.NoError(h.t, err)
	return string(content)
}

func (h home) write(name, content string) {
	h.t.Helper()
	h.writeFile(h.path(name), content)
}

func (h home) writeFile(path, content string) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(path, []byte(content), 0o600))
}

// edit is one replacement in the configuration: the first match of a regular expression.
type edit struct{ old, new string }

// config writes another configuration beside dev's own and returns its path. Each edit must find its place.
func (h home) config(name string, edits ...edit) string {
	h.t.Helper()
	text := h.read("pursekeeper.yaml")
	for _, e := range edits {
		expression := regexp.MustCompile(`(?m)` + e.old)
		place := expression.FindStringIndex(text)
		require.NotNil(h.t, place, "no %q in the configuration", e.old)
		text = text[:place[0]] + expression.ReplaceAllString(text[place[0]:place[1]], e.new) + text[place[1]:]
	}
	h.write(name, text)
	return h.path(name)
}

// production is dev's configuration as one of serve.
var production = edit{`development: true`, `development: false`}

// behindFaults puts the fault module before the token.
func behindFaults(token *hsmtest.Token) edit {
	return edit{`module: .*`, "module: " + token.Module + "\n  hang: 500ms\n  inFlight: 3"}
}

// aside puts the state where no disk can stall it, when the machine has such a place: for tests that take the time of the token.
func aside(t *testing.T) edit {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pursekeeper-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return edit{`store: .*`, "store: {sqlite: " + filepath.Join(dir, "state.db") + "}"}
}

// served is a signer that runs in a child process.
type served struct {
	*program
	home          home
	public, admin string

	mu      sync.Mutex     // guards clients
	clients []*http.Client // their connections

	many pursekeeperv1connect.SignerServiceClient // of a test's own goroutine, for many requests
}

// serveChild starts serve and waits until it listens.
func serveChild(h home, config string, settings ...setting) *served {
	h.t.Helper()
	p := start(h.t, []string{"serve", "--config", config}, settings...)
	return listening(p, h)
}

func listening(p *program, h home) *served {
	h.t.Helper()
	found := p.says(serving)
	return newServed(p, h, found)
}

func newServed(p *program, h home, found []string) *served {
	return &served{program: p, home: h, public: found[1], admin: found[2]}
}

const serving = `"msg":"serving","listen":"([^"]+)","admin":"([^"]+)"`

// client calls the signer with a role's certificate, over gRPC.
func (s *served) client(as string) pursekeeperv1connect.SignerServiceClient {
	s.t.Helper()
	flags := clientFlags{Server: "https://" + s.public, TLS: s.home.path("tls"), As: as}
	client, err := flags.http()
	require.NoError(s.t, err)
	s.t.Cleanup(client.CloseIdleConnections)
	s.mu.Lock()
	s.clients = append(s.clients, client)
	s.mu.Unlock()
	return pursekeeperv1connect.NewSignerServiceClient(client, flags.Server, connect.WithGRPC())
}

// terminate is SIGTERM without idle connections, which the server would give a second to leave.
func (s *served) terminate() (status int) {
	s.t.Helper()
	s.mu.Lock()
	for _, client := range s.clients {
		client.CloseIdleConnections()
	}
	s.mu.Unlock()
	return s.program.terminate()
}

// ask reads a page of the admin listener.
func (s *served) ask(page string) (status int, body string) {
	s.t.Helper()
	client := http.Client{Timeout: patience}
	answer, err := client.Get("http://" + s.admin + page)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, string(content)
}

func (s *served) ready() bool {
	status, _ := s.ask("/readyz")
	return status == http.StatusOK
}

// metric reads one of the service's own numbers.
func (s *served) metric(name string) float64 {
	s.t.Helper()
	_, body := s.ask("/metrics")
	found := regexp.MustCompile(`(?m)^pursekeeper_` + name + ` (\S+)$`).FindStringSubmatch(body)
	require.NotNil(s.t, found, "no metric %s", name)
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(s.t, err)
	return value
}

// busyPort is an address that somebody listens on for the rest of the test.
func busyPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// rulesKept holds the fault module's counters against DESIGN §5.
func rulesKept(t *testing.T, control *hsmtest.Control) {
	t.Helper()
	stats := control.Stats()
	require.Zero(t, stats.FinalizeWhileBusy, "finalize beside a call")
	require.Zero(t, stats.CloseWhileBusy, "a session closed beside a call")
	require.Zero(t, stats.SessionShared, "two calls on one session")
}

// recoveryLimit is DESIGN §10's, from the end of a fault to the first MAC2.
const recoveryLimit = 5 * time.Second
