package source

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/internal/source/vaulttest"
)

// wrapAndUnwrap is the policy of a program that does both; it may not make keys.
const wrapAndUnwrap = `path "transit/keys/*" { capabilities = ["read"] }
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }`

// newTransitVault is a Vault with a key "backup" and what it takes to name one of its keys.
func newTransitVault(t *testing.T) (v *vaulttest.Server, transit func(key string, change ...func(*TransitSpec)) *Transit) {
	t.Helper()
	v = vaulttest.New(t)
	v.Policy("backup", wrapAndUnwrap)
	v.Write("transit/keys/backup", nil)
	path := credentialFile(t, v.Token(time.Hour, true, "backup"))
	return v, func(key string, change ...func(*TransitSpec)) *Transit {
		t.Helper()
		spec := TransitSpec{ServerSpec: ServerSpec{Address: v.Address, CAFile: v.CAFile, Token: &CredentialSpec{File: path}}, Key: key}
		for _, c := range change {
			c(&spec)
		}
		k, err := NewTransit(spec, "")
		require.NoError(t, err)
		return k
	}
}

func wrap(t *testing.T, k *Transit, key []byte, binding string) string {
	t.Helper()
	text, err := k.Wrap(t.Context(), secret.Copy(key), []byte(binding))
	require.NoError(t, err)
	return text
}

func unwrap(t *testing.T, k *Transit, text, binding string, want []byte) {
	t.Helper()
	got, err := k.Unwrap(t.Context(), text, []byte(binding))
	require.NoError(t, err)
	defer got.Wipe()
	assert.Equal(t, want, got.Reveal("to compare in a test"))
}

func versionOf(t *testing.T, text string) int {
	t.Helper()
	version, err := KeyVersion(text)
	require.NoError(t, err)
	return version
}

func TestTransit(t *testing.T) {
	v, transit := newTransitVault(t)
	v.Write("transit/keys/derived", map[string]any{"derived": true})
	v.Write("transit/keys/chacha", map[string]any{"type": "chacha20-poly1305"})
	for _, name := range []string{"backup", "derived", "chacha"} {
		t.Run(name, func(t *testing.T) {
			k := transit(name)
			for _, size := range []int{1, 16, 32, 4096} {
				key := bytes.Repeat([]byte{0xA5}, size)
				first, second := wrap(t, k, key, "backup 7"), wrap(t, k, key, "backup 7")
				assert.NotEqual(t, first, second, "equal keys do not show")
				unwrap(t, k, first, "backup 7", key)
				unwrap(t, k, second, "backup 7", key)
			}
			_, err := k.Unwrap(t.Context(), wrap(t, k, []byte{1}, "backup 7"), []byte("backup 8"))
			require.ErrorIs(t, err, ErrForeign)
		})
	}
}

// A key goes on unwrapping what its older versions wrapped, until Vault is told to refuse them.
func TestTransitKeyIsRotated(t *testing.T) {
	v, transit := newTransitVault(t)
	k := transit("backup")
	old := wrap(t, k, []byte("key 1"), "b")
	assert.Equal(t, 1, versionOf(t, old))
	v.Write("transit/keys/backup/rotate", nil)
	text := wrap(t, k, []byte("key 2"), "b")
	assert.Equal(t, 2, versionOf(t, text))
	unwrap(t, k, old, "b", []byte("key 1"))
	unwrap(t, k, text, "b", []byte("key 2"))
	v.Write("transit/keys/backup/config", map[string]any{"min_decryption_version": 2})
	_, err := k.Unwrap(t.Context(), old, []byte("b"))
	require.ErrorIs(t, err, ErrRetired)
	unwrap(t, k, text, "b", []byte("key 2"))
}

func TestTransitUnwrapRefuses(t *testing.T) {
	v, transit := newTransitVault(t)
	v.Write("transit/keys/other", nil)
	k := transit("backup")
	good := wrap(t, k, []byte("a key of ours"), "b")
	flipped := []byte(good)
	flipped[20] ^= 1
	tests := []struct{ name, text, binding string }{
		{"another key's", wrap(t, transit("other"), []byte("a key"), "b"), "b"},
		{"another binding", good, "c"},
		{"no binding", good, ""},
		{"a flipped bit", string(flipped), "b"},
		{"a version to come", strings.Replace(good, ":v1:", ":v2:", 1), "b"},
		{"a version with a zero before it", strings.Replace(good, ":v1:", ":v01:", 1), "b"},
		{"no version", strings.Replace(good, ":v1:", "::", 1), "b"},
		{"cut short", good[:len("vault:v1:")+28], "b"},
		{"more after it", good + "AAAA", "b"},
		{"a line end", good + "\n", "b"},
		{"nothing", "", "b"},
		{"no base64", "vault:v1:A", "b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := k.Unwrap(t.Context(), test.text, []byte(test.binding))
			require.ErrorIs(t, err, ErrForeign)
		})
	}
	unwrap(t, k, good, "b", []byte("a key of ours"))
}

