package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever signs a document has seen all of it, as it is.
func TestDocumentsAreAsTheyLook(t *testing.T) {
	const load = `@id("a") permit (principal, action == Action::"AuthorizeLoad", resource)`
	terminal := func(condition string) string { return load + "\nwhen { context has terminal && " + condition + " };" }
	for name, test := range map[string]struct{ text, want string }{
		"a comment over lines": {"/* " + load + ";\n*/ " + load + ";", `doc:1:1: syntax: "/": a comment is from // to the end of its line, a string is in ""`},
		"a depth behind one":   {`/* " */ ` + load + " when {" + strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000) + `}; /* " */`, `doc:1:1: syntax: "/": a comment is from // to the end of its line, a string is in ""`},
		"a line turned":        {load + ";\n// \u202e not", "doc:2:4: the character U+202E, which is not seen as what it is"},
		"nothing wide":         {load + ";\n// a\u200bb", "doc:2:5: the character U+200B, which is not seen as what it is"},
		"a line begun anew":    {load + "; // x\r// yes", "doc:1:79: the character U+000D, which is not seen as what it is"},
		"no text":              {load + "; // \xff", "doc:1:78: expected UTF-8"},
		"wide digits":          {terminal("context.terminal like \"１*\""), `doc:2:54: "\"１*\"" is not ASCII: only comments may have other characters, names and values have none`},
		"another alphabet":     {terminal("[\"1А\"].containsAny([context.terminal])"), `doc:2:33: "\"1А\"" is not ASCII: only comments may have other characters, names and values have none`},
		"one by its number":    {terminal(`context.terminal like "\u{430}*"`), `doc:2:54: "\u{430}*": an escape other than \", \\ and \*: write the character itself`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, []string{test.want}, problemsOf(t, test.text))
		})
	}
	assert.Nil(t, problemsOf(t, "// 省内充值　，\t每天。\r\n"+terminal(`context.terminal like "11\*\"\\*"`)))
}

// What a person could not read nobody compiles: some of it would take the library many seconds, inside the transaction of a proposal.
func TestPoliciesAreOfAPersonsSize(t *testing.T) {
	for name, condition := range map[string]string{
		"operators": "1" + strings.Repeat("+context.houx", 4500) + " > 1",
		"methods":   "context.time" + strings.Repeat(".offset(context.houx)", 2500) + " > context.time",
		"and":       "true" + strings.Repeat(" && context.hour > 1", 3000),
	} {
		start := time.Now()
		problems := problemsOf(t, `@id("a") forbid (principal in Role::"platform", action, resource) when { `+condition+" };")
		require.Len(t, problems, 1, name)
		assert.Contains(t, problems[0], "more than 100 operators and conditions in one policy: write several, or values as a set", name)
		require.Less(t, time.Since(start), 2*time.Second, name) // it was 20
	}
	many := strings.Repeat(`when { context.hour > 1 && context.hour < 20 } `, 50)
	assert.Nil(t, problemsOf(t, `@id("a") forbid (principal in Role::"platform", action, resource) `+many+`; @id("b") forbid (principal in Role::"reader", action, resource) `+many+";"))
}

// The digest is over every byte, so that there is none which two texts share.
func TestLimitsAreTextToo(t *testing.T) {
	for text, want := range map[string]string{
		"limits: [] # \xff\n":                             "limits:1:14: expected UTF-8",
		"limits: []\n# \u202e\n":                          "limits:2:3: the character U+202E, which is not seen as what it is",
		"limits: []\n" + strings.Repeat("# abc\n", 20000): "limits: 120011 bytes, expected at most 65536",
	} {
		_, err := newLimited(text)
		require.EqualError(t, err, want)
	}
	_, err := newLimited("limits: [] # 无\r\n")
	require.NoError(t, err)
}

// A problem is said by the name of its document, which is one document's alone.
func TestDocumentsHaveANameOfTheirOwn(t *testing.T) {
	for _, name := range []string{"limits", "clients", "built-in"} {
		_, err := New(Rules{Policies: []Document{{name, `@id("a") permit (principal, action == Action::"Seal", resource);`}}})
		require.ErrorContains(t, err, name+": ", name)
	}
}
