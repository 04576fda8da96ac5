package rpc

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
)

// oddAuthority issues what devpki does not: certificates with any names and uses.
type oddAuthority struct {
	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	self        bool // what it issues is signed with the issued key itself
}

func newOddAuthority(t testing.TB) *oddAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &oddAuthority{t: t, key: key, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "odd"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, key.Public(), key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

// issue signs a client certificate of a common name and URIs, DNS names in it as change says.
func (a *oddAuthority) issue(name string, change func(*x509.Certificate), uris ...string) (certificate, key []byte, err error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, uri := range uris {
		parsed, err := url.Parse(uri)
		require.NoError(a.t, err)
		template.URIs = append(template.URIs, parsed)
	}
	if change != nil {
		change(template)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	parent, signer := a.certificate, a.key
	if a.self {
		parent, signer = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	require.NoError(a.t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// Who does not get through TLS reaches no handler: the connection ends with an alert, and nothing is recorded.
func TestTLSRefuses(t *testing.T) {
	w := newWorld(t)
	other, err := devpki.NewAuthority(time.Now())
	require.NoError(t, err)
	stranger := newOddAuthority(t)
	stranger.self = true
	platform := devpki.Identity("platform")
	pair := func(certificate, key []byte, err error) *tls.Config { return w.tlsWith(certificate, key, err) }
	for name, c := range map[string]struct {
		config *tls.Config
		alert  string
	}{
		"no certificate": {&tls.Config{RootCAs: w.roots(), MinVersion: tls.VersionTLS13}, "certificate required"},
		"expired":        {pair(w.authority.Client(platform, time.Now().Add(-time.Minute))), "expired certificate"},
		"not yet valid":  {pair(w.authority.Client(platform, time.Now().Add(devpki.Life+2*time.Hour))), "expired certificate"},
		"other CA":       {pair(other.Client(platform, time.Now().Add(time.Hour))), "unknown certificate authority"},
		"other CA's server certificate": {
			pair(other.Server()), "unknown certificate authority",
		},
		"self-signed":          {pair(stranger.issue("platform", nil, platform)), "unknown certificate authority"},
		"server's certificate": {pair(w.authority.Server()), "bad certificate"},
		"TLS 1.2": {func() *tls.Config {
			config := w.tlsAs("platform")
			config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return config
		}(), "protocol version not supported"},
	} {
		for _, http2 := range []bool{false, true} {
			// A client of TLS 1.3 has finished its handshake before the server judges its certificate; a client that sends
			// its certificate whatever the server asks for, or none, learns of the refusal at its first read.
			config := c.config.Clone()
			if len(config.Certificates) > 0 {
				only := config.Certificates[0]
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &only, nil }
			}
			caller := w.dial(config, http2)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, caller.base+authorizeLoad, nil)
			require.NoError(t, err)
			_, err = caller.http.Do(request) //nolint:bodyclose // there is none
			require.Error(t, err, name)
			if !http2 { // over HTTP/2 the client's preface may fail first
				assert.ErrorContains(t, err, c.alert, name)
			}
		}
	}
	assert.Len(t, w.entries(), 1)
	assert.Empty(t, w.attempts())
}

// The public port answers plain HTTP with nothing but a refusal.
func TestPlainHTTPIsRefused(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", w.public.String())
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's
	_, err = conn.Write([]byte("POST " + authorizeLoad + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	assert.Equal(t, http.StatusBadRequest, response.StatusCode)
}

// A certificate of the right authority is not enough: exactly one of its URIs and DNS names is a client's identity. A
// refusal is recorded with the names.
func TestIdentityIsAName(t *testing.T) {
	odd := newOddAuthority(t)
	platform := devpki.Identity("platform")
	w := newWorld(t, func(s *setup) {
		s.cas = []*x509.Certificate{odd.certificate}
		s.clients = append(s.clients, policy.Client{
			Name: "by-dns", Identity: "platform.example", Role: policy.Platform, KeySets: []string{"demo"},
		})
	})
	dns := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	for name, c := range map[string]struct {
		config  *tls.Config
		refused string
	}{
		"known":          {w.tlsWith(odd.issue("", nil, platform)), ""},
		"one of two":     {w.tlsWith(odd.issue("", dns("host.example"), "spiffe://elsewhere/x", platform)), ""},
		"DNS name":       {w.tlsWith(odd.issue("", dns("platform.example"))), ""},
		"unknown":        {w.tlsAs("nobody"), "names no client"},
		"common name":    {w.tlsWith(odd.issue(platform, nil)), "names no client"},
		"common DNS":     {w.tlsWith(odd.issue("platform.example", nil)), "names no client"},
		"client's name":  {w.tlsWith(odd.issue("platform", dns("platform"))), "names no client"},
		"longer":         {w.tlsWith(odd.issue("", nil, platform+"/x")), "names no client"},
		"other case":     {w.tlsWith(odd.issue("", nil, "spiffe://pursekeeper.dev/Platform")), "names no client"},
		"wildcard":       {w.tlsWith(odd.issue("", dns("*.example"))), "names no client"},
		"two clients":    {w.tlsWith(odd.issue("", nil, platform, devpki.Identity("officer"))), "names two clients"},
		"e-mail address": {w.tlsWith(odd.issue("", func(c *x509.Certificate) { c.EmailAddresses = []string{"platform.example"} })), "names no client"},
	} {
		before := len(w.entries())
		r := w.dial(c.config, true).post(getTransaction, fields{"transactionId": demoID})
		after := w.entries()[before:]
		if c.refused == "" {
			assert.Equal(t, "not_found", r.code(), "%s: %v", name, r.body)
			assert.Empty(t, after, name)
			continue
		}
		assert.Equal(t, http.StatusForbidden, r.status, name)
		assert.Equal(t, "permission_denied", r.code(), "%s: %v", name, r.body)
		assert.Contains(t, r.message(), c.refused, name)
		require.Len(t, after, 1, name)
		assert.Equal(t, audit.Event("Identify"), after[0].Event, name)
		assert.Equal(t, "PERMISSION_DENIED", after[0].Outcome, name)
		assert.Contains(t, after[0].Detail, c.refused, name)
		for _, protocol := range []connect.ClientOption{connect.WithGRPC(), connect.WithGRPCWeb(), connect.WithProtoJSON()} {
			_, err := w.dial(c.config.Clone(), true).signer(protocol).AuthorizeLoad(t.Context(), demoMessage())
			assert.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%s: %v", name, err)
		}
	}
	assert.Empty(t, w.attempts())
	assert.Contains(t, w.logs.String(), `"msg":"request refused unread","method":"GetTransaction","client":"","code":"permission_denied"`)
}

// Who is no client may ask as often as he likes, on connections as he likes: one refusal is in the record. A certificate with more names than an
// entry has room for is refused as any other.
func TestWhoIsNoClientDoesNotFillTheRecord(t *testing.T) {
	odd := newOddAuthority(t)
	w := newWorld(t, func(s *setup) {
		s.cas = []*x509.Certificate{odd.certificate}
		s.clients = append(s.clients, policy.Client{
			Name: "gone", Identity: devpki.Identity("gone"), Role: policy.Platform, KeySets: []string{"demo"}, Suspended: true,
		})
	})
	many := func(c *x509.Certificate) {
		for i := range 350 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("%d.%s.example", i, strings.Repeat("a", 60)))
			c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: strings.Repeat("b", 60), Path: fmt.Sprint("/", i)})
		}
	}
	for says, config := range map[string]*tls.Config{
		"names no client":          w.tlsAs("nobody"),
		"client gone is suspended": w.tlsAs("gone"),
		"certificate names no":     w.tlsWith(odd.issue("", many)),
	} {
		before := len(w.entries())
		for range 2 {
			caller := w.dial(config, true)
			for range 10 {
				r := caller.post(getTransaction, fields{"transactionId": demoID})
				require.Equal(t, "permission_denied", r.code(), "%v", r.body)
				require.Contains(t, r.message(), says)
			}
		}
		after := w.entries()[before:]
		require.Len(t, after, 1, says)
		assert.Contains(t, after[0].Detail, says)
	}
	assert.EqualValues(t, 60, w.counted("pursekeeper_requests_total", "permission_denied", "GetTransaction", ""))
}

// Every connection proves its certificate anew: none is resumed.
func TestSessionsAreNotResumed(t *testing.T) {
	w := newWorld(t)
	config := w.tlsAs("platform")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	platform := w.dial(config, false)
	for range 2 {
		assert.Equal(t, demoMAC2, platform.approved(demoLoad()).body["mac2"])
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, platform.base+getTransaction, nil)
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := platform.http.Do(request)
		require.NoError(t, err)
		_ = response.Body.Close()
		assert.False(t, response.TLS.DidResume)
		platform.http.CloseIdleConnections()
	}
}

// A handler that is served without client certificates, by mistake, answers nobody.
func TestWithoutAVerifiedCertificateNobodyIsAnswered(t *testing.T) {
	w := newWorld(t, func(s *setup) {
		s.server = func(server *http.Server) {
			config, err := server.TLSConfig.GetConfigForClient(nil)
			require.NoError(t, err)
			server.TLSConfig = config.Clone()
			server.TLSConfig.ClientAuth = tls.RequireAnyClientCert
		}
	})
	r := w.as("platform").post(authorizeLoad, demoLoad())
	assert.Equal(t, "unauthenticated", r.code(), "%v", r.body)
	assert.Equal(t, http.StatusUnauthorized, r.status)
	assert.Empty(t, w.attempts())
	assert.Len(t, w.entries(), 1, "who proves nothing is not recorded")
}
