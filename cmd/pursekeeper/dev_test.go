package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answer is AuthorizeLoad's in JSON.
type answer struct {
	Outcome, MAC2, Command, TransactionID, Boundary, AuditIndex string
	Key                                                         struct{ Set, Kind, KCV string }
}

// paste runs the curl line that dev printed, as a person does, with changes.
func paste(t *testing.T, p *program, dir string, changes ...string) (a answer) {
	t.Helper()
	line := p.says(`Try it:\n\n(curl .*)\n\nStop with`)[1]
	line = strings.NewReplacer(changes...).Replace(line)
	shell := exec.Command("bash", "-c", line)
	shell.Dir = dir
	var problem strings.Builder
	shell.Stderr = &problem
	out, err := shell.Output()
	require.NoError(t, err, "%s\n%s", line, problem.String())
	require.NoError(t, json.Unmarshal(out, &a), string(out))
	return a
}

func dev(t *testing.T, dir string, arguments ...string) *program {
	t.Helper()
	return start(t, append(append([]string{"dev"}, anywhere...), arguments...), inFolder(dir))
}

// In an empty folder dev makes everything, prints a line that works as pasted, and a second run goes on where it stopped.
func TestDevInAnEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	first := dev(t, dir)
	want := answer{
		Outcome: "OUTCOME_APPROVED", MAC2: "60B7B5B7", Command: "805200000B2024013123595960B7B5B704",
		TransactionID: "demo/3105228000001117/EP/LOAD/0007/A1B2C3D4", Boundary: "BOUNDARY_TOKEN",
	}
	got := paste(t, first, dir)
	assert.Equal(t, "26C9F7", got.Key.KCV)
	index := got.AuditIndex
	got.Key, got.AuditIndex = want.Key, ""
	assert.Equal(t, want, got)
	sm4 := paste(t, first, dir, `"keySet":"demo"`, `"keySet":"demo-sm4"`, "7E1722D0", "C9A6F09C")
	assert.Equal(t, "1FF2DC09", sm4.MAC2)
	assert.Equal(t, "BOUNDARY_PROCESS", sm4.Boundary)
	for _, name := range []string{"ca.crt", "platform.crt", "platform.key", "reader.crt", "reader.key", "officer.crt", "officer.key",
		"auditor.crt", "auditor.key", "server.crt", "server.key"} {
		info, err := os.Stat(filepath.Join(dir, ".pursekeeper", "tls", name))
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
	require.Zero(t, first.terminate(), first.out.String())

	before := digests(t, filepath.Join(dir, ".pursekeeper"))
	second := dev(t, dir)
	again := paste(t, second, dir)
	assert.Equal(t, "60B7B5B7", again.MAC2)
	assert.Equal(t, index, again.AuditIndex, "the recorded answer, not a new one")
	assert.NotContains(t, second.out.String(), "making a development token")
	require.Zero(t, second.terminate())
	after := digests(t, filepath.Join(dir, ".pursekeeper"))
	for name := range after {
		// SoftHSM writes logins down in token.object; the record goes on, under the same key, audit.pub.
		if strings.HasPrefix(name, "state.db") || strings.HasPrefix(name, "audit/") || filepath.Base(name) == "token.object" {
			delete(after, name)
		}
	}
	for name := range before {
		if after[name] == "" {
			assert.Regexp(t, `^state\.db|^audit/|token\.object$`, name)
			delete(before, name)
		}
	}
	assert.Contains(t, after, "audit.pub")
	unchanged(t, before, after)
}

// A path that a shell would take apart is quoted.
func TestDevQuotesItsFolder(t *testing.T) {
	dir := t.TempDir()
	p := dev(t, dir, "--dir", "it's a $HOME")
	assert.Equal(t, "60B7B5B7", paste(t, p, dir).MAC2)
	require.Zero(t, p.terminate())
}

// digests are those of the files below a folder; one that is not there has none.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		sums[relative] = fmt.Sprintf("%x", sha256.Sum256(content))
		return err
	})
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	return sums
}

func unchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(before))
	assert.Equal(t, names, slices.Sorted(maps.Keys(after)))
	for _, name := range names {
		assert.Equal(t, before[name], after[name], name)
	}
}

func TestDevListensOnAllAddresses(t *testing.T) {
	dir := t.TempDir()
	p := start(t, []string{"dev", "--listen", "[::]:0", "--admin", "127.0.0.1:0"}, inFolder(dir))
	assert.Equal(t, "60B7B5B7", paste(t, p, dir).MAC2, "at an address that the certificate names")
	admin := p.says(`admin +(http://\S+/readyz)`)[1]
	answer, err := http.Get(admin)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	require.Zero(t, p.terminate())
}

