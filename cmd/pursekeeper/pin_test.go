package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/source/vaulttest"
)

// vault types the commands of docs/vault.md, in its order, to a Vault, and answers the page's configuration with its address.
func vault(t *testing.T, h home) (spec string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "vault.md"))
	require.NoError(t, err)
	var script strings.Builder
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 7)
	for _, block := range blocks {
		script.WriteString(block[1])
	}
	server := vaulttest.NewBare(t)
	h.write("admin", "X-Vault-Token: "+server.Root())
	shell := exec.Command("bash", "-euo", "pipefail", "-c", script.String())
	shell.Dir = h.dir
	shell.Env = append(os.Environ(), "VAULT_ADDR="+server.Address, "VAULT_CACERT="+server.CAFile)
	out, err := shell.CombinedOutput()
	require.NoError(t, err, string(out))
	roleID := strings.TrimSpace(string(out)) // all else prints nothing
	require.Regexp(t, `^[0-9a-f-]{36}$`, roleID)
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindStringSubmatch(string(page))
	require.NotNil(t, block)
	return "pin:\n" + strings.NewReplacer("https://vault.example.org:8200", server.Address, "vault-ca.pem", server.CAFile, "ROLE-ID", roleID).Replace(block[1])
}

// The PIN comes from a file, the environment or Vault, and is in no log.
func TestServePINSources(t *testing.T) {
	h := newHome(t)
	pin := strings.TrimSpace(h.read("pin"))
	spec := vault(t, h)
	for i, c := range []struct{ name, spec, env string }{
		{"file", "pin: {file: pin}", ""},
		{"environment", "pin: {env: TEST_PIN}", "TEST_PIN=" + pin},
		{"vault", spec, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			s := serveChild(h, h.config("serve.yaml", edit{`pin: .*`, c.spec}), withEnv(c.env))
			on := &platform{}
			on.use(s)
			require.NoError(t, newWallet(t, on, "demo", uint64(i)).load(t.Context()))
			assert.True(t, s.ready())
			assert.Zero(t, s.terminate())
			assert.NotContains(t, s.out.String(), pin)
		})
	}
}

func TestServeWithoutItsPINSource(t *testing.T) {
	h := newHome(t)
	status, out := run(t, []string{"serve", "--config", h.config("serve.yaml", edit{`pin: .*`, "pin: {env: TEST_PIN_THAT_IS_NOT_SET}"})})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "environment variable TEST_PIN_THAT_IS_NOT_SET: it is not set")
}

// With a refused PIN the service stays up, unready, and makes no second try, until an operator mends the PIN and says so.
func TestServeWithAWrongPIN(t *testing.T) {
	h := newHome(t)
	right := h.read("pin")
	h.write("pin", "not-the-pin\n")
	token, control := hsmtest.NewFaultToken(t)
	s := serveChild(h, h.config("serve.yaml", behindFaults(token)), withEnv(token.Env()...))
	s.says("the token refused the PIN; after mending it, send SIGHUP")
	unready := func(logins uint64) {
		t.Helper()
		eventually(t, "latched", func() bool { return control.Stats().Logins == logins && s.metric("token_pin_latched") == 1 })
		on := &platform{}
		on.use(s)
		stop := traffic(wallets(t, on, 2), (*wallet).load)
		time.Sleep(500 * time.Millisecond)
		stop()
		assert.NotZero(t, on.failures.Load())
		assert.Zero(t, on.loads.Load())
		status, body := s.ask("/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Contains(t, body, "PIN")
		status, _ = s.ask("/healthz")
		assert.Equal(t, http.StatusOK, status, "alive: a supervisor must not start it again")
		assert.Equal(t, logins, control.Stats().Logins)
		assert.Equal(t, logins, control.Stats().PINRefused)
	}
	unready(1)
	s.signal(syscall.SIGHUP)
	unready(2)
	h.write("pin", right)
	unready(2)
	s.signal(syscall.SIGHUP)
	eventually(t, "ready", s.ready)
	s.says("key exposure") // tried and recorded now, as at any start
	on := &platform{}
	on.use(s)
	require.NoError(t, newWallet(t, on, "demo-sm4", 9).load(t.Context()))
	assert.EqualValues(t, 3, control.Stats().Logins)
	rulesKept(t, control)
	assert.Zero(t, s.terminate())
}

// SIGHUP to a service that is well changes nothing.
func TestServeHangUp(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.config("serve.yaml"))
	s.signal(syscall.SIGHUP)
	s.says(`"msg":"SIGHUP","pinTriedAgain":false`)
	assert.True(t, s.ready())
	assert.Equal(t, 1.0, s.metric("token_generation"))
	assert.Zero(t, s.terminate())
}

func TestServeNamesAPortInUse(t *testing.T) {
	h := newHome(t)
	for _, field := range []string{"listen", "admin"} {
		status, out := run(t, []string{"serve", "--config", h.config("serve.yaml", edit{"^" + field + `: .*`, field + ": " + busyPort(t)})})
		assert.Equal(t, 1, status)
		assert.Contains(t, out, field+": listen tcp")
		assert.Contains(t, out, "address already in use")
	}
	_, err := os.Stat(h.path("state.db"))
	require.NoError(t, err)
}
