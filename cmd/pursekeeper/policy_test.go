package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/policies.md is what the commands print: it is run from its beginning to its end, in an empty folder. A file that the page shows by
// cat is written with what it shows.
func TestPolicyGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "policies.md"))
	require.NoError(t, err)
	dir := t.TempDir()
	ran := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for _, step := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			command, printed, _ := strings.Cut(step, "\n")
			args := strings.Fields(command)
			ran[args[0]]++
			switch args[0] {
			case "cat":
				require.NoError(t, os.WriteFile(filepath.Join(dir, args[1]), []byte(strings.TrimRight(printed, "\n")+"\n"), 0o600))
			case "cp":
				require.NoError(t, os.CopyFS(filepath.Join(dir, args[3]), os.DirFS(filepath.Join(dir, args[2]))))
			case "pursekeeper":
				status, out := run(t, args[1:], inFolder(dir))
				assert.Equal(t, strings.TrimSpace(printed), strings.TrimSpace(out), command)
				assert.Equal(t, strings.HasPrefix(printed, "pursekeeper: "), status == 1, "%s: status %d", command, status)
			default:
				t.Errorf("the page runs %s", command)
			}
		}
	}
	assert.Greater(t, ran["pursekeeper"], 8)
}

// rulesFolder writes the shipped documents, a list of clients, and more files.
func rulesFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rules")
	status, out := run(t, []string{"policy", "shipped", dir})
	require.Zero(t, status, out)
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("clients.yaml", `clients: [{name: gd, identity: "spiffe://t/gd", role: platform, keySets: [gd-purse]}]`+"\n")
	for name, text := range files {
		write(name, text)
	}
	return dir
}

// What is wrong ends with 1 and is said by the file and its line; nothing else is printed.
func TestPolicyCheckRefuses(t *testing.T) {
	tests := []struct{ name, file, text, want string }{
		{"syntax", "x.cedar", "@id(\"x\")\npermit (principal, action resource);", "x.cedar:2:27: syntax: "},
		{"a client of no role", "clients.yaml", `clients: [{name: gd, identity: i, role: boss}]`, `clients.yaml: client "gd": role "boss"`},
		{"an unknown field", "clients.yaml", "clients:\n  - name: gd\n    rôle: platform", "clients.yaml:3: clients[0].rôle: unknown field"},
		{"a ceiling of the list of clients", "clients.yaml", "clients:\n  - name: gd\n    maxAmountFen: 5", "clients.yaml:3: clients[0].maxAmountFen: unknown field"},
		{"a file that is none", "platform.ceder", "", "platform.ceder: expected only clients.yaml, limits.yaml, cases.yaml and files that end in .cedar"},
		{"a document of a wrong name", "Big.cedar", `@id("x") permit (principal, action, resource);`, `Big.cedar: document 1 has the name "Big"`},
	}
	for _, test := range tests {
		dir := rulesFolder(t, map[string]string{test.file: test.text})
		status, out := run(t, []string{"policy", "check", dir})
		assert.Equal(t, 1, status, test.name)
		assert.True(t, strings.HasPrefix(out, "pursekeeper: "+dir+"/"+test.want), "%s: %s", test.name, out)
	}
	status, out := run(t, []string{"policy", "check", t.TempDir()})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "no document of policies")
	status, _ = run(t, []string{"policy", "check"})
	assert.Equal(t, 1, status)
}

// A right that no longer is of effect to deny is said; so are rights on key sets to come.
func TestPolicyCheckSaysWhatIsImplied(t *testing.T) {
	dir := rulesFolder(t, map[string]string{
		"less.cedar": `@id("no-block") forbid (principal, action == Action::"CardBlock", resource);`,
		"more.cedar": `@id("all") permit (principal == Client::"gd", action == Action::"GetTransaction", resource);`,
	})
	status, out := run(t, []string{"policy", "check", dir})
	require.Zero(t, status, out)
	assert.Contains(t, out, "gd on gd-purse: the right to EncryptedUpdateBinary and EncryptedUpdateRecord implies every one-block command under the maintenance key: "+
		"CardBlock, ApplicationBlock, ApplicationUnblock, UpdateBinary, UpdateRecord; so that CardBlock is denied is of no effect\n")
	assert.Contains(t, out, "  on any other key set: GetTransaction\n")
	assert.Contains(t, out, "  on gd-purse, forbidden: SignCommand CardBlock (no-block)\n")
}

func TestPolicyTestEndsWithOneWhereACaseFails(t *testing.T) {
	dir := rulesFolder(t, map[string]string{"less.cedar": `@id("no-block") forbid (principal, action == Action::"CardBlock", resource);`})
	cases := filepath.Join(dir, "cases.yaml")
	status, out := run(t, []string{"policy", "test", cases, dir})
	assert.Equal(t, 1, status)
	assert.Regexp(t, `cases.yaml:\d+: SignCommand CardBlock of platform on "gd-purse": expected allow, got deny: permission denied: policy no-block \(less:1\) forbids it`, out)
	assert.Contains(t, out, "1 of 276 cases came out otherwise")
	status, out = run(t, []string{"policy", "test", cases})
	assert.Zero(t, status, out)
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	require.NoError(t, os.WriteFile(empty, []byte("cases: []\n"), 0o600))
	status, out = run(t, []string{"policy", "test", empty})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "nothing was looked at")
}

