package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// executable is the real program, built once for all tests of this package. TestMain alone writes it.
var executable string

func TestMain(m *testing.M) {
	status, err := withBinary(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// executableVariable tells a second process of this test binary (hsmtest.OnOpenCryptoki) where the program is.
const executableVariable = "PURSEKEEPER_TEST_EXECUTABLE"

func withBinary(m *testing.M) (status int, err error) {
	if executable = os.Getenv(executableVariable); executable != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "pursekeeper-binary-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // a test runs it as another user
		return 1, err
	}
	executable = filepath.Join(dir, "pursekeeper")
	arguments := []string{"build", "-o", executable}
	if raceDetector() {
		arguments = append(arguments, "-race")
	}
	if out, err := exec.Command("go", append(arguments, ".")...).CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	if err := os.Setenv(executableVariable, executable); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// raceDetector reports whether this test binary has the race detector in it: then the program gets it too.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// patience is how long a test waits for what takes no time on an idle machine.
const patience = 30 * time.Second

// eventually is require.Eventually that asks often.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "timed out: %s", what)
	}
}

// transcript is what a program has written so far, to standard output and error alike.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// program is a running child process. It ends with its test at the latest.
type program struct {
	t       *testing.T
	command *exec.Cmd
	out     transcript
	ended   chan struct{}
}

// setting changes a command before it starts.
type setting func(*exec.Cmd)

func inFolder(dir string) setting { return func(c *exec.Cmd) { c.Dir = dir } }

func withEnv(variables ...string) setting {
	return func(c *exec.Cmd) { c.Env = append(c.Env, variables...) }
}

// start starts the program. The kernel kills it should the test process end without its cleanup.
func start(t *testing.T, arguments []string, settings ...setting) *program {
	t.Helper()
	p := &program{t: t, command: exec.Command(executable, arguments...), ended: make(chan struct{})}
	p.command.Env = os.Environ()
	p.command.Stdout, p.command.Stderr = &p.out, &p.out
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, set := range settings {
		set(p.command)
	}
	require.NoError(t, p.command.Start())
	go func() {
		_ = p.command.Wait() // the status is asked of ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		assert.NotContains(t, p.out.String(), "DATA RACE")
		assert.NotContains(t, p.out.String(), "panic:")
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(p.command.Args, " "), lastOf(p.out.String(), 6000))
		}
	})
	return p
}

func lastOf(text string, n int) string { return text[max(0, len(text)-n):] }

// run runs the program to its end.
func run(t *testing.T, arguments []string, settings ...setting) (status int, out string) {
	t.Helper()
	p := start(t, arguments, settings...)
	return p.status(patience), p.out.String()
}

// status waits for the end and returns the exit status, -1 after a signal.
func (p *program) status(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		require.Fail(p.t, "the program does not end", "%v", p.command.Args)
	}
	return p.command.ProcessState.ExitCode()
}

func (p *program) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Signal(s))
}

// terminate is SIGTERM and what comes of it.
func (p *program) terminate() (status int) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.status(patience)
}

// kill is SIGKILL, and the wait for its effect.
func (p *program) kill() {
	_ = p.command.Process.Kill() // it may have ended
	<-p.ended
}

// says waits for a line that matches and returns its groups.
func (p *program) says(pattern string) []string {
	p.t.Helper()
	found := p.hears(pattern)
	require.NotNil(p.t, found, "the program does not say %q:\n%s", pattern, lastOf(p.out.String(), 3000))
	return found
}

// hears is says without a verdict: nil when the program ends, or time runs out, without a match.
func (p *program) hears(pattern string) []string {
	expression := regexp.MustCompile(pattern)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		running := p.running() // asked first: what was written before the end is there after it
		if found := expression.FindStringSubmatch(p.out.String()); found != nil || !running {
			return found
		}
	}
	return nil
}
