package custody

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
)

func seeds(t testing.TB) (changes, catalogues [][]byte) {
	c := stocked(t)
	c = applied(t, c, policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "bob"}} })
	for _, one := range []Catalogue{founded(t), stocked(t), c} {
		line, err := one.Encode()
		require.NoError(t, err)
		catalogues = append(catalogues, line)
	}
	for _, change := range full() {
		line, err := change.Encode()
		require.NoError(t, err)
		changes = append(changes, line)
	}
	return changes, catalogues
}

// What is read is written as the same bytes: one change has one text.
func FuzzDecodeChange(f *testing.F) {
	changes, _ := seeds(f)
	for _, line := range changes {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		change, err := DecodeChange(line)
		if err != nil {
			return
		}
		again, err := change.Encode()
		require.NoError(t, err)
		require.Equal(t, string(line), string(again))
		require.NotEmpty(t, change.Words())
	})
}

func FuzzDecodeCatalogue(f *testing.F) {
	_, catalogues := seeds(f)
	for _, line := range catalogues {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := DecodeCatalogue(line)
		if err != nil {
			return
		}
		again, err := c.Encode()
		require.NoError(t, err)
		require.Equal(t, string(line), string(again))
		_ = c.Check()
	})
}

// Another way to write the same change is no change.
func TestOnlyOneTextOfAChange(t *testing.T) {
	c := stocked(t)
	line, err := proposed(t, c, policy.CreateKey, creating(load(2))).Encode()
	require.NoError(t, err)
	text := string(line)
	_, err = DecodeChange(line)
	require.NoError(t, err)
	for name, other := range map[string]string{
		"a space":         " " + text,
		"a line end":      text + "\n",
		"something after": text + "{}",
		"another case":    `{"Pursekeeper-change"` + text[len(`{"pursekeeper-change"`):],
		"a member twice":  text[:len(text)-1] + `,"keys":{"set":"demo","keys":[]}}`,
		"a member more":   text[:len(text)-1] + `,"more":1}`,
		"an empty member": text[:len(text)-1] + `,"quorum":null}`,
		"nothing":         "",
		"null":            "null",
		"another form":    `{"pursekeeper-change":"v2"` + text[len(`{"pursekeeper-change":"v1"`):],
	} {
		_, err := DecodeChange([]byte(other))
		assert.Error(t, err, name)
	}
}
