package source

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVault(t *testing.T) {
	tests := []struct {
		name   string
		change func(*VaultSpec)
		want   string
	}{
		{"by role", func(*VaultSpec) {}, "4711"},
		{"by token", byToken(credentialFile(t, "root-token\n")), "4711"},
		{"version 2, said", func(s *VaultSpec) { s.KVVersion = 2 }, "4711"},
		{"version 1", func(s *VaultSpec) { s.KVVersion, s.Mount = 1, "old" }, "0815"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newVaultServer(t)
			s := open(t, server.spec(t, test.change), "")
			read(t, s, test.want)
			read(t, s, test.want)
			assert.LessOrEqual(t, server.logins, 1, "one login serves both")
		})
	}
}

func TestVaultInANamespace(t *testing.T) {
	server := newVaultServer(t)
	server.namespace = "cards"
	read(t, open(t, server.spec(t, func(s *VaultSpec) { s.Namespace = "cards" }), ""), "4711")
	server.set(func() { server.sealed = true })
	_, err := open(t, server.spec(t, func(s *VaultSpec) { s.Namespace = "cards" }), "").Read(t.Context())
	require.ErrorIs(t, err, ErrSealed)
}

// Every variable that the client library reads, set to what would break or betray the login.
func TestTheEnvironmentDoesNotConfigureVault(t *testing.T) {
	server := newVaultServer(t)
	for name, value := range map[string]string{
		"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_AGENT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "other", "VAULT_NAMESPACE": "other",
		"VAULT_HEADERS": `{"X-Other": "1"}`, "VAULT_SKIP_VERIFY": "true", "VAULT_HTTP_PROXY": "http://127.0.0.1:1",
		"VAULT_TLS_SERVER_NAME": "other",
	} {
		t.Setenv(name, value)
	}
	read(t, open(t, server.spec(t), ""), "4711")

	_, err := open(t, server.spec(t, func(s *VaultSpec) { s.CAFile = "" }), "").Read(t.Context())
	require.ErrorIs(t, err, ErrUntrusted)
}

