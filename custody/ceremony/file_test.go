package ceremony

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

const goodFile = `ceremony: import-key
change: 00112233445566778899aabbccddeeff
keySet: demo
kind: load
version: 1
boundary: TOKEN
algorithm: 3DES
kcv: "08D7B4"
custodians:
  - {name: li-na, kcv: "A1B2C3"}
  - {name: Wáng Wěi}
present: [O'Neill]
record: record.txt
`

func TestFiles(t *testing.T) {
	tests := []struct{ name, from, to, want string }{
		{"good", "", "", ""},
		{"unknown field", "record:", "colour: red\nrecord:", "file.yaml:13: colour: unknown field"},
		{"repeated field", "kind: load", "kind: load\nkind: tac", "already defined"},
		{"unknown kind of ceremony", "import-key", "import-keys", "file.yaml:1: ceremony: expected import-key"},
		{"no change", "change: 00112233445566778899aabbccddeeff\n", "", "change: missing"},
		{"a change that is none", "00112233445566778899aabbccddeeff", "0011aa", "file.yaml:2: change: expected 32 hex digits"},
		{"unquoted digits", `"08D7B4"`, "012345", "file.yaml:8: kcv: would be read as another number"},
		{"a field without use", "present:", "block: x\npresent:", "file.yaml:12: block: has no use in import-key"},
		{"one custodian", "  - {name: Wáng Wěi}\n", "", "custodians: expected 2 or 3"},
		{"four custodians", "present:", "  - {name: c}\n  - {name: d}\npresent:", "custodians: expected 2 or 3"},
		{"one person twice", "Wáng Wěi", "Li-Na", "custodians[1].name: Li-Na is there twice"},
		{"a name with an escape", "Wáng Wěi", `"\e[2J"`, "custodians[1].name: expected a name"},
		{"a wrong kind of key", "kind: load", "kind: lode", "kind: "},
		{"a wrong version", "version: 1", "version: 256", "version: expected 1 to 255"},
		{"a wrong boundary", "TOKEN", "PAPER", "boundary: "},
		{"an algorithm that masters have not", "3DES", "AES", "algorithm: AES with 0 bits"},
		{"a check value of another length", `"08D7B4"`, `"08D7"`, "kcv: expected six hex digits"},
		{"a long check value that only AES has", `"08D7B4"`, `"08D7B4FB62"`, "kcv: expected six hex digits"},
		{"parity without meaning", "record:", "parity: even\nrecord:", "parity: expected odd or any"},
		{"no record", "record: record.txt\n", "", "record: missing"},
		{"two documents", "ceremony:", "---\na: 1\n---\nceremony:", "expected one document"},
	}
	for _, test := range tests {
		file := filepath.Join(t.TempDir(), "file.yaml")
		text := strings.Replace(goodFile, test.from, test.to, 1)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		p, err := Read(file)
		if test.want == "" {
			require.NoError(t, err)
			assert.Equal(t, "demo/load/1", p.Subject())
			assert.Equal(t, filepath.Join(filepath.Dir(file), "record.txt"), p.Record)
			continue
		}
		require.Error(t, err, test.name)
		assert.Contains(t, err.Error(), test.want, test.name)
	}
}

// Every field that a file can have is known to the table of what its kind takes, or is taken by all.
func TestEveryFieldIsUsed(t *testing.T) {
	all := File{}.given()
	used := map[string]bool{}
	for kind, uses := range fieldsOf {
		for _, field := range append(append([]string(nil), uses.needs...), uses.may...) {
			_, known := all[field]
			assert.True(t, known, "%s: %s", kind, field)
			used[field] = true
		}
	}
	assert.Len(t, used, len(all))
}