func TestTransitWrapRefusesAnUnfitKey(t *testing.T) {
	v, transit := newTransitVault(t)
	tests := []struct {
		name             string
		settings, config map[string]any
		says             string
	}{
		{"signs", map[string]any{"type": "ed25519"}, nil, "type"},
		{"rsa", map[string]any{"type": "rsa-2048"}, nil, "type"},
		{"exportable", map[string]any{"exportable": true}, nil, "exportable"},
		{"plaintext", map[string]any{"allow_plaintext_backup": true}, nil, "allow_plaintext_backup"},
		{"deletable", nil, map[string]any{"deletion_allowed": true}, "deletion_allowed"},
		{"convergent", map[string]any{"derived": true, "convergent_encryption": true}, nil, "convergent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v.Write("transit/keys/"+test.name, test.settings)
			if test.config != nil {
				v.Write("transit/keys/"+test.name+"/config", test.config)
			}
			_, err := transit(test.name).Wrap(t.Context(), secret.Copy([]byte("key")), []byte("b"))
			require.ErrorIs(t, err, ErrUnsafeKey)
			require.ErrorContains(t, err, test.says)
		})
	}
}

// The engine would make a key of a mistyped name for root, and say nothing.
func TestTransitMakesNoKey(t *testing.T) {
	v, transit := newTransitVault(t)
	asRoot := func(s *TransitSpec) { s.Token.File = credentialFile(t, v.Root()) }
	for range 2 {
		_, err := transit("bakcup", asRoot).Wrap(t.Context(), secret.Copy([]byte("key")), []byte("b"))
		require.ErrorIs(t, err, ErrMissing)
	}
	_, err := transit("bakcup", asRoot).Unwrap(t.Context(), "vault:v1:"+strings.Repeat("A", 64), []byte("b"))
	require.ErrorIs(t, err, ErrMissing)
}

func TestTransitGoesWrong(t *testing.T) {
	v, transit := newTransitVault(t)
	k := transit("backup")
	good := wrap(t, k, []byte("key"), "b")
	both := func(k *Transit, is error) {
		t.Helper()
		_, err := k.Wrap(t.Context(), secret.Copy([]byte("a key")), []byte("b"))
		require.ErrorIs(t, err, is)
		assert.NotContains(t, err.Error(), "YSBrZXk") // base64 of it
		_, err = k.Unwrap(t.Context(), good, []byte("b"))
		require.ErrorIs(t, err, is)
	}
	both(transit("backup", func(s *TransitSpec) { s.Mount = "none" }), ErrDenied)
	both(transit("backup", func(s *TransitSpec) { s.Token.File = credentialFile(t, v.Token(time.Hour, true, "default")) }), ErrDenied)
	_, err := k.Wrap(t.Context(), secret.Bytes{}, []byte("b"))
	require.ErrorContains(t, err, "empty")
	_, err = k.Wrap(t.Context(), secret.Copy([]byte("key")), nil)
	require.ErrorContains(t, err, "empty")

	v.Write("sys/quotas/rate-limit/transit", map[string]any{"path": "transit/", "rate": 1, "interval": "1h"})
	_, err = k.Unwrap(t.Context(), good, []byte("b")) // the one
	require.ErrorIs(t, err, ErrRateLimited)
	both(k, ErrRateLimited)
	v.Delete("sys/quotas/rate-limit/transit")
	v.Seal()
	both(k, ErrSealed)
	v.Stop()
	both(k, ErrAway)
}

// A Vault before 1.13 takes no associated data, and does not say so.
func TestTransitWithAVaultThatDoesNotBind(t *testing.T) {
	server := newVaultServer(t)
	server.kv["/v1/transit/keys/backup"] = map[string]any{"type": "aes256-gcm96", "latest_version": 1, "min_decryption_version": 1}
	k, err := NewTransit(TransitSpec{ServerSpec: server.spec(t).Vault.ServerSpec, Key: "backup"}, "")
	require.NoError(t, err)
	for _, version := range []string{"1.12.6", "1.9.0+ent", "", "new"} {
		server.set(func() { server.version = version })
		_, err := k.Wrap(t.Context(), secret.Copy([]byte("key")), []byte("b"))
		require.ErrorIs(t, err, ErrUnusable)
		require.ErrorContains(t, err, "would bind nothing", version)
	}
	for _, version := range []string{"1.13.0", "1.21.4+ent", "2.4.1"} {
		server.set(func() { server.version = version })
		_, err := k.Wrap(t.Context(), secret.Copy([]byte("key")), []byte("b"))
		require.ErrorContains(t, err, "no ciphertext under version 1", version)
	}
}

func TestNewTransitNamesEveryProblem(t *testing.T) {
	_, err := NewTransit(TransitSpec{}, "")
	for _, part := range []string{"address: write", "token and appRole", "key: \"\""} {
		require.ErrorContains(t, err, part)
	}
	good := ServerSpec{Address: "https://vault:8200", Token: &CredentialSpec{File: "token"}}
	for _, key := range []string{"a/b", "..", ".", "-a", "a b", "a%2fb", ""} {
		_, err := NewTransit(TransitSpec{ServerSpec: good, Key: key}, "")
		require.ErrorContains(t, err, "key:", key)
	}
	_, err = NewTransit(TransitSpec{ServerSpec: good, Key: "backup", Mount: "a//b"}, "")
	require.ErrorContains(t, err, "mount:")
}