func TestVaultGoesWrong(t *testing.T) {
	never := credentialFile(t, "no-such-credential")
	tests := []struct {
		name   string
		server func(*vaultServer)
		change func(*VaultSpec)
		is     error
	}{
		{"sealed", func(v *vaultServer) { v.sealed = true }, nil, ErrSealed},
		{"unavailable, not sealed", func(v *vaultServer) { v.broken = 503 }, nil, ErrAway},
		{"internal error", func(v *vaultServer) { v.broken = 500 }, nil, ErrAway},
		{"a bad gateway", func(v *vaultServer) { v.broken = 502 }, nil, ErrAway},
		{"not initialized", func(v *vaultServer) { v.broken = 501 }, nil, ErrAway},
		{"rate-limited", func(v *vaultServer) { v.broken = 429 }, nil, ErrRateLimited},
		{"a wrong secret id", nil, func(s *VaultSpec) { s.AppRole.SecretID.File = never }, ErrDenied},
		{"a wrong role", nil, func(s *VaultSpec) { s.AppRole.RoleID = "role-2" }, ErrDenied},
		{"a wrong token", nil, byToken(never), ErrDenied},
		{"a token of two lines", nil, byToken(credentialFile(t, "root-token\nroot-token\n")), ErrDenied},
		{"no credential", nil, byToken("/nowhere/token"), ErrMissing},
		{"no such path", nil, func(s *VaultSpec) { s.Path = "hsm/other" }, ErrMissing},
		{"no such field", nil, func(s *VaultSpec) { s.Field = "other" }, ErrMissing},
		{"an empty field", nil, func(s *VaultSpec) { s.Field = "empty" }, ErrMissing},
		{"a deleted secret", nil, func(s *VaultSpec) { s.Path = "deleted" }, ErrMissing},
		{"a login method that is not there", nil, func(s *VaultSpec) { s.AppRole.Mount = "other" }, ErrDenied},
		{"nobody listens", nil, func(s *VaultSpec) { s.Address = "https://127.0.0.1:1" }, ErrAway},
		{"not TLS", nil, func(s *VaultSpec) { s.Address, s.CAFile = strings.Replace(s.Address, "https", "http", 1), "" }, ErrUnusable},
		{"no node is active", func(v *vaultServer) { v.standby, v.broken = true, 500 }, nil, ErrStandby},
		{"an answer without end", func(v *vaultServer) { v.kv["/v1/secret/data/hsm/token"]["more"] = strings.Repeat("4711", maxAnswer) }, nil, ErrUnusable},
		{"a secret as long as a file", func(v *vaultServer) {
			v.kv["/v1/secret/data/hsm/token"]["data"] = map[string]any{"pin": strings.Repeat("4711", maxLen)}
		}, nil, ErrUnusable},
		{"a name that the certificate has not", nil, func(s *VaultSpec) { s.ServerName = "vault.example.org" }, ErrUntrusted},
		{"another authority", nil, func(s *VaultSpec) { s.CAFile = otherAuthority(t) }, ErrUntrusted},
		{"another name than the certificate's", nil, func(s *VaultSpec) { s.Address = strings.Replace(s.Address, "127.0.0.1", "localhost", 1) }, ErrUntrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newVaultServer(t)
			if test.server != nil {
				test.server(server)
			}
			spec := server.spec(t)
			if test.change != nil {
				test.change(spec.Vault)
			}
			_, err := open(t, spec, "").Read(t.Context())
			require.ErrorIs(t, err, test.is)
			text := serverPort.ReplaceAllString(err.Error(), "") // a port may hold the PIN's digits
			for _, secret := range []string{"4711", "secret-id-1", "root-token", "no-such-credential", "token-1"} {
				assert.NotContains(t, text, secret)
			}
		})
	}
}

func TestAFieldThatIsNoString(t *testing.T) {
	server := newVaultServer(t)
	_, err := open(t, server.spec(t, func(s *VaultSpec) { s.Field = "number" }), "").Read(t.Context())
	require.ErrorContains(t, err, "not a string")
	assert.NotContains(t, err.Error(), "4711")
}

func TestWhatIsNoVault(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>4711") }))
	defer server.Close()
	spec := newVaultServer(t).spec(t, func(s *VaultSpec) { s.Address, s.CAFile = server.URL, "" })
	_, err := open(t, spec, "").Read(t.Context())
	require.ErrorIs(t, err, ErrUnusable)
	assert.NotContains(t, err.Error(), "4711")
}

// What listens there writes a line that is no HTTP: it is not repeated.
func TestWhatIsNoHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Read(make([]byte, 1)) // whatever it is asked
			fmt.Fprint(connection, "4711 secret-id-1\r\n\r\n")
			_ = connection.Close()
		}
	}()
	for _, scheme := range []string{"http", "https"} {
		spec := newVaultServer(t).spec(t, func(s *VaultSpec) { s.Address, s.CAFile = scheme+"://"+listener.Addr().String(), "" })
		_, err := open(t, spec, "").Read(t.Context())
		require.ErrorIs(t, err, ErrUnusable)
		text := serverPort.ReplaceAllString(err.Error(), "")
		assert.NotContains(t, text, "4711")
		assert.NotContains(t, text, "secret-id-1")
	}
}

