package custody

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
)

// A proposal holds up the transactions of all clients for as long as its rules are compiled twice, those before and those after, and not for as
// long as they are looked at.
func TestAProposalCompilesRulesOnce(t *testing.T) {
	c := founded(t)
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, "@id(\"p%d\") permit (principal, action, resource) when { resource in principal.keySets };\n", i)
	}
	c.Rules.Policies = append(c.Rules.Policies, policy.Document{Name: "zz-many", Text: text.String()})
	office := &Office{}
	best, compile := time.Hour, time.Hour
	for i := range 5 {
		start := time.Now()
		_, err := policy.New(c.Rules)
		require.NoError(t, err)
		compile = min(compile, time.Since(start))
		start = time.Now()
		change, err := c.Propose(draft(policy.AddClient, client1(fmt.Sprint("gd", i), policy.Platform)), noon)
		require.NoError(t, err)
		require.NoError(t, office.canEver(c, change, noon))
		best = min(best, time.Since(start))
	}
	assert.Less(t, best, 4*compile, "it was 6 times")
}

func TestRulesAreCompiledAnewWhereTheyAreOthers(t *testing.T) {
	rules := func(n int) policy.Rules {
		r := founded(t).Rules
		r.Clients = append(r.Clients, testClient(fmt.Sprint("gd", n), policy.Platform))
		return r
	}
	for range 2 {
		for n := range len(lately.kept) + 1 {
			p, err := compiled(rules(n))
			require.NoError(t, err)
			assert.Equal(t, rules(n).Digest(), p.Digest())
		}
	}
	wrong := rules(0)
	wrong.Policies = append(wrong.Policies, policy.Document{Name: "wrong", Text: "permit"})
	for range 2 {
		_, err := compiled(wrong)
		require.ErrorContains(t, err, "wrong:1:")
	}
}
