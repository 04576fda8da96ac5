package main

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// authorityHome is a home with an authority of its own in tls, whose key the test keeps, and its list of revoked certificates.
func authorityHome(t *testing.T) (h home, authority *devpki.Authority, config string) {
	t.Helper()
	h = newHome(t)
	authority, err := devpki.NewAuthority(time.Now())
	require.NoError(t, err)
	h.write("tls/ca.crt", string(authority.Certificate()))
	renewServer(h, authority)
	certificate, key, err := authority.Client(devpki.Identity("platform"), time.Now().Add(time.Hour))
	require.NoError(t, err)
	h.write("tls/platform.crt", string(certificate))
	h.write("tls/platform.key", string(key))
	revoke(h, authority, 1)
	return h, authority, h.config("revoking.yaml", edit{`clientCA: tls/ca.crt`, `clientCA: tls/ca.crt, crl: tls/ca.crl`})
}

func renewServer(h home, authority *devpki.Authority) {
	certificate, key, err := authority.Server()
	require.NoError(h.t, err)
	h.write("tls/server.crt", string(certificate))
	h.write("tls/server.key", string(key))
}

func revoke(h home, authority *devpki.Authority, number int64, names ...string) {
	var revoked [][]byte
	for _, name := range names {
		revoked = append(revoked, []byte(h.read("tls/"+name+".crt")))
	}
	list, err := authority.Revoked(number, time.Now().Add(time.Hour), revoked...)
	require.NoError(h.t, err)
	h.write("tls/ca.crl", string(list))
}

// serverSerial is the serial number of the certificate that a new connection is shown.
func (s *served) serverSerial(as string) string {
	pair, err := tls.LoadX509KeyPair(s.home.path("tls/"+as+".crt"), s.home.path("tls/"+as+".key"))
	require.NoError(s.t, err)
	conn, err := tls.Dial("tcp", s.public, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	require.NoError(s.t, err)
	defer conn.Close() //nolint:errcheck // a test's
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// The whole program: certificates are exchanged under traffic and no load fails; what cannot be used is alarmed and changes nothing; a client
// that is revoked is refused on the connection that it has.
func TestServeReadsItsCertificatesAgain(t *testing.T) {
	h, authority, config := authorityHome(t)
	s := serveChild(h, config)
	on := &platform{}
	on.use(s)
	stop := traffic(wallets(t, on, 2), (*wallet).load)
	old := s.serverSerial("platform")
	renewServer(h, authority) // found by itself
	eventually(t, "the new certificate is shown", func() bool { return s.serverSerial("platform") != old })
	assert.EqualValues(t, 2, s.metric("certificates_generation"))
	in := s.metric(regexp.QuoteMeta(`certificate_expires_seconds{kind="crl",name="CN=Pursekeeper development authority"}`))
	assert.Greater(t, in, 3500.0)
	assert.Less(t, in, 3601.0)

	renewed := s.serverSerial("platform")
	good := h.read("tls/server.key")
	_, key, err := authority.Server()
	require.NoError(t, err)
	h.write("tls/server.key", string(key))
	revoke(h, authority, 2)
	s.signal(syscall.SIGHUP)
	s.says(`"msg":"new certificates are not in use: those from before are","half":"server"`)
	s.says(`"msg":"alarm","event":"CertificatesRefused"`)
	eventually(t, "the other half is in use", func() bool { return s.metric("certificates_generation") == 3 })
	assert.EqualValues(t, 1, s.metric(regexp.QuoteMeta(`certificates_outdated{half="server"}`)))
	assert.EqualValues(t, 1, s.metric(regexp.QuoteMeta(`alarms_total{event="CertificatesRefused"}`)))
	assert.Equal(t, renewed, s.serverSerial("platform"))
	h.write("tls/server.key", good)
	eventually(t, "nothing is amiss", func() bool { return s.metric(regexp.QuoteMeta(`certificates_outdated{half="server"}`)) == 0 })
	stop()

	client := s.client("platform")
	ask := func() error {
		_, err := client.ListTransactions(t.Context(), &v1.ListTransactionsRequest{KeySet: "demo"})
		return err
	}
	require.NoError(t, ask())
	revoke(h, authority, 3, "platform")
	s.signal(syscall.SIGHUP)
	eventually(t, "the client is refused", func() bool { return connect.CodeOf(ask()) == connect.CodeUnauthenticated })
	require.ErrorContains(t, ask(), "is revoked since")
	assert.Positive(t, s.metric(regexp.QuoteMeta(`certificates_refused_total{reason="revoked"}`)))
	assert.Zero(t, s.terminate())
}

// docs/certificates.md is typed as it is there, and does what it says.
func TestCertificatesGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "certificates.md"))
	require.NoError(t, err)
	blocks := map[string][]string{}
	for _, b := range regexp.MustCompile("(?s)```(ini|sh|yaml)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks[b[1]] = append(blocks[b[1]], b[2])
	}
	require.Equal(t, []int{1, 2, 1}, []int{len(blocks["ini"]), len(blocks["sh"]), len(blocks["yaml"])})
	h := newHome(t)
	at := h.path("tls")
	server := filepath.Join(at, "server-ca.crt")
	require.NoError(t, os.Rename(filepath.Join(at, "ca.crt"), server))
	h.write("tls/ca.cnf", blocks["ini"][0])
	typed := func(commands string) string {
		c := exec.Command("bash", "-e", "-o", "pipefail", "-c", commands)
		c.Dir = at
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s\n%s", commands, out)
		return string(out)
	}
	require.NoError(t, os.Remove(filepath.Join(at, "platform.crt")))
	require.NoError(t, os.Remove(filepath.Join(at, "platform.key")))
	typed(blocks["sh"][0])
	line := regexp.MustCompile(`(\w+): (\w+\.\w+)`).ReplaceAllString(strings.TrimSpace(blocks["yaml"][0]), "$1: tls/$2")
	s := serveChild(h, h.config("guide.yaml", edit{`^tls: .*`, line}))

	desk := home{t, h.path("desk")} // of the client: the authority that it trusts is the server's
	typed("mkdir -p ../desk/tls && cp server-ca.crt ../desk/tls/ca.crt && cp platform.crt platform.key ../desk/tls/")
	client := (&served{program: s.program, home: desk, public: s.public}).client("platform")
	ask := func() error {
		_, err := client.ListTransactions(t.Context(), &v1.ListTransactionsRequest{KeySet: "demo"})
		return err
	}
	require.NoError(t, ask())
	assert.Contains(t, typed(blocks["sh"][1]), "Serial Number: 01")
	eventually(t, "the client is refused", func() bool { return connect.CodeOf(ask()) == connect.CodeUnauthenticated })
	assert.ErrorContains(t, ask(), `certificate 1 of "CN=Clients of gd" is revoked since`)
	assert.Zero(t, s.terminate())
}
