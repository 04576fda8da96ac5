package hsmtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
)

// roomLimit bounds a test in its room: it is ended with a listing of its goroutines.
const roomLimit = "3m"

// OnOpenCryptoki runs test with a fresh software token of openCryptoki and the daemon behind it, in a room that nobody else sees
// (opencryptoki.Room): in a process of its own, which is this test binary once more, running the one test that called. So it is the first
// thing that a test calls, what is done before it is done in both processes, and test may load the library whatever other tests have
// loaded. What the other process prints is the test's log. Where openCryptoki is missing the test fails.
//
// The token's PINs are of 8 characters, the most that openCryptoki has.
func OnOpenCryptoki(t *testing.T, test func(t *testing.T, token *Token, daemon *opencryptoki.Daemon)) {
	t.Helper()
	if !opencryptoki.InRoom() {
		runInRoom(t)
		return
	}
	if err := opencryptoki.Furnish(); err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
	daemon, err := opencryptoki.Start(t.Context())
	if err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
	token := &Token{Label: "test-" + digits(6), PIN: "pin-" + digits(4), SOPIN: "so-p" + digits(4)}
	made, err := opencryptoki.Init(t.Context(), token.Label, token.PIN, token.SOPIN)
	if err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
	token.Module = made.Module
	test(t, token, daemon)
}

func runInRoom(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), self, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout="+roomLimit)
	command.Stdout, command.Stderr = &out, &out
	// The race detector waits a second at the end of a process, for its other threads to report; a tenth is as good.
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=100 "+os.Getenv("GORACE"))
	if err := opencryptoki.Room(command); err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
	runtime.LockOSThread() // the room ends with the thread
	err = command.Run()
	runtime.UnlockOSThread()
	var log strings.Builder // marked, so that no reader of test output takes it for this process's
	for line := range strings.Lines(out.String()) {
		log.WriteString("\n| " + strings.TrimRight(line, "\n"))
	}
	t.Logf("in a room:%s", log.String())
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("hsmtest: no room: it takes root, or a kernel that lets users make namespaces (user.max_user_namespaces): %v", err)
	}
	if err != nil {
		t.Fatalf("hsmtest: the test failed in its room: %v", err)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("\n--- PASS: %s ", t.Name())) {
		t.Fatal("hsmtest: the test did not run in its room")
	}
}
