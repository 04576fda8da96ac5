package vaulttest

import (
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// deadline bounds the waits for a loaded machine.
const deadline = time.Minute

func (s *Server) connect() *api.Client {
	s.t.Helper()
	config := api.DefaultConfig()
	require.NoError(s.t, config.Error)
	config.Address = s.Address
	config.MaxRetries = 0
	require.NoError(s.t, config.ConfigureTLS(&api.TLSConfig{CACert: s.CAFile}))
	client, err := api.NewClient(config)
	require.NoError(s.t, err)
	client.ClearNamespace() // of the environment
	client.SetToken(s.root)
	return client
}

// setUp makes a new Vault one with one unseal key, unsealed.
func (s *Server) setUp() {
	s.t.Helper()
	s.client = s.connect()
	made, err := s.client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	require.NoError(s.t, err)
	s.root, s.unseal = made.RootToken, made.KeysB64[0]
	s.client.SetToken(s.root)
	s.Unseal()
	require.Eventually(s.t, func() bool {
		health, err := s.client.Sys().Health()
		return err == nil && !health.Sealed && !health.Standby
	}, deadline, 10*time.Millisecond, "it should become active")
}

func (s *Server) enable() {
	s.t.Helper()
	s.Write("sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	s.Write("sys/mounts/old", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	s.Write("sys/mounts/transit", map[string]any{"type": "transit"})
	s.Write("sys/auth/approle", map[string]any{"type": "approle"})
}

// Seal seals it; nothing but Unseal is possible then.
func (s *Server) Seal() {
	s.t.Helper()
	require.NoError(s.t, s.client.Sys().Seal())
}

// Unseal opens it again.
func (s *Server) Unseal() {
	s.t.Helper()
	status, err := s.client.Sys().Unseal(s.unseal)
	require.NoError(s.t, err)
	require.False(s.t, status.Sealed)
}

// StepDown makes the active node of a cluster stand by for ten seconds.
func (s *Server) StepDown() {
	s.t.Helper()
	require.NoError(s.t, s.client.Sys().StepDown())
}

// Write writes to a path of the API as root, and answers the data of the answer.
func (s *Server) Write(path string, data map[string]any) map[string]any {
	s.t.Helper()
	answer, err := s.client.Logical().Write(path, data)
	require.NoError(s.t, err, path)
	if answer == nil {
		return nil
	}
	return answer.Data
}

// Delete deletes at a path of the API as root.
func (s *Server) Delete(path string) {
	s.t.Helper()
	_, err := s.client.Logical().Delete(path)
	require.NoError(s.t, err, path)
}

// Token makes a token that has the policies, of which there must be one, and the given life; renewable says whether it can be renewed.
func (s *Server) Token(life time.Duration, renewable bool, policies ...string) string {
	s.t.Helper()
	require.NotEmpty(s.t, policies, "it would be another root")
	made, err := s.client.Auth().Token().CreateOrphan(&api.TokenCreateRequest{Policies: policies, TTL: life.String(), Renewable: &renewable})
	require.NoError(s.t, err)
	return made.Auth.ClientToken
}

// Revoke ends a token at once.
func (s *Server) Revoke(token string) {
	s.t.Helper()
	require.NoError(s.t, s.client.Auth().Token().RevokeTree(token))
}

// Policy makes a policy, in Vault's language.
func (s *Server) Policy(name, rules string) {
	s.t.Helper()
	require.NoError(s.t, s.client.Sys().PutPolicy(name, rules))
}

// Role makes a role of AppRole by its settings, and one secret for it.
func (s *Server) Role(name string, settings map[string]any) (roleID, secretID string) {
	s.t.Helper()
	s.Write("auth/approle/role/"+name, settings)
	role, err := s.client.Logical().Read("auth/approle/role/" + name + "/role-id")
	require.NoError(s.t, err)
	return role.Data["role_id"].(string), s.Write("auth/approle/role/"+name+"/secret-id", nil)["secret_id"].(string)
}

// Accessors is how many tokens there are, root's among them.
func (s *Server) Accessors() int {
	s.t.Helper()
	listed, err := s.client.Logical().List("auth/token/accessors")
	require.NoError(s.t, err)
	return len(listed.Data["keys"].([]any))
}

// Root is root's token.
func (s *Server) Root() string { return s.root }
