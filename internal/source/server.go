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
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// requestTimeout bounds one request to Vault; nothing is tried again within it. Who asks decides whether to ask again.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
)

// server is a Vault, and our login there.
type server struct {
	address, serverName, namespace string
	caFile                         string // empty: the system's

	login  login
	relogs pause

	// turn holds the login in use, nil until the first. Who has taken it logs in, and puts back what then is in use.
	turn chan *session
}

// session is a login: a client with its token. What holds it alive is in keep.go.
type session struct {
	client   *api.Client
	grant    grant
	at       time.Time     // of the login
	replaced chan struct{} // closed when another login has taken its place
}

// newServer validates spec, whose fields the error names with prefix before them. The error joins one for each problem.
func newServer(prefix string, spec ServerSpec, dir string) (*server, error) {
	s := &server{address: spec.Address, serverName: spec.ServerName, namespace: strings.Trim(spec.Namespace, "/"),
		relogs: pause{time.Second, time.Minute}, turn: make(chan *session, 1)}
	s.turn <- nil
	problems := []error{checkAddress(prefix+"address", spec.Address)}
	if s.namespace != "" {
		problems = append(problems, checkPath(prefix+"namespace", s.namespace))
	}
	if spec.CAFile != "" {
		s.caFile = resolve(spec.CAFile, dir)
	}
	if strings.HasPrefix(spec.Address, "http:") && (spec.CAFile != "" || spec.ServerName != "") {
		problems = append(problems, fmt.Errorf("%saddress: caFile and serverName are of no use with http", prefix))
	}
	var err error
	s.login, err = newLogin(prefix, spec, dir)
	return s, errors.Join(append(problems, err)...)
}

// checkAddress accepts https, and http to the machine itself.
func checkAddress(field, address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("%s: write https://HOST:PORT", field)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s: only https, or http to a loopback address: the token would be readable on the way", field)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *server) String() string { return "vault " + s.address }

// do has call ask something by a client that is logged in. A token that Vault no longer takes is replaced by a new login, once:
// that gives a role whose policies were mended meanwhile its new ones, too.
func (s *server) do(ctx context.Context, call func(context.Context, *api.Client) (*api.Secret, error)) (*api.Secret, error) {
	in, err := s.loggedIn(ctx, nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.ask(ctx, in.client, call)
	if errors.Is(err, ErrDenied) {
		if in, err = s.loggedIn(ctx, in); err != nil {
			return nil, err
		}
		answer, err = s.ask(ctx, in.client, call)
	}
	return answer, err
}

// ask has call ask something, and names what went wrong by one of this package's errors. An answer without data is ErrMissing.
func (s *server) ask(ctx context.Context, client *api.Client, call func(context.Context, *api.Client) (*api.Secret, error)) (*api.Secret, error) {
	var heard reply
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := call(within, client.WithResponseCallbacks(heard.note))
	switch {
	case err != nil || heard.redirected():
		return nil, s.classify(ctx, heard, err)
	case answer == nil || answer.Data == nil && answer.Auth == nil:
		return nil, fmt.Errorf("%w: nothing is there", ErrMissing)
	}
	return answer, nil
}

// loggedIn answers the login in use. One that the caller found refused, or near its end, is replaced, unless another caller has
// done so. Whoever else needs the login waits for this one, as long as his own context lets him.
func (s *server) loggedIn(ctx context.Context, refused *session) (*session, error) {
	var current *session
	select {
	case current = <-s.turn:
	case <-ctx.Done():
		return nil, s.classify(ctx, reply{}, ctx.Err())
	}
	defer func() { s.turn <- current }()
	if current != nil && current != refused {
		return current, nil
	}
	next, err := s.newSession(ctx)
	if err != nil {
		return nil, err
	}
	if current != nil {
		close(current.replaced)
	}
	current = next
	return current, nil
}

func (s *server) newSession(ctx context.Context) (*session, error) {
	credential, err := s.login.credential().read(ctx)
	if err != nil {
		return nil, err
	}
	defer credential.Wipe()
	client, err := s.connect(s.namespace)
	if err != nil {
		return nil, err
	}
	answer, err := s.ask(ctx, client, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return s.login.logIn(ctx, client, credential)
	})
	if err != nil {
		return nil, fmt.Errorf("log in by %v: %w", s.login, err)
	}
	granted, err := newGrant(answer)
	if err != nil {
		return nil, fmt.Errorf("log in by %v: %w", s.login, err)
	}
	client.SetToken(answer.Auth.ClientToken)
	return &session{client: client, grant: granted, at: time.Now(), replaced: make(chan struct{})}, nil
}

// connect makes a client of the configuration alone. The library would also take the address, the token, headers and even
// "verify no certificate" from VAULT_* variables: all of that is set, or emptied, here. No proxy is used.
func (s *server) connect(namespace string) (*api.Client, error) {
	verify := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.serverName}
	if s.caFile != "" {
		pem, err := os.ReadFile(s.caFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		verify.RootCAs = x509.NewCertPool()
		if !verify.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile: %s holds no certificate in PEM", s.caFile)
		}
	}
	client, err := api.NewClient(&api.Config{
		Address: s.address,
		Timeout: requestTimeout,
		HttpClient: &http.Client{
			Transport: guard{&http.Transport{
				TLSClientConfig:     verify,
				TLSHandshakeTimeout: requestTimeout,
				ForceAttemptHTTP2:   true,
				IdleConnTimeout:     time.Minute,
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the library follows one itself
		},
	})
	if err != nil {
		return nil, err
	}
	client.ClearToken()
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if namespace != "" {
		client.SetNamespace(namespace)
	}
	return client, nil
}

// guard stands before every request, those that follow a redirect too: none leaves the machine in clear. It cuts off an answer
// that does not end.
type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !loopback(r.URL.Hostname()) {
		return nil, errInClear
	}
	answer, err := g.next.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}