// A request is read strictly, and what it names must be there.
func TestPolicyExplainReadsStrictly(t *testing.T) {
	dir := rulesFolder(t, nil)
	for text, want := range map[string]string{
		`{"client": "gd", "operation": "AuthorizeLoad", "keyset": "gd-purse", "amount": 5}`: `unknown field "amount"`,
		`{"client": "gd", "operation": "AuthorizeLoad"}`:                                    `keySet: ""`,
		`{"client": "hn", "operation": "AuthorizeLoad", "keySet": "gd-purse"}`:              `client: "hn" is not in the list of clients`,
		`{} {}`: "more than one request",
	} {
		file := filepath.Join(t.TempDir(), "request.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		status, out := run(t, []string{"policy", "explain", file, dir})
		assert.Equal(t, 1, status, text)
		assert.Contains(t, out, want)
	}
	file := filepath.Join(t.TempDir(), "request.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"client": "platform", "operation": "SignCommand", "command": "EncryptedUpdateRecord", "keySet": "x"}`), 0o600))
	status, out := run(t, []string{"policy", "explain", file})
	require.Zero(t, status, out)
	assert.Contains(t, out, "allowed\n")
	assert.Contains(t, out, "platform on x: the right to EncryptedUpdateBinary and EncryptedUpdateRecord implies")
}

// Each kind of difference is said; a comment that changes is one.
func TestPolicyDiff(t *testing.T) {
	before := rulesFolder(t, map[string]string{
		"a.cedar": `@id("a") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has amountFen && context.amountFen > 5 };`,
		"b.cedar": "@id(\"b\") permit (principal in Role::\"operator\", action == Action::\"ListOfficers\", resource);\n// as it was\n",
	})
	after := rulesFolder(t, map[string]string{
		"clients.yaml": `clients: [{name: gd, identity: "spiffe://t/gd", role: platform, keySets: [gd-purse, hn-purse]}, {name: op, identity: j, role: operator}]`,
		"a.cedar":      `@id("a") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has amountFen && context.amountFen > 6 };`,
		"b.cedar":      "@id(\"b\") permit (principal in Role::\"operator\", action == Action::\"ListOfficers\", resource);\n// as it is\n",
		"limits.yaml":  "limits:\n  - {name: day, per: card, period: day, maxFen: 500000}\n",
	})
	status, out := run(t, []string{"policy", "diff", before, after})
	require.Zero(t, status, out)
	for _, want := range []string{
		"document a.cedar: changed\n", "document b.cedar: changed\n", "document limits.yaml: new\n", "limit new: day: AuthorizeLoad, per card and day: at most 500000 fen\n", "client new: op: role operator, j\n",
		"client changed: gd: role platform, spiffe://t/gd, key sets gd-purse\n            to: gd: role platform, spiffe://t/gd, key sets gd-purse, hn-purse\n",
		"policy a: changed\n",
		"right of gd (platform) on gd-purse: AuthorizeLoad: as a say of the request → as a say of the request\n",
		"right of gd (platform) on hn-purse: SignCommand CardBlock: no → yes\n",
		"right of op (operator): ListOfficers: no → yes\n",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "policy b:")
	assert.NotContains(t, out, "on gd-purse: GetTransaction")
	status, out = run(t, []string{"policy", "diff", before, before})
	require.Zero(t, status)
	assert.True(t, strings.HasSuffix(out, "\nthe same\n"), out)
}

// A development configuration has its own clients and key sets; one of officers has no clients.
func TestPolicyCheckOfAConfiguration(t *testing.T) {
	h := newHome(t)
	status, out := run(t, []string{"policy", "check", "--config", h.path("pursekeeper.yaml")})
	require.Zero(t, status, out)
	assert.Contains(t, out, "\nplatform: role platform, ")
	assert.Contains(t, out, "  on demo-sm4: ")
	assert.Contains(t, out, "platform on demo: the right to EncryptedUpdateBinary")
	g := governedHome(h)
	status, out = run(t, []string{"policy", "check", "--config", g.config})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, `has no clients, its officers decide on the rules: "pursekeeper policy show --out FOLDER" writes those in force`)
}

// What is allowed by the policies may be above a limit: it is said, or "allowed" would be read as more than it is.
func TestPolicyExplainNamesLimits(t *testing.T) {
	dir := rulesFolder(t, map[string]string{"limits.yaml": "limits:\n  - {name: one, per: transaction, maxFen: 500}\n  - {name: ed, per: card, period: day, purses: [ED], maxFen: 600}\n"})
	file := filepath.Join(t.TempDir(), "request.json")
	text := `{"client": "gd", "operation": "AuthorizeLoad", "keySet": "gd-purse", "amountFen": 501, "purse": "EP", "terminal": "112233445566"}`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	status, out := run(t, []string{"policy", "explain", file, dir})
	require.Zero(t, status, out)
	assert.True(t, strings.HasPrefix(out, "allowed\n"), out)
	assert.Contains(t, out, "limit one: AuthorizeLoad, per transaction: at most 500 fen: it is held against this where the transaction is recorded, and may refuse it there\n")
	assert.NotContains(t, out, "limit ed")
}
