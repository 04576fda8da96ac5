package source

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// vaultServer answers, over TLS, the part of Vault's HTTP API that this package uses, with the statuses and bodies that Vault's
// documentation gives, and answers that no Vault should give. What a real one does is tested with one, in real_test.go; namespaces
// are tested here, for the real one has none.
type vaultServer struct {
	*httptest.Server
	caFile string

	mu          sync.Mutex
	sealed      bool
	standby     bool
	version     string
	broken      int           // a status to answer everything with, but the seal's
	retryAfter  string        // the header beside it
	stall       chan struct{} // requests wait until it is closed
	secretIDs   map[string]bool
	tokens      map[string]time.Time // when they end; the zero time: never
	ttl         time.Duration        // of tokens that logins make
	unrenewable bool
	logins      int
	renewals    int
	namespace   string // that requests must name, but those for the seal
	kv          map[string]map[string]any
}

func newVaultServer(t *testing.T) *vaultServer {
	v := &vaultServer{
		secretIDs: map[string]bool{"secret-id-1": true},
		tokens:    map[string]time.Time{"root-token": {}},
		ttl:       time.Hour,
		kv: map[string]map[string]any{
			"/v1/secret/data/hsm/token": {"data": map[string]any{"pin": "4711", "number": 4711, "empty": ""}, "metadata": map[string]any{"version": 1}},
			"/v1/secret/data/deleted":   {"data": nil, "metadata": map[string]any{"version": 1, "deletion_time": "2026-01-01T00:00:00Z"}},
			"/v1/old/hsm/token":         {"pin": "0815"},
		},
	}
	v.Server = httptest.NewTLSServer(v)
	t.Cleanup(v.Close)
	v.caFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate().Raw})
	require.NoError(t, os.WriteFile(v.caFile, block, 0o644))
	return v
}

// spec is of the secret's field pin, read by AppRole.
func (v *vaultServer) spec(t *testing.T, change ...func(*VaultSpec)) Spec {
	spec := &VaultSpec{
		ServerSpec: ServerSpec{Address: v.URL, CAFile: v.caFile,
			AppRole: &AppRoleSpec{RoleID: "role-1", SecretID: CredentialSpec{File: credentialFile(t, "secret-id-1")}}},
		Mount: "secret", Path: "hsm/token", Field: "pin",
	}
	for _, c := range change {
		c(spec)
	}
	return Spec{Vault: spec}
}

func credentialFile(t *testing.T, content string) string {
	path := filepath.Join(t.TempDir(), "credential")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// byToken replaces the login.
func byToken(path string) func(*VaultSpec) {
	return func(s *VaultSpec) { s.AppRole, s.Token = nil, &CredentialSpec{File: path} }
}

// set changes the server's state under its lock.
func (v *vaultServer) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

func (v *vaultServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	stall := v.stall
	v.mu.Unlock()
	if stall != nil {
		<-stall
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.URL.Path == "/v1/sys/health" {
		answer(w, 299, map[string]any{"sealed": v.sealed, "initialized": true, "standby": v.standby, "version": v.version})
		return
	}
	switch {
	case r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != v.namespace:
		fault(w, http.StatusBadRequest, "wrong headers")
	case v.sealed:
		fault(w, http.StatusServiceUnavailable, "Vault is sealed")
	case v.broken != 0:
		w.Header().Set("Retry-After", v.retryAfter)
		fault(w, v.broken, "out of order: secret-id-1 root-token 4711") // a server that repeats what it must not
	case r.URL.Path == "/v1/auth/approle/login":
		v.login(w, r)
	default:
		v.withToken(w, r)
	}
}

func (v *vaultServer) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Role   string `json:"role_id"`
		Secret string `json:"secret_id"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Role != "role-1" || !v.secretIDs[body.Secret] {
		fault(w, http.StatusBadRequest, "invalid role or secret ID")
		return
	}
	v.logins++
	token := fmt.Sprintf("token-%d", v.logins)
	v.tokens[token] = time.Now().Add(v.ttl)
	answer(w, http.StatusOK, v.auth(token))
}

func (v *vaultServer) auth(token string) map[string]any {
	return map[string]any{"auth": map[string]any{
		"client_token": token, "renewable": !v.unrenewable, "lease_duration": int(v.ttl.Seconds()),
	}}
}

func (v *vaultServer) withToken(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("X-Vault-Token")
	end, known := v.tokens[token]
	if !known || !end.IsZero() && time.Now().After(end) {
		fault(w, http.StatusForbidden, "permission denied")
		return
	}
	switch {
	case r.URL.Path == "/v1/auth/token/lookup-self":
		data := map[string]any{"ttl": 0, "renewable": false, "expire_time": nil}
		if !end.IsZero() {
			data = map[string]any{"ttl": int(time.Until(end).Seconds()), "renewable": !v.unrenewable, "expire_time": end.Format(time.RFC3339)}
		}
		answer(w, http.StatusOK, map[string]any{"data": data})
	case r.URL.Path == "/v1/auth/token/renew-self" && !v.unrenewable:
		v.renewals++
		v.tokens[token] = time.Now().Add(v.ttl)
		answer(w, http.StatusOK, v.auth(token))
	case r.URL.Path == "/v1/transit/encrypt/backup":
		answer(w, http.StatusOK, map[string]any{"data": map[string]any{}}) // nobody should come so far
	case v.kv[r.URL.Path] == nil:
		fault(w, http.StatusNotFound)
	case v.kv[r.URL.Path]["metadata"] != nil && v.kv[r.URL.Path]["data"] == nil: // a deleted version: 404, and yet an answer
		answer(w, http.StatusNotFound, map[string]any{"data": v.kv[r.URL.Path]})
	default:
		answer(w, http.StatusOK, map[string]any{"data": v.kv[r.URL.Path]})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone reads nothing
}

func fault(w http.ResponseWriter, status int, errors ...string) {
	answer(w, status, map[string]any{"errors": append([]string{}, errors...)})
}

// otherAuthority is a file with an authority's certificate that signed nothing.
func otherAuthority(t *testing.T) string {
	authority, err := devpki.NewAuthority(time.Now())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, os.WriteFile(path, authority.Certificate(), 0o644))
	return path
}