const testKeysText = `{"keySets":[{"name":"mine","algorithm":"3DES","issuerFactors":["1000100010001000"],"keys":[
  {"kind":"load","version":1,"masterKey":"0123456789ABCDEF FEDCBA9876543210"},
  {"kind":"tac","version":1,"masterKey":"11223344556677888877665544332211"}]}]}`

// MAC1 and MAC2 of the demonstration load under that file's key, by the openssl command line.
const (
	mineMAC1 = "3ACFF9FA"
	mineMAC2 = "1640ECCF"
)

// A test set may begin what nothing confirms: load keys of two versions and no tac key.
func TestDevWithLoadKeysAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"keySets":[{"name":"lone","algorithm":"3DES","issuerFactors":[],"keys":[`+
		`{"kind":"load","version":1,"masterKey":"00112233445566778899AABBCCDDEEFF"},`+
		`{"kind":"load","version":2,"masterKey":"11223344556677889900AABBCCDDEEFF"}]}]}`), 0o600))
	p := dev(t, dir, "--test-keys", file)
	assert.Equal(t, "OUTCOME_MAC_MISMATCH", paste(t, p, dir, `"keySet":"demo"`, `"keySet":"lone"`).Outcome)
	assert.Equal(t, "OUTCOME_MAC_MISMATCH", paste(t, p, dir, `"keySet":"demo"`, `"keySet":"lone"`, "0007 01", "0007 02").Outcome)
	require.Zero(t, p.terminate())
}

// --test-keys adds key sets to a folder that is in use, once.
func TestDevWithTestKeys(t *testing.T) {
	dir := t.TempDir()
	plain := dev(t, dir)
	assert.Equal(t, "60B7B5B7", paste(t, plain, dir).MAC2)
	require.Zero(t, plain.terminate())
	file := filepath.Join(dir, "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(testKeysText), 0o600))
	for _, said := range []string{"importing 2 test keys", ""} {
		p := dev(t, dir, "--test-keys", file)
		a := paste(t, p, dir, `"keySet":"demo"`, `"keySet":"mine"`, "7E1722D0", mineMAC1)
		assert.Equal(t, "OUTCOME_APPROVED", a.Outcome)
		assert.Equal(t, mineMAC2, a.MAC2)
		assert.Equal(t, "08D7B4", a.Key.KCV)
		assert.Equal(t, "60B7B5B7", paste(t, p, dir).MAC2)
		assert.Contains(t, p.out.String(), said)
		if said == "" {
			assert.NotContains(t, p.out.String(), "importing")
		}
		assert.NotContains(t, p.out.String(), "0123456789ABCDEF")
		require.Zero(t, p.terminate())
	}
	without := dev(t, dir)
	assert.Equal(t, mineMAC2, paste(t, without, dir, `"keySet":"demo"`, `"keySet":"mine"`, "7E1722D0", mineMAC1).MAC2, "the folder keeps them")
	require.Zero(t, without.terminate())
}

// A file that is not right is refused by name, and nothing is changed: neither a folder in use nor an empty one.
func TestDevRefusesTestKeys(t *testing.T) {
	used := t.TempDir()
	p := dev(t, used)
	p.says("Stop with")
	require.Zero(t, p.terminate())
	for _, c := range []struct {
		name, old, new, message string
		inUseOnly               bool // an empty folder has its token already when the configuration is refused
	}{
		{"unknown field", `"version":1,"masterKey":"11`, `"versoin":1,"masterKey":"11`, `unknown field "versoin"`, false},
		{"short key", "11223344556677888877665544332211", "1122334455667788", "masterKey: expected 32 hex digits", false},
		{"not hex", "11223344556677888877665544332211", "1122334455667788887766554433221Z", "masterKey: expected 32 hex digits", false},
		{"unknown kind", `"tac"`, `"tax"`, "tax", false},
		{"no kind", `"kind":"tac",`, ``, "expected a kind", false},
		{"version 0", `"load","version":1`, `"load","version":0`, "version 0: expected a kind, and a version of 1 to 255", false},
		{"no algorithm", `"algorithm":"3DES",`, ``, "algorithm: missing", false},
		{"unknown algorithm", `"3DES"`, `"DES"`, "DES", false},
		{"built-in set", `"mine"`, `"demo"`, `key set "demo" is there twice`, false},
		{"repeated set", `]}]}`, `]},{"name":"mine","algorithm":"SM4","keys":[{"kind":"load","version":1,"masterKey":"11223344556677888877665544332211"}]}]}`,
			`key set "mine" is there twice`, false},
		{"repeated key", `"tac"`, `"load"`, "mine/load/1", false},
		{"no keys", testKeysText, `{"keySets":[{"name":"mine","algorithm":"SM4","keys":[]}]}`, "keys: empty", false},
		{"no sets", testKeysText, `{"keySets":[]}`, "keySets: empty", false},
		{"empty", testKeysText, ``, "keys.json: empty", false},
		{"two values", `]}]}`, `]}]} {}`, "something follows", false},
		{"a demonstration master", "0123456789ABCDEF FEDCBA9876543210", "F7C1734AABB56E2CE6E3AE76862FDC3B",
			"26C9F7 is also the load key of key set demo", true},
		{"a name", `"mine"`, `"my: keys"`, `"my: keys": expected`, true},
		{"an issuer factor", `"1000100010001000"`, `"10"`, "issuerFactors", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys.json")
			text := strings.Replace(testKeysText, c.old, c.new, 1)
			require.NotEqual(t, testKeysText, text)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			folders := []string{used, t.TempDir()}
			if c.inUseOnly {
				folders = folders[:1]
			}
			for _, dir := range folders {
				before := digests(t, dir)
				status, out := run(t, append([]string{"dev", "--test-keys", file}, anywhere...), inFolder(dir))
				assert.Equal(t, 1, status)
				assert.Contains(t, out, c.message)
				assert.NotContains(t, strings.ReplaceAll(out, " ", ""), "1122334455667788", "an error holds no key")
				unchanged(t, before, digests(t, dir))
			}
		})
	}
}

// A key set of the folder takes no keys that derive otherwise: they would be in the token under a name that means another.
func TestDevRefusesAnotherSetOfOneName(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(testKeysText), 0o600))
	p := dev(t, dir, "--test-keys", file)
	p.says("Stop with")
	require.Zero(t, p.terminate())
	before := digests(t, filepath.Join(dir, ".pursekeeper"))
	for _, c := range []struct{ old, new, message string }{
		{"3DES", "SM4", "another algorithm"},
		{"1000100010001000", "2000200020002000", "other issuer factors"},
		{`"issuerFactors":["1000100010001000"],`, ``, "other issuer factors"},
		{"0123456789ABCDEF FEDCBA9876543210", "00112233445566778899AABBCCDDEEFF", "the token has another key of that name"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(testKeysText, c.old, c.new, 1)), 0o600))
		status, out := run(t, append([]string{"dev", "--test-keys", file}, anywhere...), inFolder(dir))
		assert.Equal(t, 1, status)
		assert.Contains(t, out, c.message)
		unchanged(t, before, digests(t, filepath.Join(dir, ".pursekeeper")))
	}
}

// Clear keys do not go near a token that is not for development.
func TestDevRefusesAnotherToken(t *testing.T) {
	for says, c := range map[string]edit{
		"keySets: leave it out":      production,
		"is not a development token": {`label: pursekeeper-dev`, `label: production`},
	} {
		h := newHome(t)
		h.config("pursekeeper.yaml", c)
		file := h.path("keys.json")
		h.write("keys.json", testKeysText)
		before := digests(t, h.dir)
		for _, arguments := range [][]string{{"dev", "--dir", h.dir}, {"dev", "--dir", h.dir, "--test-keys", file}} {
			status, out := run(t, append(arguments, anywhere...))
			assert.Equal(t, 1, status)
			assert.Contains(t, out, says)
			unchanged(t, before, digests(t, h.dir))
		}
	}
}

func TestDevNamesAPortInUse(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		arguments []string
		message   string
	}{
		{[]string{"--listen", busyPort(t), "--admin", "127.0.0.1:0"}, "listen: "},
		{[]string{"--listen", "127.0.0.1:0", "--admin", busyPort(t)}, "admin: "},
		{[]string{"--listen", "127.0.0.1", "--admin", "127.0.0.1:0"}, "expected HOST:PORT"},
	} {
		status, out := run(t, append([]string{"dev"}, c.arguments...), inFolder(dir))
		assert.Equal(t, 1, status)
		assert.Contains(t, out, c.message)
		if strings.HasPrefix(c.message, "listen") || strings.HasPrefix(c.message, "admin") {
			assert.Contains(t, out, "address already in use")
		}
	}
}
