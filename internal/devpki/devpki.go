// Package devpki makes the certificates of a development signer: an authority, the server's certificate, and one client
// certificate a role. Its keys are files without a passphrase; production has an authority of its own.
package devpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Life is how long the certificates are valid: long enough for a project, too short for a product.
const Life = 90 * 24 * time.Hour

// Identity is the SPIFFE name of a role's client certificate.
func Identity(role string) string { return "spiffe://pursekeeper.dev/" + role }

// Authority signs development certificates.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	now         time.Time
}

// NewAuthority makes an authority that is valid from an hour before now, for Life.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key, now: now}
	template, err := a.template("Pursekeeper development authority", now.Add(Life))
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a.certificate, err = x509.ParseCertificate(der)
	return a, err
}

func (a *Authority) template(name string, until time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: until.Add(-Life - time.Hour), NotAfter: until,
	}, nil
}

// Certificate returns the authority's certificate, PEM.
func (a *Authority) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Client issues the client certificate of an identity, valid until the given time; PEM certificate and key.
func (a *Authority) Client(identity string, until time.Time) (certificate, key []byte, err error) {
	uri, err := url.Parse(identity)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	template, err := a.template(filepath.Base(identity), until)
	if err != nil {
		return nil, nil, err
	}
	template.URIs = []*url.URL{uri}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// Server issues the certificate of a listener on this machine.
func (a *Authority) Server() (certificate, key []byte, err error) {
	template, err := a.template("localhost", a.now.Add(Life))
	if err != nil {
		return nil, nil, err
	}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return a.issue(template)
}

// Revoked makes the authority's list of revoked certificates, PEM: of these certificates, PEM too. The number must grow from list to list;
// the next one is due at the given time.
func (a *Authority) Revoked(number int64, next time.Time, certificates ...[]byte) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: next}
	for _, text := range certificates {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, errors.New("revoke: expected a certificate in PEM")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("revoke: %w", err)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: certificate.SerialNumber, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

func (a *Authority) issue(template *x509.Certificate) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// WriteFolder makes dir with ca.crt, server.{crt,key} and one {role}.{crt,key} for each role; the authority's own key is not
// written, so that nobody issues with it later. A folder that has them, valid for a day more, is left as it is; one that is
// out of date is made anew. ca.crt goes first and is written last: a folder whose making was cut short has none, and so is made
// anew as well.
func WriteFolder(dir string, now time.Time, roles ...string) error {
	if current(dir, now, roles) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authority, err := NewAuthority(now)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if files["server.crt"], files["server.key"], err = authority.Server(); err != nil {
		return err
	}
	for _, role := range roles {
		certificate, key, err := authority.Client(Identity(role), now.Add(Life))
		if err != nil {
			return err
		}
		files[role+".crt"], files[role+".key"] = certificate, key
	}
	if err := remove(filepath.Join(dir, "ca.crt")); err != nil {
		return err
	}
	for name, content := range files {
		if err := replace(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return replace(filepath.Join(dir, "ca.crt"), authority.Certificate())
}

// replace writes a new file, readable by its owner alone whatever the mode of the one that was there.
func replace(path string, content []byte) error {
	if err := remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// current reports whether every file is there and the authority's certificate is good for a day more.
func current(dir string, now time.Time, roles []string) bool {
	for _, role := range append([]string{"server"}, roles...) {
		for _, suffix := range []string{".crt", ".key"} {
			if _, err := os.Stat(filepath.Join(dir, role+suffix)); errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
	}
	content, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return false
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	return err == nil && now.Add(24*time.Hour).Before(ca.NotAfter)
}
