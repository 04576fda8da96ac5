package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/source/vaulttest"
)

// What a real Vault does: the tests of this file and of transit_test.go run against one.

const realPIN = "27182818"

// readPIN is the policy that the service needs, and no more: the default one, which every token has, lets it renew itself.
const readPIN = `path "secret/data/hsm/token" { capabilities = ["read"] }
path "old/hsm/token" { capabilities = ["read"] }`

// newVaultWithPIN is a Vault with the PIN in both engines, and a role "signer" that may read it.
func newVaultWithPIN(t *testing.T, settings map[string]any) (v *vaulttest.Server, spec func(...func(*VaultSpec)) Spec) {
	t.Helper()
	v = vaulttest.New(t)
	return v, withPIN(t, v, settings)
}

func withPIN(t *testing.T, v *vaulttest.Server, settings map[string]any) (spec func(...func(*VaultSpec)) Spec) {
	t.Helper()
	v.Write("secret/data/hsm/token", map[string]any{"data": map[string]any{"pin": realPIN, "number": 4, "empty": ""}})
	v.Write("secret/data/other", map[string]any{"data": map[string]any{"pin": realPIN}})
	v.Write("old/hsm/token", map[string]any{"pin": realPIN})
	v.Policy("read-pin", readPIN)
	role := map[string]any{"token_policies": "read-pin", "token_ttl": "1h"}
	for name, value := range settings {
		role[name] = value
	}
	roleID, secretID := v.Role("signer", role)
	return func(change ...func(*VaultSpec)) Spec {
		spec := &VaultSpec{
			ServerSpec: ServerSpec{Address: v.Address, CAFile: v.CAFile,
				AppRole: &AppRoleSpec{RoleID: roleID, SecretID: CredentialSpec{File: credentialFile(t, secretID)}}},
			Mount: "secret", Path: "hsm/token", Field: "pin",
		}
		for _, c := range change {
			c(spec)
		}
		return Spec{Vault: spec}
	}
}

func TestRealVault(t *testing.T) {
	v, spec := newVaultWithPIN(t, nil)
	t.Run("answers", func(t *testing.T) {
		tests := []struct {
			name   string
			change func(*VaultSpec)
		}{
			{"by role", func(*VaultSpec) {}},
			{"by token", byToken(credentialFile(t, v.Token(time.Hour, true, "read-pin")+"\n"))},
			{"by root's token", byToken(credentialFile(t, v.Root()))},
			{"version 1", func(s *VaultSpec) { s.KVVersion, s.Mount = 1, "old" }},
			{"by another name of the certificate", func(s *VaultSpec) { s.ServerName = "localhost" }},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) { read(t, open(t, spec(test.change), ""), realPIN) })
		}
	})
	t.Run("refuses", func(t *testing.T) { refusedByRealVault(t, v, spec) })
	t.Run("answers the newest version, until it is deleted", func(t *testing.T) {
		s := open(t, spec(), "")
		read(t, s, realPIN)
		v.Write("secret/data/hsm/token", map[string]any{"data": map[string]any{"pin": "31415926"}})
		read(t, s, "31415926")
		v.Delete("secret/data/hsm/token")
		_, err := s.Read(t.Context())
		require.ErrorIs(t, err, ErrMissing)
	})
}

func refusedByRealVault(t *testing.T, v *vaulttest.Server, spec func(...func(*VaultSpec)) Spec) {
	gone := v.Token(time.Hour, true, "read-pin")
	v.Revoke(gone)
	tests := []struct {
		name   string
		change func(*VaultSpec)
		is     error
	}{
		{"a wrong secret id", func(s *VaultSpec) { s.AppRole.SecretID.File = credentialFile(t, "no-such-credential") }, ErrDenied},
		{"a wrong role", func(s *VaultSpec) { s.AppRole.RoleID = "no-such-credential" }, ErrDenied},
		{"a wrong token", byToken(credentialFile(t, "no-such-credential")), ErrDenied},
		{"a revoked token", byToken(credentialFile(t, gone)), ErrDenied},
		{"a login method that is not there", func(s *VaultSpec) { s.AppRole.Mount = "other" }, ErrDenied},
		{"a path that the policy denies", func(s *VaultSpec) { s.Path = "other" }, ErrDenied},
		{"no such path", func(s *VaultSpec) { s.Path = "none"; byToken(credentialFile(t, v.Root()))(s) }, ErrMissing},
		{"no such engine", func(s *VaultSpec) { s.Mount = "none"; byToken(credentialFile(t, v.Root()))(s) }, ErrMissing},
		{"version 1 asked of version 2", func(s *VaultSpec) { s.KVVersion = 1; byToken(credentialFile(t, v.Root()))(s) }, ErrMissing},
		{"version 2 asked of version 1", func(s *VaultSpec) { s.Mount = "old"; byToken(credentialFile(t, v.Root()))(s) }, ErrMissing},
		{"no such field", func(s *VaultSpec) { s.Field = "none" }, ErrMissing},
		{"an empty field", func(s *VaultSpec) { s.Field = "empty" }, ErrMissing},
		{"a number", func(s *VaultSpec) { s.Field = "number" }, ErrUnusable},
		{"an authority that is not its own", func(s *VaultSpec) { s.CAFile = otherAuthority(t) }, ErrUntrusted},
		{"the system's authorities", func(s *VaultSpec) { s.CAFile = "" }, ErrUntrusted},
		{"a name that the certificate has not", func(s *VaultSpec) { s.ServerName = "vault.example.org" }, ErrUntrusted},
		{"http to its port", func(s *VaultSpec) { s.Address, s.CAFile = strings.Replace(s.Address, "https", "http", 1), "" }, ErrUnusable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := open(t, spec(test.change), "").Read(t.Context())
			require.ErrorIs(t, err, test.is)
			for _, hidden := range []string{realPIN, gone, v.Root(), "no-such-credential"} {
				assert.NotContains(t, err.Error(), hidden)
			}
		})
	}
}