// A redirect is followed once, and not in clear to another machine, wherever it comes from.
func TestRedirects(t *testing.T) {
	right := newVaultServer(t)
	tests := []struct {
		name, to string
		plain    bool
		want     error
	}{
		{"to the active node", right.URL, false, nil},
		{"in a circle", "", false, ErrAway},
		{"to plain http", "http://vault.example.org:8200", false, ErrUnusable},
		{"from loopback to plain http elsewhere", "http://vault.example.org:8200", true, ErrUnusable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", test.to+r.URL.Path)
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			server, caFile := httptest.NewTLSServer(redirect), right.caFile // all such servers have one certificate
			if test.plain {
				server, caFile = httptest.NewServer(redirect), ""
			}
			defer server.Close()
			s := open(t, right.spec(t, func(s *VaultSpec) { s.Address, s.CAFile = server.URL, caFile }), "")
			if test.want == nil {
				read(t, s, "4711")
				return
			}
			_, err := s.Read(t.Context())
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		header string
		want   time.Duration
	}{{"", 0}, {"7", 7 * time.Second}, {"-7", 0}, {"4711 of course", 0}, {"999999", maxWait}} {
		server := newVaultServer(t)
		server.broken, server.retryAfter = 429, test.header
		_, err := open(t, server.spec(t), "").Read(t.Context())
		require.ErrorIs(t, err, ErrRateLimited)
		assert.Equal(t, test.want, RetryAfter(err), test.header)
	}
	assert.Zero(t, RetryAfter(ErrRateLimited))
	assert.Zero(t, RetryAfter(nil))
}

// Whoever waits for the login of another waits no longer than its own context.
func TestACallerLeavesWhileAnotherLogsIn(t *testing.T) {
	server := newVaultServer(t)
	server.stall = make(chan struct{})
	s := open(t, server.spec(t), "")
	first := make(chan error, 1)
	go func() {
		value, err := s.Read(t.Context())
		value.Wipe()
		first <- err
	}()
	require.Eventually(t, func() bool { return len(s.origin.(*vault).turn) == 0 }, 30*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := s.Read(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Empty(t, first, "the other still waits")
	close(server.stall)
	require.NoError(t, <-first)
}

func TestAVaultThatDoesNotAnswerInTime(t *testing.T) {
	server := newVaultServer(t)
	server.stall = make(chan struct{})
	t.Cleanup(func() { close(server.stall) })
	s := open(t, server.spec(t), "")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Read(ctx)
	require.ErrorIs(t, err, ErrAway)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = s.Read(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, ErrAway, "it was the caller who left")
}

func TestATokenThatEndedIsReplacedByTheNextRead(t *testing.T) {
	server := newVaultServer(t)
	s := open(t, server.spec(t), "")
	read(t, s, "4711")
	server.set(func() { delete(server.tokens, "token-1") })
	read(t, s, "4711")
	assert.Equal(t, 2, server.logins)

	path := credentialFile(t, "root-token")
	s = open(t, server.spec(t, byToken(path)), "")
	read(t, s, "4711")
	server.set(func() { delete(server.tokens, "root-token"); server.tokens["next-token"] = time.Time{} })
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrDenied)
	require.NoError(t, os.WriteFile(path, []byte("next-token"), 0o600))
	read(t, s, "4711")
}

func TestReadAfterVaultCameBack(t *testing.T) {
	server := newVaultServer(t)
	server.sealed = true
	s := open(t, server.spec(t), "")
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrSealed)
	server.set(func() { server.sealed = false })
	read(t, s, "4711")
}

// keepAlive runs Keep with short pauses until the test ends, and answers a way to see what it reports.
func keepAlive(t *testing.T, s *Source) (reported chan error) {
	s.origin.(*vault).relogs = pause{10 * time.Millisecond, 20 * time.Millisecond}
	reported = make(chan error, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keep(ctx, func(err error) { reported <- err })
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Error("Keep outlived its context")
		}
	})
	return reported
}

func (v *vaultServer) count(of *int) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return *of
}

func TestKeepRenewsTheToken(t *testing.T) {
	server := newVaultServer(t)
	server.ttl = 2 * time.Second
	s := open(t, server.spec(t), "")
	reported := keepAlive(t, s)
	require.Eventually(t, func() bool { return server.count(&server.renewals) >= 3 }, 30*time.Second, 20*time.Millisecond)
	assert.Equal(t, 1, server.count(&server.logins), "longer than one token's life, by one login")
	read(t, s, "4711")
	assert.Empty(t, reported)
}

