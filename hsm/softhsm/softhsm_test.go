package softhsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	testPIN   = "test-pin-1234"
	testSOPIN = "test-so-pin-5678"
)

// showSlots asks the tool, in a process of its own, what tokens the configuration has.
func showSlots(t *testing.T, token Token) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), tool, "--show-slots")
	command.Env = append(os.Environ(), token.Env()...)
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func TestInitMakesAToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a token's directory")
	token, err := Init(dir, "dev", testPIN, testSOPIN)
	require.NoError(t, err)
	assert.Equal(t, "dev", token.Label)
	assert.FileExists(t, token.Module)
	assert.Equal(t, []string{"SOFTHSM2_CONF=" + filepath.Join(dir, "softhsm2.conf")}, token.Env())

	out := showSlots(t, token)
	assert.Regexp(t, `Label:\s+dev\s`, out)
	assert.Regexp(t, `User PIN init\.:\s+yes`, out)
}

// The PINs given at the terminal are the token's, each the right one: only the tool itself can say, by deleting nothing and
// importing a key under the user's PIN.
func TestInitSetsTheUserPIN(t *testing.T) {
	token, err := Init(t.TempDir(), "dev", testPIN, testSOPIN)
	require.NoError(t, err)
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("k", 16)), 0o600))
	for _, c := range []struct {
		name, pin string
		id        string
		ok        bool
	}{{"right", testPIN, "01", true}, {"wrong", testPIN + "0", "02", false}, {"security officer's", testSOPIN, "03", false}} {
		t.Run(c.name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), tool, "--import", key, "--aes", "--token", "dev", "--label", "k", "--id", c.id, "--pin", c.pin)
			command.Env = append(os.Environ(), token.Env()...)
			out, err := command.CombinedOutput()
			if c.ok {
				require.NoError(t, err, string(out))
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestInitKeepsItsFilesPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "token")
	token, err := Init(dir, "dev", testPIN, testSOPIN)
	require.NoError(t, err)
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files++
		assert.Zero(t, info.Mode().Perm()&0o077, path)
		return nil
	}))
	assert.Greater(t, files, 4)
	conf, err := os.ReadFile(token.ConfPath)
	require.NoError(t, err)
	assert.NotContains(t, string(conf), "test-")
}

func TestInitRefusesADirectoryThatHoldsAToken(t *testing.T) {
	dir := t.TempDir()
	first, err := Init(dir, "first", testPIN, testSOPIN)
	require.NoError(t, err)
	_, err = Init(dir, "second", testPIN, testSOPIN)
	require.ErrorIs(t, err, os.ErrExist)
	out := showSlots(t, first)
	assert.Contains(t, out, "first")
	assert.NotContains(t, out, "second")
}

func TestInitRefusesWhatItCannotSet(t *testing.T) {
	for _, c := range []struct{ name, dir, label, pin, soPIN, message string }{
		{"no label", "d", "", testPIN, testSOPIN, "label"},
		{"long label", "d", strings.Repeat("l", 33), testPIN, testSOPIN, "label"},
		{"short pin", "d", "dev", "123", testSOPIN, "pin"},
		{"pin with an end of line", "d", "dev", "1234\n5678", testSOPIN, "pin"},
		{"pin with an interrupt", "d", "dev", "1234\x03", testSOPIN, "pin"},
		{"long so pin", "d", "dev", testPIN, strings.Repeat("9", 256), "so pin"},
		{"comment in the path", "a#b", "dev", testPIN, testSOPIN, "dir"},
		{"equals sign in the path", "a=b", "dev", testPIN, testSOPIN, "dir"},
		{"space at the end of the path", "a ", "dev", testPIN, testSOPIN, "dir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), c.dir)
			_, err := Init(dir, c.label, c.pin, c.soPIN)
			require.ErrorContains(t, err, c.message)
			for _, pin := range []string{c.pin, c.soPIN} {
				assert.NotContains(t, err.Error(), pin)
			}
			assert.NoDirExists(t, dir)
		})
	}
}

func TestInitSaysWhenTheToolIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Init(t.TempDir(), "dev", testPIN, testSOPIN)
	require.ErrorIs(t, err, ErrNotInstalled)
	assert.ErrorContains(t, err, "apt-get install softhsm2")
}

func TestInitReportsTheToolsFailure(t *testing.T) {
	bin, dir, path := t.TempDir(), t.TempDir(), os.Getenv("PATH")
	script := "#!/bin/sh\necho 'ERROR: the token is cross' >&2\nexit 3\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, tool), []byte(script), 0o700))
	t.Setenv("PATH", bin)
	_, err := Init(dir, "dev", testPIN, testSOPIN)
	require.ErrorContains(t, err, "the token is cross")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.NotContains(t, err.Error(), "test-")

	t.Setenv("PATH", path)
	_, err = Init(dir, "dev", testPIN, testSOPIN)
	require.NoError(t, err, "the directory may be tried again")
}

// The PINs are nowhere in the tool's arguments or environment: a stand-in for the tool writes down what it was given.
func TestInitPassesNoPINByArgument(t *testing.T) {
	bin := t.TempDir()
	seen := filepath.Join(bin, "seen")
	script := "#!/bin/sh\n{ echo \"$@\"; /usr/bin/env; } >" + seen + "\nread a; read b; read c; read d\necho \"typed $a $b $c $d\" >>" + seen + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, tool), []byte(script), 0o700))
	t.Setenv("PATH", bin)
	_, err := Init(t.TempDir(), "dev", testPIN, testSOPIN)
	require.NoError(t, err)
	out, err := os.ReadFile(seen)
	require.NoError(t, err)
	given, typed, found := strings.Cut(string(out), "typed ")
	require.True(t, found)
	assert.Contains(t, given, "--init-token")
	assert.NotContains(t, given, testPIN)
	assert.NotContains(t, given, testSOPIN)
	assert.Equal(t, strings.Join([]string{testSOPIN, testSOPIN, testPIN, testPIN}, " "), strings.TrimSpace(typed))
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.so"), filepath.Join(dir, "second.so")
	require.NoError(t, os.WriteFile(second, nil, 0o600))

	path, err := find(first, "", second)
	require.NoError(t, err)
	assert.Equal(t, second, path)

	require.NoError(t, os.WriteFile(first, nil, 0o600))
	path, err = find(first, second)
	require.NoError(t, err)
	assert.Equal(t, first, path)

	_, err = find("", filepath.Join(dir, "none.so"))
	require.ErrorIs(t, err, ErrNotInstalled)
	_, err = find(dir) // a directory is no module
	require.ErrorIs(t, err, ErrNotInstalled)
}
