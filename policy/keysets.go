package policy

import (
	"fmt"
	"maps"
	"slices"
)

// LimitsDocument is the name of the document of limits, in Rules and in a Problem.
const LimitsDocument = "limits"

// CheckKeySets refuses a policy that names a key set which is none of those there are: in a document, as a client's, or of a limit. The error is an
// *Invalid. New cannot tell, because rules are written before the catalogue that they will be part of is known.
func (p *Policy) CheckKeySets(known []string) error {
	var problems []Problem
	p.eachKeySet(func(name string, unknown Problem) {
		if !slices.Contains(known, name) {
			problems = append(problems, unknown)
		}
	})
	if len(problems) > 0 {
		return &Invalid{problems}
	}
	return nil
}

// KeySets are the key sets that the clients and the documents name, in order and each once.
func (p *Policy) KeySets() []string {
	found := map[string]bool{}
	p.eachKeySet(func(name string, _ Problem) { found[name] = true })
	return slices.Sorted(maps.Keys(found))
}

// eachKeySet yields each key set that is named, wherever it is, with the problem that it would be to name one that is not there.
func (p *Policy) eachKeySet(yield func(name string, unknown Problem)) {
	for _, identity := range slices.Sorted(maps.Keys(p.clients)) {
		c := p.clients[identity]
		for _, name := range c.KeySets {
			yield(name, Problem{ClientsDocument, 0, 0, fmt.Sprintf("client %q: unknown key set %q", c.Name, name)})
		}
	}
	for _, r := range p.rules {
		for _, n := range r.keySets {
			yield(n.keySet, Problem{r.document, n.line, n.column, fmt.Sprintf("unknown key set %q", n.keySet)})
		}
	}
	for _, l := range p.limits {
		for i, name := range l.KeySets {
			yield(name, Problem{l.document, l.keySetLines[i], 0, fmt.Sprintf("limit %s: unknown key set %q", l.Name, name)})
		}
	}
}
