package custody

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// keygen runs the real ssh-keygen, with input, and returns what it wrote.
func keygen(t testing.TB, input []byte, arguments ...string) ([]byte, error) {
	t.Helper()
	c := exec.Command("ssh-keygen", arguments...)
	c.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Logf("ssh-keygen %v: %s", arguments, stderr.Bytes())
	}
	return out, err
}

// sshKey is a key pair that ssh-keygen made.
type sshKey struct {
	path string // of the private key
	text string
}

func newSSHKey(t testing.TB, arguments ...string) sshKey {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	_, err := keygen(t, nil, append([]string{"-q", "-N", "", "-C", "a comment", "-f", path}, arguments...)...)
	require.NoError(t, err)
	public, err := os.ReadFile(path + ".pub")
	require.NoError(t, err)
	fields := strings.Fields(string(public))
	return sshKey{path, fields[0] + " " + fields[1]}
}

func (k sshKey) sign(t testing.TB, body []byte, options ...string) []byte {
	t.Helper()
	signature, err := keygen(t, body, append([]string{"-Y", "sign", "-n", Namespace, "-f", k.path}, options...)...)
	require.NoError(t, err)
	return signature
}

// verifiedByKeygen reports whether ssh-keygen alone takes the signature.
func verifiedByKeygen(t testing.TB, body []byte, key string, signature []byte) error {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "allowed"), []byte("bob namespaces=\""+Namespace+"\" "+key+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "sig"), signature, 0o600))
	_, err := keygen(t, body, "-Y", "verify", "-n", Namespace, "-I", "bob", "-f", filepath.Join(folder, "allowed"), "-s", filepath.Join(folder, "sig"))
	return err
}

// Every kind of key that an officer may have: what ssh-keygen signs verifies here, and what is kept of it verifies there.
func TestApprovalsBySSHKeygen(t *testing.T) {
	body := []byte(`{"pursekeeper-change":"v1"}`)
	for name, arguments := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa 256": {"-t", "ecdsa", "-b", "256"}, "ecdsa 384": {"-t", "ecdsa", "-b", "384"},
		"ecdsa 521": {"-t", "ecdsa", "-b", "521"}, "rsa 2048": {"-t", "rsa", "-b", "2048"}, "rsa 4096": {"-t", "rsa", "-b", "4096"},
	} {
		t.Run(name, func(t *testing.T) {
			key := newSSHKey(t, arguments...)
			for _, options := range [][]string{nil, {"-O", "hashalg=sha256"}} {
				signature := key.sign(t, body, options...)
				kept, err := VerifyApproval(body, key.text, signature)
				require.NoError(t, err)
				require.NoError(t, verifiedByKeygen(t, body, key.text, kept))
				again, err := VerifyApproval(body, key.text, kept)
				require.NoError(t, err)
				assert.Equal(t, kept, again, "one signature has one text")
				_, err = VerifyApproval(append(bytes.Clone(body), '\n'), key.text, signature)
				require.ErrorIs(t, err, ErrSignature)
				require.Error(t, verifiedByKeygen(t, append(bytes.Clone(body), '\n'), key.text, kept))
			}
		})
	}
}

func TestKeysThatNoOfficerHas(t *testing.T) {
	for name, arguments := range map[string][]string{"rsa 1024": {"-t", "rsa", "-b", "1024"}, "dsa": {"-t", "dsa"}} {
		_, err := ParseOfficerKey(newSSHKey(t, arguments...).text)
		assert.Error(t, err, name)
	}
	ca, key := newSSHKey(t, "-t", "ed25519"), newSSHKey(t, "-t", "ed25519")
	_, err := keygen(t, nil, "-q", "-s", ca.path, "-I", "bob", "-n", "bob", key.path+".pub")
	require.NoError(t, err)
	certificate, err := os.ReadFile(key.path + "-cert.pub")
	require.NoError(t, err)
	_, err = ReadPublicKey(certificate)
	assert.ErrorContains(t, err, "type", "a certificate is good for whom its CA says")
	public, err := os.ReadFile(key.path + ".pub")
	require.NoError(t, err)
	text, err := ReadPublicKey(public)
	require.NoError(t, err)
	assert.Equal(t, key.text, text)
	_, err = ReadPublicKey(append(public, public...))
	assert.ErrorContains(t, err, "one key")
	_, err = ReadPublicKey(append([]byte("cert-authority "), public...))
	assert.ErrorContains(t, err, "without options")
}