// matching is a plan with the change and the catalogue that it is made for.
func matching(t *testing.T) (*Plan, custody.Change, custody.Catalogue) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.yaml")
	require.NoError(t, os.WriteFile(file, []byte(goodFile), 0o600))
	p, err := Read(file)
	require.NoError(t, err)
	return p, custody.Change{ID: p.Change, Act: policy.ImportKey, Keys: &custody.KeysChange{Set: "demo", Keys: []custody.KeyChange{{
			Name: custody.Name{Kind: keyderive.KindLoad, Version: 1}, Boundary: keyderive.BoundaryToken, KCV: "08D7B4", Components: 2,
			Custodians: []string{"li-na", "Wáng Wěi"},
		}}}}, custody.Catalogue{KeySets: []custody.KeySet{{Definition: custody.Definition{
			Name: "demo", Algorithm: suite.TDES,
		}}}}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name  string
		alter func(*Plan, *custody.Change, *custody.Catalogue)
		want  string
	}{
		{"the same", func(*Plan, *custody.Change, *custody.Catalogue) {}, ""},
		{"no custodians named", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.Keys.Keys[0].Custodians = nil }, ""},
		{"another change", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.ID = strings.Repeat("1", 32) }, "change: the file says 0011"},
		{"another act", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.Act = policy.CreateKey }, "act: the file says key.import"},
		{"another set", func(p *Plan, _ *custody.Change, _ *custody.Catalogue) { p.Set = "other" }, "keySet: the file says other"},
		{"another kind", func(p *Plan, _ *custody.Change, _ *custody.Catalogue) { p.Name.Kind = keyderive.KindTAC }, "kind and version: the file says tac 1, the change load 1"},
		{"another version", func(p *Plan, _ *custody.Change, _ *custody.Catalogue) { p.Name.Version = 2 }, "kind and version"},
		{"another boundary", func(p *Plan, _ *custody.Change, _ *custody.Catalogue) { p.Boundary = keyderive.BoundaryCard }, "boundary: the file says CARD"},
		{"another check value", func(p *Plan, _ *custody.Change, _ *custody.Catalogue) { p.KCV.Value = "000000" }, "kcv: the file says 000000"},
		{"another number of components", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.Keys.Keys[0].Components = 3 }, "components: the file says 2, the change 3"},
		{"a key block", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) {
			c.Keys.Keys[0].Components = 0
			c.Keys.Transport = "bank"
		}, "transport"},
		{"another custodian", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.Keys.Keys[0].Custodians[0] = "eve" }, "custodians: the file says [li-na Wáng Wěi]"},
		{"custodians in another order", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) {
			c.Keys.Keys[0].Custodians = []string{"Wáng Wěi", "li-na"}
		}, "custodians"},
		{"two keys", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) {
			c.Keys.Keys = append(c.Keys.Keys, custody.KeyChange{})
		}, "the change is about 2 keys"},
		{"another algorithm", func(_ *Plan, _ *custody.Change, c *custody.Catalogue) { c.KeySets[0].Algorithm = suite.SM4 }, "algorithm: the file says 3DES, the change SM4"},
		{"no key set", func(_ *Plan, _ *custody.Change, c *custody.Catalogue) { c.KeySets = nil }, "there is no key set demo"},
		{"nothing", func(_ *Plan, c *custody.Change, _ *custody.Catalogue) { c.Keys = nil }, "nothing that a ceremony does"},
	}
	for _, test := range tests {
		plan, change, catalogue := matching(t)
		test.alter(plan, &change, &catalogue)
		err := plan.Match(change, catalogue)
		if test.want == "" {
			require.NoError(t, err, test.name)
			continue
		}
		require.ErrorIs(t, err, ErrMismatch, test.name)
		require.ErrorContains(t, err, test.want, test.name)
	}
}

func TestMatchBackupAndTransport(t *testing.T) {
	p := &Plan{Kind: CreateBackup, Change: changeOfTest, Threshold: 2, Holders: []string{"a", "b", "c"}}
	change := custody.Change{ID: changeOfTest, Act: policy.CreateBackup, Backup: &custody.BackupChange{Threshold: 2, Holders: []string{"a", "b", "c"}}}
	require.NoError(t, p.Match(change, custody.Catalogue{}))
	change.Backup.Holders[2] = "eve"
	require.ErrorIs(t, p.Match(change, custody.Catalogue{}), ErrMismatch)
	change.Backup = &custody.BackupChange{Vault: "transit"}
	require.ErrorIs(t, p.Match(change, custody.Catalogue{}), ErrMismatch)

	p = &Plan{Kind: ImportTransport, Change: changeOfTest, Transport: "bank", Material: Material{rijndael, 256}, KCV: custody.CheckValue{Value: "ABCDEF"},
		Custodians: []Custodian{{Name: "a"}, {Name: "b"}}}
	change = custody.Change{ID: changeOfTest, Act: policy.ImportTransport, Transport: &custody.TransportChange{Name: "bank", Bits: 256, KCV: "ABCDEF", Components: 2}}
	require.NoError(t, p.Match(change, custody.Catalogue{}))
	change.Transport.Bits = 128
	require.ErrorIs(t, p.Match(change, custody.Catalogue{}), ErrMismatch)
}

// A component that somebody wrote into the file, in the place of its check value, is not repeated on the screen of the room.
func TestAComponentInTheFileIsNotRepeated(t *testing.T) {
	component := strings.ReplaceAll(first, " ", "")
	_, err := New(File{Ceremony: "import-key", Change: component, KCV: component, KeySet: component, Parity: component,
		Custodians: []CustodianFile{{Name: "dave", KCV: component}, {Name: "erin"}}, Record: "r"}, t.TempDir())
	require.ErrorContains(t, err, "custodians[0].kcv: expected six hex digits")
	require.NotContains(t, err.Error(), component[:6])
}
