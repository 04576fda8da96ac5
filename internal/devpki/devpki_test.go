package devpki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// leaf reads a certificate with its key: the two belong together.
func leaf(t *testing.T, certificate, key []byte, err error) *x509.Certificate {
	t.Helper()
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	return pair.Leaf
}

func verify(t *testing.T, authority []byte, c *x509.Certificate, at time.Time, use x509.ExtKeyUsage) error {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(authority))
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// A certificate is good for its own use, from an hour before now to its end, under its own authority.
func TestCertificates(t *testing.T) {
	a, err := NewAuthority(day)
	require.NoError(t, err)
	other, err := NewAuthority(day)
	require.NoError(t, err)
	certificate, key, err := a.Server()
	server := leaf(t, certificate, key, err)
	certificate, key, err = a.Client(Identity("platform"), day.Add(time.Hour))
	client := leaf(t, certificate, key, err)
	assert.NotEqual(t, server.SerialNumber, client.SerialNumber)
	assert.Empty(t, client.DNSNames)
	require.Len(t, client.URIs, 1)
	assert.Equal(t, "spiffe://pursekeeper.dev/platform", client.URIs[0].String())
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		assert.NoError(t, server.VerifyHostname(host))
	}
	for _, c := range []struct {
		name string
		cert *x509.Certificate
		at   time.Time
		use  x509.ExtKeyUsage
		good bool
	}{
		{"server", server, day, x509.ExtKeyUsageServerAuth, true},
		{"server at its end", server, day.Add(Life - time.Second), x509.ExtKeyUsageServerAuth, true},
		{"server after its end", server, day.Add(Life + time.Second), x509.ExtKeyUsageServerAuth, false},
		{"server as client", server, day, x509.ExtKeyUsageClientAuth, false},
		{"client", client, day, x509.ExtKeyUsageClientAuth, true},
		{"client half an hour ago", client, day.Add(-30 * time.Minute), x509.ExtKeyUsageClientAuth, true},
		{"client before the authority", client, day.Add(-2 * time.Hour), x509.ExtKeyUsageClientAuth, false},
		{"client after its end", client, day.Add(2 * time.Hour), x509.ExtKeyUsageClientAuth, false},
		{"client as server", client, day, x509.ExtKeyUsageServerAuth, false},
	} {
		err := verify(t, a.Certificate(), c.cert, c.at, c.use)
		assert.Equal(t, c.good, err == nil, "%s: %v", c.name, err)
		require.Error(t, verify(t, other.Certificate(), c.cert, c.at, c.use), c.name)
	}
	_, _, err = a.Client("spiffe://a b", day)
	require.ErrorContains(t, err, "identity: ")
}

// A client's certificate issues nothing.
func TestLeavesAreNoAuthorities(t *testing.T) {
	a, err := NewAuthority(day)
	require.NoError(t, err)
	certificate, key, err := a.Client(Identity("x"), day.Add(time.Hour))
	c := leaf(t, certificate, key, err)
	assert.False(t, c.IsCA)
	assert.Equal(t, x509.KeyUsageDigitalSignature, c.KeyUsage)
	assert.True(t, a.certificate.MaxPathLenZero)
}

// contents is every file of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := map[string]string{}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		all[f.Name()] = string(content)
		info, err := f.Info()
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, info.Mode().Perm(), f.Name())
	}
	return all
}

// fits asks that a folder is whole: every pair verifies under its ca.crt.
func fits(t *testing.T, dir string, at time.Time, roles ...string) map[string]string {
	t.Helper()
	all := contents(t, dir)
	require.Len(t, all, 3+2*len(roles))
	for _, name := range append([]string{"server"}, roles...) {
		use := x509.ExtKeyUsageClientAuth
		if name == "server" {
			use = x509.ExtKeyUsageServerAuth
		}
		c := leaf(t, []byte(all[name+".crt"]), []byte(all[name+".key"]), nil)
		require.NoError(t, verify(t, []byte(all["ca.crt"]), c, at, use), name)
	}
	return all
}

func TestFolderIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "tls")
	require.NoError(t, WriteFolder(dir, day, "platform", "officer"))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.EqualValues(t, 0o700, info.Mode().Perm())
	first := fits(t, dir, day, "platform", "officer")
	for _, at := range []time.Time{day, day.Add(time.Hour), day.Add(Life - 25*time.Hour)} {
		require.NoError(t, WriteFolder(dir, at, "platform", "officer"))
		require.Equal(t, first, contents(t, dir))
	}
}

// What is out of date, damaged, cut short or without a role is made anew, whole, whatever the modes of the old files.
func TestFolderIsMadeAnew(t *testing.T) {
	for name, c := range map[string]struct {
		at     time.Time
		damage func(t *testing.T, dir string)
	}{
		"a day before its end": {day.Add(Life - 23*time.Hour), func(*testing.T, string) {}},
		"after its end":        {day.Add(2 * Life), func(*testing.T, string) {}},
		"no role":              {day, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "platform.crt"))) }},
		"no key":               {day, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "server.key"))) }},
		"no authority":         {day, func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "ca.crt"))) }},
		"empty authority":      {day, func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "ca.crt"), 0)) }},
		"no certificate": {day, func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600))
		}},
		"other modes": {day.Add(Life), func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(filepath.Join(dir, "server.key"), 0o400))
			require.NoError(t, os.Chmod(filepath.Join(dir, "platform.key"), 0o644))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tls")
			require.NoError(t, WriteFolder(dir, day, "platform"))
			first := fits(t, dir, day, "platform")
			c.damage(t, dir)
			require.NoError(t, WriteFolder(dir, c.at, "platform"))
			second := fits(t, dir, c.at, "platform")
			for file := range first {
				assert.NotEqual(t, first[file], second[file], file)
			}
		})
	}
}

// A making that fails half-way leaves no authority behind, so that the next one starts anew.
func TestFolderCutShort(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, WriteFolder(dir, day, "platform"))
	obstacle := filepath.Join(dir, "officer.key", "x")
	require.NoError(t, os.MkdirAll(obstacle, 0o700))
	require.Error(t, WriteFolder(dir, day, "platform", "officer"))
	require.NoFileExists(t, filepath.Join(dir, "ca.crt"))
	require.NoError(t, os.RemoveAll(filepath.Dir(obstacle)))
	require.NoError(t, WriteFolder(dir, day, "platform", "officer"))
	fits(t, dir, day, "platform", "officer")

	require.Error(t, WriteFolder(filepath.Join(dir, "ca.crt", "x"), day), "a file is in the way")
}
