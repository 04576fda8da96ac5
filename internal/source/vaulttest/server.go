// Package vaulttest runs real Vault servers for tests, as .ci/setup builds them: over TLS, each a process of its own,
// initialised and unsealed over its API. Nothing here is for production.
package vaulttest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// Server is a Vault, or one node of several.
type Server struct {
	Address string // https://127.0.0.1:PORT
	CAFile  string // the authority that signed its certificate, which holds 127.0.0.1 and localhost

	t       testing.TB
	client  *api.Client // as root
	root    string
	unseal  string
	process *process
	args    []string // to start it again, without the address
	nodes   int      // of the process
}

// process is a running server.
type process struct {
	command *exec.Cmd
	stdin   io.Closer // the server ends when it is closed
}

// New starts a Vault that keeps what it has in a folder, with key-value engines "secret" (version 2) and "old" (version 1), the
// transit engine at "transit" and the login method at "approle". It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := NewBare(t)
	s.enable()
	return s
}

// NewBare starts a Vault without an engine or a login method.
func NewBare(t testing.TB) *Server {
	t.Helper()
	ca, tls := certificates(t)
	s := &Server{t: t, CAFile: ca, nodes: 1, args: append(tls, "-storage", t.TempDir())}
	s.Address = s.start("-listen", "127.0.0.1:0")[0]
	s.setUp()
	return s
}

// NewCluster starts nodes over one memory; the first is active, the others stand by, and redirect to the active one.
func NewCluster(t testing.TB, nodes int) []*Server {
	t.Helper()
	ca, tls := certificates(t)
	active := &Server{t: t, CAFile: ca, nodes: nodes, args: append(tls, "-nodes", strconv.Itoa(nodes))}
	addresses := active.start("-listen", "127.0.0.1:0")
	active.Address = addresses[0]
	active.setUp()
	active.enable()
	all := []*Server{active}
	for _, address := range addresses[1:] {
		standby := &Server{Address: address, CAFile: ca, t: t, root: active.root, unseal: active.unseal, process: active.process}
		standby.client = standby.connect()
		standby.Unseal()
		all = append(all, standby)
	}
	return all
}

// binary is where .ci/setup puts the server.
func binary(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	path := filepath.Join(cache, "pursekeeper", "vault")
	_, err = os.Stat(path)
	require.NoError(t, err, "the Vault server is missing: run .ci/setup (make setup)")
	return path
}

func certificates(t testing.TB) (caFile string, args []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	require.NoError(t, devpki.WriteFolder(dir, time.Now()))
	return filepath.Join(dir, "ca.crt"), []string{"-certificate", filepath.Join(dir, "server.crt"), "-key", filepath.Join(dir, "server.key")}
}

// start starts the process and answers the addresses of its nodes.
func (s *Server) start(args ...string) (addresses []string) {
	s.t.Helper()
	command := exec.Command(binary(s.t), append(args, s.args...)...)
	command.Stderr = s.t.Output()
	stdin, err := command.StdinPipe()
	require.NoError(s.t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, command.Start())
	p := &process{command, stdin}
	s.process = p
	s.t.Cleanup(p.stop)
	for lines := bufio.NewScanner(stdout); len(addresses) < s.nodes && lines.Scan(); {
		addresses = append(addresses, lines.Text())
	}
	require.Len(s.t, addresses, s.nodes, "the Vault server did not start")
	return addresses
}

func (p *process) stop() {
	_ = p.command.Process.Kill() // it may have been frozen, or be gone
	_ = p.command.Wait()
	_ = p.stdin.Close()
}

// Stop kills the server: nobody listens at its address any more.
func (s *Server) Stop() { s.process.stop() }

// Start starts a stopped server of [New] at its address. It is sealed.
func (s *Server) Start() { s.start("-listen", strings.TrimPrefix(s.Address, "https://")) }

// Freeze lets the server take connections and answer nothing, until Thaw.
func (s *Server) Freeze() { require.NoError(s.t, s.process.command.Process.Signal(syscall.SIGSTOP)) }

// Thaw ends Freeze.
func (s *Server) Thaw() { require.NoError(s.t, s.process.command.Process.Signal(syscall.SIGCONT)) }