func TestRealVaultSealed(t *testing.T) {
	v, spec := newVaultWithPIN(t, nil)
	loggedIn, fresh := open(t, spec(), ""), open(t, spec(), "")
	read(t, loggedIn, realPIN)
	v.Seal()
	for _, s := range []*Source{loggedIn, fresh} {
		_, err := s.Read(t.Context())
		require.ErrorIs(t, err, ErrSealed)
	}
	v.Unseal()
	for _, s := range []*Source{loggedIn, fresh} {
		eventuallyReads(t, s)
	}
}

// eventuallyReads waits for the PIN, as for a Vault that has just been unsealed.
func eventuallyReads(t *testing.T, s *Source) {
	t.Helper()
	require.Eventually(t, func() bool {
		value, err := s.Read(t.Context())
		defer value.Wipe()
		return err == nil && string(value.Reveal("to compare in a test")) == realPIN
	}, time.Minute, 20*time.Millisecond)
}

func TestRealVaultAway(t *testing.T) {
	v, spec := newVaultWithPIN(t, nil)
	s := open(t, spec(), "")
	read(t, s, realPIN)
	v.Stop()
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrAway)
	require.ErrorContains(t, err, "connection refused")
	v.Start()
	_, err = s.Read(t.Context())
	require.ErrorIs(t, err, ErrSealed, "as a Vault starts")
	v.Unseal()
	eventuallyReads(t, s)
}

func TestRealVaultSlow(t *testing.T) {
	v, spec := newVaultWithPIN(t, nil)
	s := open(t, spec(), "")
	read(t, s, realPIN)
	v.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Read(ctx)
	require.ErrorIs(t, err, ErrAway)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	v.Thaw()
	eventuallyReads(t, s)
}

func TestRealVaultLimitsTheRate(t *testing.T) {
	v, spec := newVaultWithPIN(t, nil)
	v.Write("sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": true})
	v.Write("sys/quotas/rate-limit/pin", map[string]any{"path": "secret/", "rate": 1, "interval": "1h"})
	s := open(t, spec(), "")
	read(t, s, realPIN)
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrRateLimited)
	assert.Equal(t, maxWait, RetryAfter(err), "it says an hour")
	v.Delete("sys/quotas/rate-limit/pin")
	read(t, s, realPIN)
}

func TestRealVaultStandby(t *testing.T) {
	nodes := vaulttest.NewCluster(t, 2)
	spec := withPIN(t, nodes[0], nil)
	s := open(t, spec(func(s *VaultSpec) { s.Address = nodes[1].Address }), "")
	eventuallyReads(t, s) // it redirects to the active node, once it knows it
	nodes[0].Seal()       // the other takes over
	eventuallyReads(t, s)
}

func TestRealVaultWithoutAnActiveNode(t *testing.T) {
	node := vaulttest.NewCluster(t, 1)[0]
	s := open(t, withPIN(t, node, nil)(), "")
	read(t, s, realPIN)
	node.StepDown()
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrStandby)
	eventuallyReads(t, s)
}

