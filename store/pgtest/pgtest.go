// Package pgtest starts real PostgreSQL servers for tests: a cluster of its own in a temporary folder, of the newest version that Debian's
// package postgresql brought, with the durability that it has by default (fsync is on). The server ends with the test, and with the process.
package pgtest

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Server is a running server. Its superuser, who needs no password over the socket, is postgres.
type Server struct {
	Folder   string // of the data, the socket and the log
	Port     int    // on 127.0.0.1, and in the socket's name
	Password string // of postgres, over TCP

	binaries  string
	owner     *syscall.Credential // nil: this process's own
	command   *exec.Cmd
	ended     chan struct{}
	databases atomic.Int64
}

// Start makes a cluster and starts its server.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{binaries: binaries(t), Port: freePort(t)}
	s.owner = owner(t)
	var err error
	s.Folder, err = os.MkdirTemp(place(), "pg") // not the test's own: a path to a socket has at most 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(s.Folder)) })
	if s.owner != nil {
		require.NoError(t, os.Chown(s.Folder, int(s.owner.Uid), int(s.owner.Gid)))
	}
	s.run(t, "initdb", "-D", s.data(), "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync")
	s.Launch(t)
	t.Cleanup(func() { s.Kill(t) })
	s.Password = rand.Text()
	s.Exec(t, s.URL("postgres"), "ALTER ROLE postgres PASSWORD '"+s.Password+"'")
	return s
}

// place is memory, where there is enough: a server is killed here, and its machine's power never fails, so that a disk would only take time.
func place() string {
	const memory, enough = "/dev/shm", 4 << 30
	var free unix.Statfs_t
	if err := unix.Statfs(memory, &free); err != nil || free.Bavail*uint64(free.Bsize) < enough {
		return ""
	}
	return memory
}

func (s *Server) data() string { return filepath.Join(s.Folder, "data") }

// binaries is the folder of the newest server's programs: Debian keeps them off the PATH.
func binaries(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	require.NoError(t, err)
	require.NotEmpty(t, found, "no PostgreSQL server is installed: .ci/setup installs it")
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

func version(initdb string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb)))) // another name is older than any
	return n
}

// owner is who the server runs as when this process is root's, whom it refuses: the user that the package made.
func owner(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *Server) program(name string, arguments ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.binaries, name), arguments...)
	c.Dir = s.Folder
	c.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return c
}

func (s *Server) run(t testing.TB, name string, arguments ...string) {
	t.Helper()
	said, err := s.program(name, arguments...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, said)
}

// Launch starts the server, which must not be running, with more settings, NAME=VALUE, and returns when it takes connections.
func (s *Server) Launch(t testing.TB, settings ...string) {
	t.Helper()
	arguments := []string{"-D", s.data(), "-k", s.Folder, "-p", strconv.Itoa(s.Port), "-h", "127.0.0.1"}
	for _, setting := range append([]string{"max_connections=200", "shared_buffers=32MB"}, settings...) {
		arguments = append(arguments, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.Folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	c := s.program("postgres", arguments...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr.Pdeathsig = syscall.SIGQUIT // its immediate shutdown, which takes its own processes with it
	started, ended := make(chan error), make(chan struct{})
	go func() { // the signal comes when the thread that started it ends: this one ends with the server
		runtime.LockOSThread()
		started <- c.Start()
		_ = c.Wait() // it ends by a signal
		close(ended)
	}()
	require.NoError(t, <-started)
	s.command, s.ended = c, ended
	s.awaitReady(t)
}

func (s *Server) awaitReady(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		db, err := sql.Open("pgx", s.URL("postgres"))
		require.NoError(t, err)
		err = db.Ping()
		_ = db.Close()
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			log, _ := os.ReadFile(filepath.Join(s.Folder, "log"))
			require.Fail(t, "the server ended", "%s", log)
		default:
		}
		require.True(t, time.Now().Before(deadline), "the server does not answer: %v", err)
	}
}

// Kill ends the server and all its processes at once, as a loss of power would; what it had not synchronised the kernel still has.
func (s *Server) Kill(t testing.TB) { s.signal(t, syscall.SIGKILL) }

// Stop ends the server's sessions and then the server, in good order.
func (s *Server) Stop(t testing.TB) { s.signal(t, syscall.SIGINT) }

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	select {
	case <-s.ended:
		return
	default:
	}
	require.NoError(t, s.command.Process.Signal(signal))
	<-s.ended
	if signal == syscall.SIGKILL { // its children notice by themselves, and a new server waits for that
		s.awaitGone(t)
	}
}

// awaitGone returns when no process of the server is left: they hold its shared memory.
func (s *Server) awaitGone(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if !s.lives() {
			return
		}
		require.True(t, time.Now().Before(deadline), "processes of a killed server are left")
	}
}

// lives says that a process has the data folder as its working folder.
func (s *Server) lives() bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, cwd := range all {
		if at, err := os.Readlink(cwd); err == nil && at == s.data() {
			return true
		}
	}
	return false
}

// URL names a database of the server over its socket.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgresql://postgres@/%s?host=%s&port=%d", database, s.Folder, s.Port)
}

// TCP names over TCP the database of a URL over the socket; there the user needs the password.
func (s *Server) TCP(database string) string {
	u, _ := url.Parse(database) // it is one of ours
	return fmt.Sprintf("postgresql://postgres@127.0.0.1:%d%s?sslmode=disable", s.Port, u.Path)
}

// Database makes an empty database and returns its URL over the socket.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// WriteData puts a file into the data folder, as the server's own.
func (s *Server) WriteData(t testing.TB, name string, content []byte) {
	t.Helper()
	path := filepath.Join(s.data(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	if s.owner != nil {
		require.NoError(t, os.Chown(path, int(s.owner.Uid), int(s.owner.Gid)))
	}
}

// Exec runs SQL in a database, each text by itself.
func (s *Server) Exec(t testing.TB, database string, texts ...string) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	for _, text := range texts {
		_, err := db.Exec(text)
		require.NoError(t, err, text)
	}
}

// Log is what the server wrote so far.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(s.Folder, "log"))
	require.NoError(t, err)
	return string(bytes.TrimSpace(log))
}
