package hsm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

const (
	softTokenPIN   = "pin-1234" // a test PIN: openCryptoki's have at most 8 characters
	softTokenSOPIN = "so-56789"
)

// softToken is a fresh openCryptoki token in a room of its own, and the daemon behind it.
type softToken struct {
	opencryptoki.Token
	daemon *opencryptoki.Daemon
}

func (s *softToken) config() Config {
	return Config{
		Module: s.Module, TokenLabel: s.Label, Profile: Profile{NoDerivation: true, ThreeKeyDES: true, NoGCM: true},
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(softTokenPIN)), nil },
	}
}

// onOpenCryptoki runs the rest of a test in a process that has an openCryptoki token to itself: the test's own binary, in a room. What
// it prints is the test's; a process that ran no test fails it.
func onOpenCryptoki(t *testing.T, test func(t *testing.T, made *softToken)) {
	t.Helper()
	if !opencryptoki.InRoom() {
		runInRoom(t)
		return
	}
	require.NoError(t, opencryptoki.Furnish())
	daemon, err := opencryptoki.Start(t.Context())
	require.NoError(t, err)
	token, err := opencryptoki.Init(t.Context(), "test-token", softTokenPIN, softTokenSOPIN)
	require.NoError(t, err)
	test(t, &softToken{token, daemon})
}

func runInRoom(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, opencryptoki.Room(command))
	begin := time.Now()
	runtime.LockOSThread() // the room ends with the thread
	err = command.Run()
	runtime.UnlockOSThread()
	for line := range strings.Lines(out.String()) {
		t.Log("| " + strings.TrimRight(line, "\n"))
	}
	require.NoError(t, err)
	assert.Contains(t, out.String(), fmt.Sprintf("--- PASS: %s ", t.Name()))
	t.Logf("in %v", time.Since(begin).Round(time.Millisecond))
}

func TestOnOpenCryptoki(t *testing.T) {
	onOpenCryptoki(t, func(t *testing.T, made *softToken) {
		token := openToken(t, made.config())
		require.NoError(t, token.Ready(context.Background()))
	})
}
