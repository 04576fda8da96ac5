package strictyaml

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type some struct {
	Name string   `yaml:"name"`
	List []string `yaml:"list"`
	Of   []struct {
		Name string `yaml:"name"`
	} `yaml:"of"`
}

func problemOf(text string) string {
	doc, err := Parse([]byte(text))
	if err != nil {
		return Syntax(err).Reason
	}
	var into some
	if problems := doc.Decode(&into); len(problems) > 0 {
		return problems[0].Reason
	}
	return ""
}

// What makes a value of something else is refused; of some the library panics.
func TestTagsAnchorsAndAliases(t *testing.T) {
	const refused = "has a tag, an anchor or an alias: write the value out"
	for _, text := range []string{
		"list: !a ", "list: !!str x\n", "name: &a x\n", "list: &a [x]\n", "name: !!binary eA==\n",
		"list:\n  - !!str !!str ", "of: [{name: &a x}, {name: *a}]\n", "of: [&a {name: x}, {<<: *a}]\n",
	} {
		assert.NotPanics(t, func() {
			assert.Contains(t, []string{refused, "unknown field"}, problemOf(text), text)
		}, text)
	}
	assert.Empty(t, problemOf("name: \"!a &b *c\"\nlist: ['<<', \"!!str\"]\n"))
}

// Whoever may propose a document may not have the service read it for seconds.
func TestNestedDeep(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 60000), "list: " + strings.Repeat("[", 60000), strings.Repeat("{a: ", 15000), "list: " + strings.Repeat("- ", 30000),
		strings.Repeat("- ", 30000), strings.Repeat("? ", 30000), "list: " + strings.Repeat("]", 100) + strings.Repeat("[\"]\",", 12000),
	} {
		start := time.Now()
		assert.NotEmpty(t, problemOf(text))
		require.Less(t, time.Since(start), time.Second, text[:20]) // without a bound it is many
	}
	assert.Empty(t, problemOf("list: ['"+strings.Repeat("[", 100)+"']\nof: ["+strings.Repeat("{name: a},", 500)+"]\n"))
}
