package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a document says, New has a policy or a problem with a place in the document, and a policy that it has can be asked.
func FuzzDocument(f *testing.F) {
	for _, d := range Shipped() {
		f.Add(d.Text)
	}
	f.Add(builtin)
	f.Add(permitLoads + dayForbids)
	f.Add(`@id("a") permit (principal, action == Action::"SignCommand", resource) when { context.x["y"] like "a*\\*" };`)
	f.Add(`@id("a") forbid (principal == Client::"gd", action, resource is Key in KeySet::"x") unless { {a: [1, "\u{1f4a9}"]}.a.contains(2) };`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := New(Rules{
			Clients:  []Client{{Name: "gd", Identity: "i", Role: Platform, KeySets: []string{"gd-purse"}}},
			Policies: []Document{{"d", text}},
		})
		var invalid *Invalid
		if errors.As(err, &invalid) {
			require.NotEmpty(t, invalid.Problems)
			for _, problem := range invalid.Problems {
				require.Equal(t, "d", problem.Document)
				require.NotEmpty(t, problem.Text)
				require.LessOrEqual(t, problem.Line, strings.Count(text, "\n")+1)
			}
			return
		}
		require.NoError(t, err)
		caller, err := p.Identify([]string{"i"})
		require.NoError(t, err)
		if grant, err := p.Decide(load(caller, 5)); err == nil {
			_ = grant.Judge(Totals{})
		}
	})
}
