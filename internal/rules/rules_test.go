package rules

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

const permitAll = `@id("a") permit (principal, action == Action::"Seal", resource); // as it is written` + "\r\n"

// Every text is taken as it is written, byte for byte: officers sign it.
func TestAFolderIsReadAsItIsWritten(t *testing.T) {
	dir := folder(t, map[string]string{
		"b.cedar": permitAll, "a.cedar": "x", LimitsFile: "limits: []\n# words", CasesFile: "no part of it",
		ClientsFile: "clients:\n  - {name: gd, identity: i, role: platform, keySets: [b, a], suspended: true}\n",
	})
	r, err := Read(dir)
	require.NoError(t, err)
	assert.Equal(t, policy.Rules{
		Clients:  []policy.Client{{Name: "gd", Identity: "i", Role: policy.Platform, KeySets: []string{"b", "a"}, Suspended: true}},
		Policies: []policy.Document{{Name: "a", Text: "x"}, {Name: "b", Text: permitAll}},
		Limits:   &policy.Document{Name: "limits", Text: "limits: []\n# words"},
	}, r)
	r, err = Read(folder(t, map[string]string{"b.cedar": permitAll}))
	require.NoError(t, err)
	assert.Equal(t, policy.Rules{Policies: []policy.Document{{Name: "b", Text: permitAll}}}, r)
}

// What is no part of rules is refused, so that nothing that somebody wrote is left out unseen.
func TestFoldersThatAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"platform.ceder": "platform.ceder: expected only ", "notes.txt": "notes.txt: expected only ", "clients.yml": "clients.yml: expected only ",
	} {
		_, err := Read(folder(t, map[string]string{"a.cedar": permitAll, name: ""}))
		require.ErrorContains(t, err, want)
	}
	for name, text := range map[string]string{"limits.cedar": permitAll, "clients.cedar": permitAll, LimitsFile: "", "b.cedar": " \n"} {
		_, err := Read(folder(t, map[string]string{"a.cedar": permitAll, name: text}))
		require.ErrorContains(t, err, name+": ") // an empty file of limits must not become a proposal to remove them
	}
	dir := folder(t, map[string]string{"a.cedar": permitAll})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b.cedar"), 0o700))
	_, err := Read(dir)
	require.ErrorContains(t, err, "b.cedar: is a folder")
	_, err = Read(folder(t, map[string]string{ClientsFile: "clients: []\n"}))
	require.ErrorContains(t, err, "no document of policies, expected at least one NAME.cedar")
	_, err = Read(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Read(folder(t, map[string]string{"a.cedar": permitAll, ClientsFile: "clients:\n  - {name: gd, nmae: x}\n"}))
	require.ErrorContains(t, err, "clients.yaml:2: clients[0].nmae: unknown field")
}

func TestProblemsAreSaidByTheirFiles(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.cedar": "x", ClientsFile: "clients:\n  - {name: gd, identity: i, role: boss}\n", LimitsFile: "limits:\n  - {name: a, per: nobody}\n",
	})
	r, err := Read(dir)
	require.NoError(t, err)
	_, err = policy.New(r)
	located := Locate(dir, err).Error()
	for _, want := range []string{dir + "/a.cedar:1:", dir + `/clients.yaml: client "gd": role "boss"`, dir + "/limits.yaml:2"} {
		assert.Contains(t, located, want)
	}
	assert.NoError(t, Locate(dir, nil))
	assert.ErrorIs(t, Locate(dir, os.ErrExist), os.ErrExist)
}
