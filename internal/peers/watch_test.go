package peers

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pursekeeper/pursekeeper/audit"
)

// What cannot be used ends a start, with the file and what was expected; later it leaves what is in use as it is, and alarms once.
func TestFilesThatAreRefused(t *testing.T) {
	extension := func(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
		}
	}
	encoded := func(value any) []byte {
		der, err := asn1.Marshal(value)
		require.NoError(t, err)
		return der
	}
	for name, c := range map[string]struct {
		change func(d *desk)
		says   string
	}{
		"no certificate":        {func(d *desk) { require.NoError(t, os.Remove(d.files.Certificate)) }, "tls.certificate: open "},
		"no key":                {func(d *desk) { require.NoError(t, os.Remove(d.files.Key)) }, "tls.key: open "},
		"an empty key":          {func(d *desk) { d.write(d.files.Key, nil) }, "tls: certificate and key: "},
		"key of another":        {func(d *desk) { d.write(d.files.Key, privateKey(t, newKey(t))) }, "tls: certificate and key: "},
		"key for all":           {func(d *desk) { require.NoError(t, os.Chmod(d.files.Key, 0o640)) }, "has mode 0640: readable by others"},
		"half a certificate":    {func(d *desk) { halve(d, d.files.Certificate) }, "was not written to its end"},
		"expired":               {func(d *desk) { d.wait(25 * time.Hour) }, "server.crt expired at 2024-02-01T12:00:00Z"},
		"of a time to come too": {func(d *desk) { later(d) }, "server.crt is good from 2024-02-01T12:00:00Z on, and not yet"},
		"no authority":          {func(d *desk) { d.write(d.files.ClientCA, []byte("none\n")) }, "ca.crt holds no certificate in PEM"},
		"authority cut off":     {func(d *desk) { cutSecond(d, d.files.ClientCA, certificates(newAuthority(t, "other").cert)) }, "not written to its end"},
		"key among authorities": {func(d *desk) { d.write(d.files.ClientCA, privateKey(t, newKey(t))) }, `holds a "PRIVATE KEY", expected certificate in PEM`},
		"a pipe": {func(d *desk) {
			require.NoError(t, errors.Join(os.Remove(d.files.CRL), unix.Mkfifo(d.files.CRL, 0o600)))
		}, "ca.crl: expected a regular file"},
		"half a list":           {func(d *desk) { halve(d, d.files.CRL) }, "was not written to its end"},
		"second list cut off":   {func(d *desk) { cutSecond(d, d.files.CRL, newAuthority(t, "other").list(1, nil)) }, "was not written to its end"},
		"half a list in DER":    {func(d *desk) { b, _ := pem.Decode(d.root.list(1, nil)); d.write(d.files.CRL, b.Bytes[:100]) }, "ca.crl list 1: "},
		"an empty list":         {func(d *desk) { d.write(d.files.CRL, nil) }, "ca.crl holds no list of revoked certificates in PEM"},
		"wrong signer":          {func(d *desk) { d.write(d.files.CRL, newAuthority(t, "root").list(9, nil)) }, "was not signed by that authority"},
		"list of nobody":        {func(d *desk) { d.write(d.files.CRL, newAuthority(t, "other").list(9, nil)) }, `holds no list of the authority "CN=root"`},
		"authority without one": {func(d *desk) { d.write(d.files.ClientCA, certificates(d.root.cert, newAuthority(t, "other").cert)) }, `no list of the authority "CN=other"`},
		"two lists":             {func(d *desk) { d.write(d.files.CRL, slices.Concat(d.root.list(8, nil), d.root.list(9, nil))) }, "two lists"},
		"delta list": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, extension(deltaIndicator, true, encoded(1))))
		}, "is a delta list"},
		"indirect list": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, extension(distributionPoint, true, encoded(issuingDistributionPoint{Indirect: true}))))
		}, "is an indirect list"},
		"list of a part": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, extension(distributionPoint, true, encoded(issuingDistributionPoint{User: true}))))
		}, "is for one distribution point"},
		"indirect by an entry": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, func(l *x509.RevocationList) {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: noon,
					ExtraExtensions: []pkix.Extension{{Id: certificateIssuer, Critical: true, Value: encoded(1)}}}}
			}))
		}, "is an indirect list"},
		"unknown extension": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, extension(asn1.ObjectIdentifier{1, 2, 3}, true, encoded(1))))
		}, "has a critical extension 1.2.3, which is not known"},
		"of a time to come": {func(d *desk) {
			d.write(d.files.CRL, d.root.list(9, func(l *x509.RevocationList) { l.ThisUpdate = noon.Add(6 * time.Minute) }))
		}, "is of a time to come"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			require.NoError(t, d.open())
			served, judged := d.peers.current.Load().tls.Certificates[0].Leaf, d.root.client("alice")
			c.change(d)
			if name != "expired" { // what is in use stays so
				d.peers.Look(false)
				assert.Empty(t, d.alarmed(), "it may be half written")
				d.peers.Look(false)
				d.peers.Look(false)
				d.peers.Look(true)
				assert.Equal(t, []audit.Event{audit.CertificatesRefused}, d.alarmed())
				server, clients := d.peers.Outdated()
				assert.NotEqual(t, server, clients, "one half alone")
				assert.EqualValues(t, 1, d.peers.Generation())
				assert.Equal(t, Reason(""), d.judge(judged), "what was in use still is")
				assert.Equal(t, served, d.peers.current.Load().tls.Certificates[0].Leaf)
			}

			err := d.open()
			var problem *Problem
			require.ErrorAs(t, err, &problem)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func halve(d *desk, path string) {
	content, err := os.ReadFile(path)
	require.NoError(d.t, err)
	d.write(path, content[:len(content)/2])
}

// later writes a certificate of the server that is good tomorrow.
func later(d *desk) {
	key := newKey(d.t)
	d.write(d.files.Key, privateKey(d.t, key))
	d.write(d.files.Certificate, certificates(d.root.sign(&x509.Certificate{
		SerialNumber: big.NewInt(d.root.serial()), NotBefore: noon.Add(24 * time.Hour), NotAfter: noon.Add(48 * time.Hour),
	}, key)))
}

// cutSecond adds half of something to a file that is whole.
func cutSecond(d *desk, path string, more []byte) {
	content, err := os.ReadFile(path)
	require.NoError(d.t, err)
	d.write(path, append(content, more[:len(more)/2]...))
}

// A list that is older than the one in use is refused, and another of its number; the same again, and a newer one, are not.
func TestListsDoNotGoBack(t *testing.T) {
	d := newDesk(t)
	bob := d.root.client("bob")
	d.write(d.files.CRL, d.root.list(7, nil, bob))
	require.NoError(t, d.open())
	for says, list := range map[string][]byte{
		"it went back":                           d.root.list(6, nil),
		"has the number 7 of the one in use":     d.root.list(7, nil),
		"is of 2024-01-31T11:00:00Z, and the on": d.root.list(8, func(l *x509.RevocationList) { l.ThisUpdate = noon.Add(-time.Hour) }),
	} {
		d.write(d.files.CRL, list)
		d.peers.Look(true)
		assert.Equal(t, []audit.Event{audit.CertificatesRefused}, d.alarmed(), says)
		assert.ErrorContains(t, d.peers.clients.err, says)
		assert.Equal(t, Revoked, d.judge(bob))
	}
	block, _ := pem.Decode(d.root.list(8, nil, bob))
	d.write(d.files.CRL, block.Bytes) // in DER
	d.peers.Look(true)
	assert.Empty(t, d.alarmed())
	assert.EqualValues(t, 2, d.peers.Generation())
}

// What is new is taken when it was found twice, whatever is written meanwhile; the certificate and the key of no moment are mixed.
func TestFilesAreTakenWhenTheyRest(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.open())
	old := d.peers.current.Load().server.leaf
	oldKey, err := os.ReadFile(d.files.Key)
	require.NoError(t, err)
	renewed := d.renew()
	newKey, err := os.ReadFile(d.files.Key)
	require.NoError(t, err)
	d.write(d.files.Key, oldKey) // as if it were written later
	d.peers.Look(false)
	d.write(d.files.Key, newKey[:50])
	d.peers.Look(false)
	assert.Equal(t, old, d.peers.current.Load().server.leaf)
	d.write(d.files.Key, newKey)
	d.peers.Look(false)
	assert.Equal(t, old, d.peers.current.Load().server.leaf)
	d.peers.Look(false)
	assert.Equal(t, renewed, d.peers.current.Load().server.leaf)
	assert.Empty(t, d.alarmed())
	d.peers.Look(false)
	assert.EqualValues(t, 2, d.peers.Generation(), "nothing is new")
}