func TestKeepLogsInAgainWhenRenewalEnds(t *testing.T) {
	server := newVaultServer(t)
	server.ttl, server.unrenewable = time.Second, true
	s := open(t, server.spec(t), "")
	reported := keepAlive(t, s)
	require.Eventually(t, func() bool { return server.count(&server.logins) >= 3 }, 30*time.Second, 20*time.Millisecond)
	read(t, s, "4711")
	assert.Empty(t, reported)
}

func TestKeepReportsAndTriesAgainWhileVaultIsSealed(t *testing.T) {
	server := newVaultServer(t)
	server.sealed = true
	s := open(t, server.spec(t), "")
	reported := keepAlive(t, s)
	require.ErrorIs(t, <-reported, ErrSealed)
	require.ErrorIs(t, <-reported, ErrSealed)
	server.set(func() { server.sealed = false })
	require.Eventually(t, func() bool { return server.count(&server.logins) == 1 }, 30*time.Second, 5*time.Millisecond)
}

// The time that Vault asks for is waited, where Keep's own pause is over in milliseconds.
func TestKeepLeavesAVaultAloneAsItAsks(t *testing.T) {
	server := newVaultServer(t)
	server.broken, server.retryAfter = 429, "2"
	reported := keepAlive(t, open(t, server.spec(t), ""))
	require.ErrorIs(t, <-reported, ErrRateLimited)
	first := time.Now()
	require.ErrorIs(t, <-reported, ErrRateLimited)
	assert.Greater(t, time.Since(first), 1500*time.Millisecond)
}

// A read that replaces the login is followed: the new token is renewed, not the old one.
func TestKeepFollowsTheLoginOfARead(t *testing.T) {
	server := newVaultServer(t)
	s := open(t, server.spec(t), "")
	keepAlive(t, s)
	loggedInBy(t, s)
	server.set(func() { delete(server.tokens, "token-1"); server.ttl = 2 * time.Second })
	read(t, s, "4711")
	require.Eventually(t, func() bool { return server.count(&server.renewals) >= 1 }, 30*time.Second, 20*time.Millisecond)
	assert.Equal(t, 2, server.count(&server.logins))
}

// What fails while the token lives on is reported, and the renewal made up for.
func TestKeepReportsARenewalThatFails(t *testing.T) {
	server := newVaultServer(t)
	server.ttl = 3 * time.Second
	s := open(t, server.spec(t), "")
	reported := keepAlive(t, s)
	loggedInBy(t, s)
	server.set(func() { server.broken = 502; server.ttl = time.Hour })
	err := <-reported
	require.ErrorIs(t, err, ErrAway)
	require.ErrorContains(t, err, "renew the token")
	server.set(func() { server.broken = 0 })
	require.Eventually(t, func() bool { return server.count(&server.renewals)+server.count(&server.logins) == 2 }, 30*time.Second, 5*time.Millisecond)
	read(t, s, "4711")
}

func TestKeepOfATokenThatNeverEndsOnlyWaits(t *testing.T) {
	server := newVaultServer(t)
	s := open(t, server.spec(t, byToken(credentialFile(t, "root-token"))), "")
	reported := keepAlive(t, s)
	read(t, s, "4711")
	time.Sleep(100 * time.Millisecond)
	assert.Empty(t, reported)
	assert.Zero(t, server.count(&server.renewals))
}

func TestPause(t *testing.T) {
	p := pause{time.Second, time.Minute}
	for tries, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		for range 100 {
			wait := p.after(tries)
			assert.GreaterOrEqual(t, wait, most/2)
			assert.LessOrEqual(t, wait, most)
		}
	}
	for _, tries := range []int{10, 63, 64, 1000} {
		assert.LessOrEqual(t, p.after(tries), time.Minute)
		assert.GreaterOrEqual(t, p.after(tries), 30*time.Second)
	}
}

var serverPort = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