// Keep renews a token through several of its lives.
func TestKeepOfARealVaultRenews(t *testing.T) {
	t.Parallel()
	const life = 9 * time.Second
	v, spec := newVaultWithPIN(t, map[string]any{"token_ttl": life.String(), "token_max_ttl": "1h"})
	s := open(t, spec(), "")
	reported := keepAlive(t, s)
	in := loggedInBy(t, s)
	require.Eventually(t, func() bool {
		self, err := in.client.Auth().Token().LookupSelf()
		require.NoError(t, err)
		issued, err := time.Parse(time.RFC3339, self.Data["issue_time"].(string))
		require.NoError(t, err)
		end, err := time.Parse(time.RFC3339, self.Data["expire_time"].(string))
		require.NoError(t, err)
		return end.Sub(issued) > 2*life
	}, time.Minute, 200*time.Millisecond)
	read(t, s, realPIN)
	assert.Same(t, in, loggedInBy(t, s), "by the same login")
	assert.Equal(t, 2, v.Accessors(), "root's token and this one")
	assert.Empty(t, reported)
}

// loggedInBy waits for the login that is in use.
func loggedInBy(t *testing.T, s *Source) *session {
	t.Helper()
	server := s.origin.(*vault).server
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		in := <-server.turn
		server.turn <- in
		if in != nil {
			return in
		}
	}
	require.Fail(t, "no login")
	return nil
}

// nextLogin waits for another login than one.
func nextLogin(t *testing.T, s *Source, one *session) {
	t.Helper()
	require.Eventually(t, func() bool { return loggedInBy(t, s) != one }, time.Minute, 20*time.Millisecond)
}

// A token that can be renewed no longer, one that never could be, and one that was revoked, are replaced by a new login.
func TestKeepOfARealVaultLogsInAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		settings map[string]any
	}{
		{"at the end of the longest life", map[string]any{"token_ttl": "3s", "token_max_ttl": "5s"}},
		{"after a batch token's life", map[string]any{"token_ttl": "3s", "token_type": "batch"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, spec := newVaultWithPIN(t, test.settings)
			s := open(t, spec(), "")
			reported := keepAlive(t, s)
			for range 2 {
				nextLogin(t, s, loggedInBy(t, s))
			}
			read(t, s, realPIN)
			assert.Empty(t, reported)
		})
	}
	t.Run("after it was revoked", func(t *testing.T) {
		v, spec := newVaultWithPIN(t, map[string]any{"token_ttl": "3s"})
		s := open(t, spec(), "")
		keepAlive(t, s)
		in := loggedInBy(t, s)
		v.Revoke(in.client.Token())
		nextLogin(t, s, in)
		read(t, s, realPIN)
	})
}

// A sealed Vault is reported while the token lives on, and the token is renewed once it is unsealed.
func TestKeepOfARealVaultThroughASeal(t *testing.T) {
	t.Parallel()
	v, spec := newVaultWithPIN(t, map[string]any{"token_ttl": "5s", "token_max_ttl": "1h"})
	s := open(t, spec(), "")
	reported := keepAlive(t, s)
	loggedInBy(t, s)
	v.Seal()
	require.ErrorIs(t, <-reported, ErrSealed)
	v.Unseal()
	eventuallyReads(t, s)
}

// A credential whose uses are spent, or that ended, opens nothing more; a new one in its file does.
func TestRealVaultTakesANewSecretID(t *testing.T) {
	v, _ := newVaultWithPIN(t, nil)
	roleID, secretID := v.Role("once", map[string]any{"token_policies": "read-pin", "secret_id_num_uses": 1})
	path := filepath.Join(t.TempDir(), "secret-id")
	require.NoError(t, os.WriteFile(path, []byte(secretID), 0o600))
	s := open(t, Spec{Vault: &VaultSpec{
		ServerSpec: ServerSpec{Address: v.Address, CAFile: v.CAFile, AppRole: &AppRoleSpec{RoleID: roleID, SecretID: CredentialSpec{File: path}}},
		Mount:      "secret", Path: "hsm/token", Field: "pin",
	}}, "")
	read(t, s, realPIN)
	v.Revoke(loggedInBy(t, s).client.Token())
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrDenied)
	assert.NotContains(t, err.Error(), secretID)
	_, secretID = v.Role("once", map[string]any{"token_policies": "read-pin", "secret_id_num_uses": 1})
	require.NoError(t, os.WriteFile(path, []byte(secretID), 0o600))
	read(t, s, realPIN)
}

// A denied path is tried with a new login once: the role may have been given the policy meanwhile.
func TestRealVaultAfterThePolicyWasMended(t *testing.T) {
	v, spec := newVaultWithPIN(t, map[string]any{"token_policies": "default"})
	s := open(t, spec(), "")
	_, err := s.Read(t.Context())
	require.ErrorIs(t, err, ErrDenied)
	v.Write("auth/approle/role/signer", map[string]any{"token_policies": "read-pin"})
	read(t, s, realPIN)
}
