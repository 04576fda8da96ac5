package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// open makes the source of spec, whose relative names are in the test's own folder.
func open(t *testing.T, spec Spec, dir string) *Source {
	t.Helper()
	s, err := New(spec, dir)
	require.NoError(t, err)
	return s
}

// read asserts what s answers.
func read(t *testing.T, s *Source, want string) {
	t.Helper()
	value, err := s.Read(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, string(value.Reveal("to compare in a test")))
	value.Wipe()
}

func TestFile(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"as it is", "1234", "1234"},
		{"without one line end", "1234\n", "1234"},
		{"without a line end of two bytes", "1234\r\n", "1234"},
		{"with the second line end", "1234\n\n", "1234\n"},
		{"with spaces", " 12 34 ", " 12 34 "},
		{"with a lone return", "1234\r", "1234\r"},
		{"long", strings.Repeat("x", maxLen), strings.Repeat("x", maxLen)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "pin"), []byte(test.content), 0o600))
			read(t, open(t, Spec{File: "pin"}, dir), test.want)
			read(t, open(t, Spec{File: filepath.Join(dir, "pin")}, "/nowhere"), test.want)
		})
	}
}

func TestAFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	s := open(t, Spec{File: path}, "")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	read(t, s, "old")
	require.NoError(t, os.WriteFile(path, []byte("new"), 0o600))
	read(t, s, "new")
}

func TestAFileThatIsRefused(t *testing.T) {
	const pin = "4711-4711"
	put := func(mode os.FileMode, content string) func(string) error {
		return func(path string) error {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	tests := []struct {
		name string
		make func(path string) error
		is   error
		says string
	}{
		{"not there", func(string) error { return nil }, ErrMissing, "no such secret"},
		{"empty", put(0o600, ""), ErrMissing, "empty"},
		{"only a line end", put(0o600, "\n"), ErrMissing, "empty"},
		{"group may read", put(0o640, pin), ErrExposed, "mode 0640"},
		{"the world may read", put(0o604, pin), ErrExposed, "mode 0604"},
		{"group may write", put(0o620, pin), ErrExposed, "mode 0620"},
		{"too long", put(0o600, strings.Repeat(pin, maxLen)), nil, "more than any secret"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, nil, "not a regular file"},
		{"a pipe that nobody writes", func(path string) error { return unix.Mkfifo(path, 0o600) }, nil, "not a regular file"},
		{"a link to an exposed file", func(path string) error {
			if err := put(0o644, pin)(path + ".target"); err != nil {
				return err
			}
			return os.Symlink(path+".target", path)
		}, ErrExposed, "mode 0644"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pin")
			require.NoError(t, test.make(path))
			_, err := open(t, Spec{File: path}, "").Read(t.Context())
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, path)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			assert.NotContains(t, err.Error(), pin)
		})
	}
}

func TestAVariableIsTakenOutOfTheEnvironment(t *testing.T) {
	const name = "PURSEKEEPER_TEST_PIN"
	t.Setenv(name, "4711\n")
	s := open(t, Spec{Env: name}, "")
	read(t, s, "4711\n")
	_, still := os.LookupEnv(name)
	assert.False(t, still)
	read(t, s, "4711\n")

	_, err := open(t, Spec{Env: name}, "").Read(t.Context())
	require.ErrorIs(t, err, ErrMissing)
	require.ErrorContains(t, err, name)

	t.Setenv(name, "")
	_, err = open(t, Spec{Env: name}, "").Read(t.Context())
	require.ErrorIs(t, err, ErrMissing)
}

func TestKeepOfALocalSourceOnlyWaits(t *testing.T) {
	for _, spec := range []Spec{{File: "pin"}, {Env: "PIN"}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		open(t, spec, "").Keep(ctx, func(err error) { t.Error(err) })
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	good := func() *VaultSpec {
		return &VaultSpec{ServerSpec: ServerSpec{Address: "https://vault:8200", Token: &CredentialSpec{File: "token"}},
			Mount: "secret", Path: "hsm/pin", Field: "pin"}
	}
	vault := func(change func(*VaultSpec)) Spec {
		spec := good()
		change(spec)
		return Spec{Vault: spec}
	}
	tests := []struct {
		name string
		spec Spec
		says []string
	}{
		{"nothing", Spec{}, []string{"exactly one of file, env and vault"}},
		{"two", Spec{File: "a", Env: "B"}, []string{"exactly one of file, env and vault"}},
		{"file and vault", Spec{File: "a", Vault: good()}, []string{"exactly one of file, env and vault"}},
		{"an empty vault", Spec{Vault: &VaultSpec{}}, []string{"vault.address", "vault.mount", "vault.path", "vault.field", "token and appRole"}},
		{"plain http", vault(func(v *VaultSpec) { v.Address = "http://vault:8200" }), []string{"only https"}},
		{"another scheme", vault(func(v *VaultSpec) { v.Address = "unix://x" }), []string{"only https"}},
		{"a password in the address", vault(func(v *VaultSpec) { v.Address = "https://u:p@vault" }), []string{"vault.address"}},
		{"a path in the address", vault(func(v *VaultSpec) { v.Address = "https://vault/v1" }), []string{"vault.address"}},
		{"a slash", vault(func(v *VaultSpec) { v.Mount = "secret/" }), []string{"vault.mount"}},
		{"a path that leaves its mount", vault(func(v *VaultSpec) { v.Path = "hsm/../../sys/seal" }), []string{"vault.path"}},
		{"a path that is encoded", vault(func(v *VaultSpec) { v.Path = "hsm%2fpin" }), []string{"vault.path"}},
		{"two slashes", vault(func(v *VaultSpec) { v.Path = "hsm//pin" }), []string{"vault.path"}},
		{"a namespace with a space", vault(func(v *VaultSpec) { v.Namespace = "my cards" }), []string{"vault.namespace"}},
		{"an authority for http", vault(func(v *VaultSpec) { v.Address, v.CAFile = "http://127.0.0.1:8200", "ca.pem" }), []string{"of no use with http"}},
		{"a version", vault(func(v *VaultSpec) { v.KVVersion = 3 }), []string{"vault.kvVersion"}},
		{"two logins", vault(func(v *VaultSpec) { v.AppRole = &AppRoleSpec{} }), []string{"token and appRole"}},
		{"a token from nowhere", vault(func(v *VaultSpec) { v.Token = &CredentialSpec{} }), []string{"vault.token: write exactly one"}},
		{"a role without anything", vault(func(v *VaultSpec) { v.Token, v.AppRole = nil, &AppRoleSpec{} }),
			[]string{"vault.appRole.roleId", "vault.appRole.secretId"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.spec, "/etc")
			require.Error(t, err)
			for _, part := range test.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
	for _, address := range []string{"https://vault:8200", "https://vault:8200/", "http://127.0.0.1:8100", "http://[::1]:8100", "http://localhost"} {
		_, err := New(vault(func(v *VaultSpec) { v.Address = address }), "/etc")
		require.NoError(t, err, address)
	}
}
