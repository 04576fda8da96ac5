package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
)

// noon is when the tests begin.
var noon = time.Date(2024, 1, 31, 12, 0, 0, 0, time.UTC)

// authority is one of clients, with what it issues.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// newAuthority is one that signed itself, valid for ten days around noon.
func newAuthority(t testing.TB, name string) *authority {
	a := &authority{t: t, key: newKey(t), next: 100}
	template := caTemplate(name, 1)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func caTemplate(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon.Add(-240 * time.Hour), NotAfter: noon.Add(240 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// under is an authority that this one stands for.
func (a *authority) under(name string) *authority {
	b := &authority{t: a.t, key: newKey(a.t), next: 100}
	b.cert = a.sign(caTemplate(name, a.serial()), b.key)
	return b
}

func (a *authority) serial() int64 {
	a.next++
	return a.next
}

func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return c
}

// issue makes a client's or a server's certificate that is good for a day.
func (a *authority) issue(name string, use x509.ExtKeyUsage) (certificate *x509.Certificate, key *ecdsa.PrivateKey) {
	key = newKey(a.t)
	uri, err := url.Parse("spiffe://test/" + name)
	require.NoError(a.t, err)
	return a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.serial()), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, URIs: []*url.URL{uri},
	}, key), key
}

func (a *authority) client(name string) *x509.Certificate {
	c, _ := a.issue(name, x509.ExtKeyUsageClientAuth)
	return c
}

// list is a list of revoked certificates, made at noon and good for two hours, but for what change says.
func (a *authority) list(number int64, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: noon, NextUpdate: noon.Add(2 * time.Hour)}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: noon})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	require.NoError(a.t, err)
	return encode("X509 CRL", der)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func certificates(all ...*x509.Certificate) (text []byte) {
	for _, c := range all {
		text = append(text, encode("CERTIFICATE", c.Raw)...)
	}
	return text
}

func privateKey(t testing.TB, key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return encode("PRIVATE KEY", der)
}

// desk is a folder of files, the peers that read them, and a clock that stands still.
type desk struct {
	t     testing.TB
	files Files
	root  *authority
	peers *Peers

	mu     sync.Mutex // guards what follows
	now    time.Time
	alarms []audit.Event
}

// newDesk writes good files: a server's certificate, one authority, and its list of nothing with the number 1.
func newDesk(t testing.TB) *desk {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	d := &desk{t: t, now: noon, root: newAuthority(t, "root"), files: Files{
		Certificate: at("server.crt"), Key: at("server.key"), ClientCA: at("ca.crt"), CRL: at("ca.crl"),
	}}
	d.renew()
	d.write(d.files.ClientCA, certificates(d.root.cert))
	d.write(d.files.CRL, d.root.list(1, nil))
	return d
}

// renew writes a new certificate and key of the server.
func (d *desk) renew() *x509.Certificate {
	c, key := d.root.issue("server", x509.ExtKeyUsageServerAuth)
	d.write(d.files.Certificate, certificates(c))
	d.write(d.files.Key, privateKey(d.t, key))
	return c
}

func (d *desk) write(path string, content []byte) {
	require.NoError(d.t, os.WriteFile(path, content, 0o600))
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) wait(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *desk) open() error {
	p, err := Open(Config{Files: d.files, Log: slog.New(slog.DiscardHandler), Now: d.clock, Alarm: func(e audit.Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.alarms = append(d.alarms, e)
	}})
	d.peers = p
	return err
}

// alarmed are the alarms since it was asked last.
func (d *desk) alarmed() (alarms []audit.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	alarms, d.alarms = d.alarms, nil
	return alarms
}

// judge is what Clients.Judge says of a chain now: nil or its reason.
func (d *desk) judge(presented ...*x509.Certificate) Reason {
	_, err := d.peers.current.Load().clients.Judge(presented, d.clock())
	if err == nil {
		return ""
	}
	var refused *Refused
	require.ErrorAs(d.t, err, &refused)
	return refused.Reason
}