// What is not exactly one signature over these bytes, in this namespace, by this key, is none.
func TestSignaturesThatAreNone(t *testing.T) {
	body := []byte("body")
	key, other := newSSHKey(t, "-t", "ed25519"), newSSHKey(t, "-t", "ed25519")
	right := key.sign(t, body)
	elsewhere, err := keygen(t, body, "-Y", "sign", "-n", "file", "-f", key.path)
	require.NoError(t, err)
	flipped := bytes.Replace(right, []byte("AAAA"), []byte("AAAB"), 1)
	for name, signature := range map[string][]byte{
		"another key's":         other.sign(t, body),
		"in another namespace":  elsewhere,
		"with a bit flipped":    flipped,
		"with text before":      append([]byte("hello\n"), right...),
		"with text after":       append(bytes.Clone(right), "hello"...),
		"twice":                 append(bytes.Clone(right), right...),
		"with a header":         bytes.Replace(right, []byte("SIGNATURE-----\n"), []byte("SIGNATURE-----\na: b\n\n"), 1),
		"of another block":      bytes.ReplaceAll(right, []byte("SSH SIGNATURE"), []byte("PGP SIGNATURE")),
		"nothing":               nil,
		"very long":             bytes.Repeat([]byte("A"), maxSignature+1),
		"cut":                   right[:len(right)/2],
		"of a hash that is odd": withHash(t, key, body),
		"with more in it":       withReserved(t, key, body),
	} {
		_, err := VerifyApproval(body, key.text, signature)
		assert.ErrorIs(t, err, ErrSignature, name)
	}
	_, err = VerifyApproval(body, key.text+" comment", right)
	assert.ErrorIs(t, err, ErrSignature)
	_, err = VerifyApproval(body, key.text, right)
	require.NoError(t, err)
}

// withHash is a signature that says it is over another hash than it is.
func withHash(t testing.TB, key sshKey, body []byte) []byte {
	signature, err := sshsig.Unarmor(key.sign(t, body))
	require.NoError(t, err)
	signature.HashAlgorithm = sshsig.HashSHA256
	return sshsig.Armor(signature)
}

// withReserved is a right signature whose reserved field says something: verified by the library, and another text of the same.
func withReserved(t testing.TB, key sshKey, body []byte) []byte {
	block, _ := pem.Decode(key.sign(t, body))
	require.NotNil(t, block)
	var blob struct {
		Magic                                           [6]byte
		Version                                         uint32
		PublicKey, Namespace, Reserved, Hash, Signature string
	}
	require.NoError(t, ssh.Unmarshal(block.Bytes, &blob))
	blob.Reserved = "more"
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: ssh.Marshal(blob)})
}

// testOnlySecurityKey signs as a FIDO key does (PROTOCOL.u2f of OpenSSH): over the application's hash, flags and a counter.
type testOnlySecurityKey struct {
	key   any // ed25519.PrivateKey or *ecdsa.PrivateKey
	flags byte
}

const application = "ssh:"

func (k testOnlySecurityKey) PublicKey() ssh.PublicKey {
	var blob []byte
	switch key := k.key.(type) {
	case ed25519.PrivateKey:
		blob = ssh.Marshal(struct {
			Name        string
			Key         []byte
			Application string
		}{ssh.KeyAlgoSKED25519, key.Public().(ed25519.PublicKey), application})
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		blob = ssh.Marshal(struct {
			Name, Curve string
			Point       []byte
			Application string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point, application})
	}
	public, err := ssh.ParsePublicKey(blob)
	if err != nil {
		panic(err)
	}
	return public
}

func (k testOnlySecurityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{k.flags}, 7)
	signed := append(append(bytes.Clone(app[:]), rest...), message[:]...)
	signature := &ssh.Signature{Format: k.PublicKey().Type(), Rest: rest}
	switch key := k.key.(type) {
	case ed25519.PrivateKey:
		signature.Blob = ed25519.Sign(key, signed)
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		signature.Blob = ssh.Marshal(struct{ R, S *big.Int }{r, s})
	}
	return signature, nil
}

// A security key's signature counts when its owner touched it; ssh-keygen takes what this takes.
func TestSecurityKeys(t *testing.T) {
	body := []byte("body")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]any{"sk-ssh-ed25519": ed, "sk-ecdsa": ec} {
		t.Run(name, func(t *testing.T) {
			sign := func(flags byte) (text string, armoured []byte) {
				k := testOnlySecurityKey{key, flags}
				signature, err := sshsig.Sign(bytes.NewReader(body), k, sshsig.HashSHA512, Namespace)
				require.NoError(t, err)
				return OfficerKeyText(k.PublicKey()), sshsig.Armor(signature)
			}
			text, touched := sign(1)
			kept, err := VerifyApproval(body, text, touched)
			require.NoError(t, err)
			require.NoError(t, verifiedByKeygen(t, body, text, kept))
			_, untouched := sign(0)
			_, err = VerifyApproval(body, text, untouched)
			require.ErrorIs(t, err, ErrSignature)
			_, err = VerifyApproval([]byte("other"), text, touched)
			require.ErrorIs(t, err, ErrSignature)
		})
	}
}