// A folder behind a link is exchanged by another link, as container platforms do.
func TestFilesBehindALink(t *testing.T) {
	d := newDesk(t)
	dir := filepath.Dir(d.files.Certificate)
	mount := filepath.Join(t.TempDir(), "mount")
	require.NoError(t, os.Mkdir(mount, 0o700))
	require.NoError(t, os.CopyFS(filepath.Join(mount, "..1"), os.DirFS(dir)))
	require.NoError(t, os.Symlink("..1", filepath.Join(mount, "..data")))
	for _, path := range []*string{&d.files.Certificate, &d.files.Key, &d.files.ClientCA, &d.files.CRL} {
		name := filepath.Base(*path)
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)))
		*path = filepath.Join(mount, name)
	}
	require.NoError(t, os.Chmod(filepath.Join(mount, "..1", "server.key"), 0o400))
	require.NoError(t, d.open())

	alice := d.root.client("alice")
	next := filepath.Join(mount, "..2")
	require.NoError(t, os.CopyFS(next, os.DirFS(filepath.Join(mount, "..1"))))
	require.NoError(t, os.Remove(filepath.Join(next, "server.key")))
	c, key := d.root.issue("server", x509.ExtKeyUsageServerAuth)
	d.write(filepath.Join(next, "server.crt"), certificates(c))
	d.write(filepath.Join(next, "server.key"), privateKey(t, key))
	d.write(filepath.Join(next, "ca.crl"), d.root.list(2, nil, alice))
	require.NoError(t, os.Symlink("..2", filepath.Join(mount, "..new")))
	require.NoError(t, os.Rename(filepath.Join(mount, "..new"), filepath.Join(mount, "..data")))
	require.NoError(t, os.RemoveAll(filepath.Join(mount, "..1")))
	d.peers.Look(false)
	d.peers.Look(false)
	assert.Equal(t, c, d.peers.current.Load().server.leaf)
	assert.Equal(t, Revoked, d.judge(alice))
	assert.Empty(t, d.alarmed())
}

