package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// requestTimeout bounds one request to Vault; nothing is tried again within it. Who asks decides whether to ask again.
const requestTimeout = 10 * time.Second

// vault is one field of a secret in Vault, and the login that reads it.
//
// Vault's client library hands secrets out as Go strings in maps, and keeps its token as one: those copies lie on the Go heap
// until the collector takes them and later memory overwrites them, and nothing can wipe them. Only what Read answers is in
// locked memory. Where that matters (swap, core dumps), give the secret by a file on a memory file system.
type vault struct {
	address, field string
	path           string // as the API wants it, with "data/" for version 2
	inner          string // "data" for version 2, whose answer holds the secret one level down
	namespace      string
	caFile         string // empty: the system's

	login  login
	relogs pause

	mu     sync.Mutex
	client *api.Client // nil until the first login; guarded by mu
	lease  *api.Secret // of the client's token; guarded by mu
}

// newVault validates spec. Its error joins one error for each problem.
func newVault(spec VaultSpec, dir string) (*vault, error) {
	v := &vault{address: spec.Address, field: spec.Field, namespace: spec.Namespace, relogs: pause{time.Second, time.Minute}}
	problems := []error{checkAddress(spec.Address)}
	for _, part := range []struct{ name, value string }{{"mount", spec.Mount}, {"path", spec.Path}, {"field", spec.Field}} {
		if part.value == "" || strings.Trim(part.value, "/") != part.value {
			problems = append(problems, fmt.Errorf("vault.%s: %q: write it, without a slash at either end", part.name, part.value))
		}
	}
	switch spec.KVVersion {
	case 0, 2:
		v.path, v.inner = spec.Mount+"/data/"+spec.Path, "data"
	case 1:
		v.path = spec.Mount + "/" + spec.Path
	default:
		problems = append(problems, fmt.Errorf("vault.kvVersion: %d: write 1 or 2", spec.KVVersion))
	}
	if spec.CAFile != "" {
		v.caFile = resolve(spec.CAFile, dir)
	}
	var err error
	v.login, err = newLogin(spec, dir)
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, err
	}
	return v, nil
}

// checkAddress accepts https, and http to the machine itself.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("vault.address: write https://HOST:PORT")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("vault.address: only https, or http to a loopback address: the token would be readable on the way")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (v *vault) String() string { return "vault " + v.address + " " + v.path + " " + v.field }

// read asks for the field. A token that Vault no longer takes is replaced by a new login, once.
func (v *vault) read(ctx context.Context) (secret.Bytes, error) {
	client, err := v.loggedIn(ctx, nil)
	if err != nil {
		return secret.Bytes{}, err
	}
	answer, err := v.fetch(ctx, client)
	if errors.Is(err, ErrDenied) {
		if client, err = v.loggedIn(ctx, client); err != nil {
			return secret.Bytes{}, err
		}
		answer, err = v.fetch(ctx, client)
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	data := answer.Data
	if v.inner != "" {
		data, _ = data[v.inner].(map[string]any) // null where the newest version was deleted
	}
	value, found := data[v.field]
	text, isString := value.(string)
	switch {
	case !found || isString && text == "":
		return secret.Bytes{}, fmt.Errorf("%v: the field is missing or empty: %w", v, ErrMissing)
	case !isString:
		return secret.Bytes{}, fmt.Errorf("%v: the field is a %T, not a string", v, value)
	}
	return secret.Take([]byte(text)), nil
}

func (v *vault) fetch(ctx context.Context, client *api.Client) (*api.Secret, error) {
	answer, err := client.Logical().ReadWithContext(ctx, v.path)
	if err != nil {
		return nil, v.fault(ctx, "read", err)
	}
	if answer == nil || answer.Data == nil {
		return nil, fmt.Errorf("%v: nothing is there: %w", v, ErrMissing)
	}
	return answer, nil
}

// loggedIn answers a client with a token. One that the caller found refused is replaced, unless another caller has done so.
// The mutex is held while Vault is asked: whoever else needs the login waits for this one, as long as a request may take.
func (v *vault) loggedIn(ctx context.Context, refused *api.Client) (*api.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.client != nil && v.client != refused {
		return v.client, nil
	}
	credential, err := v.login.credential().read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", v, err)
	}
	defer credential.Wipe()
	client, err := v.connect(v.namespace)
	if err != nil {
		return nil, err
	}
	lease, err := v.login.logIn(ctx, client, credential)
	if err != nil {
		return nil, v.fault(ctx, "log in by "+v.login.String(), err)
	}
	v.client, v.lease = client, lease
	return client, nil
}

// connect makes a client of the configuration alone. The library would also take the address, the token, headers and even
// "verify no certificate" from VAULT_* variables: all of that is set, or emptied, here. No proxy is used.
func (v *vault) connect(namespace string) (*api.Client, error) {
	verify := &tls.Config{MinVersion: tls.VersionTLS12}
	if v.caFile != "" {
		pem, err := os.ReadFile(v.caFile)
		if err != nil {
			return nil, fmt.Errorf("vault.caFile: %w", err)
		}
		verify.RootCAs = x509.NewCertPool()
		if !verify.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("vault.caFile: %s holds no certificate in PEM", v.caFile)
		}
	}
	client, err := api.NewClient(&api.Config{
		Address: v.address,
		Timeout: requestTimeout,
		HttpClient: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig:     verify,
				TLSHandshakeTimeout: requestTimeout,
				ForceAttemptHTTP2:   true,
				IdleConnTimeout:     time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the library follows one itself
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%v: %w", v, err)
	}
	client.ClearToken()
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if namespace != "" {
		client.SetNamespace(namespace)
	}
	return client, nil
}