// An authority can be taken out before its list is.
func TestAnAuthorityIsTakenOut(t *testing.T) {
	d := newDesk(t)
	other := newAuthority(t, "other")
	d.write(d.files.ClientCA, certificates(d.root.cert, other.cert))
	d.write(d.files.CRL, slices.Concat(d.root.list(1, nil), other.list(1, nil)))
	require.NoError(t, d.open())
	bob := other.client("bob")
	assert.Equal(t, Reason(""), d.judge(bob))
	d.write(d.files.ClientCA, certificates(d.root.cert))
	d.peers.Look(true)
	assert.Empty(t, d.alarmed())
	assert.Equal(t, Untrusted, d.judge(bob))
	assert.Equal(t, Reason(""), d.judge(d.root.client("alice")))
}

// Without a list nothing is revoked, and the way up may have what no list is about.
func TestWithoutAList(t *testing.T) {
	d := newDesk(t)
	d.files.CRL = ""
	require.NoError(t, d.open())
	between := d.root.under("between")
	assert.Equal(t, Reason(""), d.judge(between.client("alice"), between.cert))
}

func TestExpiries(t *testing.T) {
	d := newDesk(t)
	d.write(d.files.Certificate, bytes.Join([][]byte{certificates(d.peersLeaf(), d.root.cert)}, nil))
	require.NoError(t, d.open())
	assert.Equal(t, []Expiry{
		{"server", "CN=server", noon.Add(24 * time.Hour)}, {"client-ca", "CN=root", noon.Add(240 * time.Hour)}, {"crl", "CN=root", noon.Add(2 * time.Hour)},
	}, d.peers.Expiries())
}

// peersLeaf is the server's certificate as it is on disk.
func (d *desk) peersLeaf() *x509.Certificate {
	content, err := os.ReadFile(d.files.Certificate)
	require.NoError(d.t, err)
	block, _ := pem.Decode(content)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(d.t, err)
	return c
}
