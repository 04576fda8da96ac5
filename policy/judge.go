package policy

import (
	"fmt"
	"iter"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// group is policies whose scope matches a question.
type group struct {
	known verdict // of those whose conditions ask for nothing of the context
	rules []*rule // the others
}

// verdict is what policies say together. The zero verdict permits nothing.
type verdict struct {
	permitted bool
	forbidden *rule  // a forbid that applies, or one that could not be judged
	failed    *rule  // a policy that could not be judged; forbidden, where it is a forbid
	failure   string // why
}

func (v verdict) why() string {
	if v.forbidden == v.failed {
		return fmt.Sprintf("%v forbids something, and could not be judged: %s", v.forbidden, v.failure)
	}
	return fmt.Sprintf("%v forbids it", v.forbidden)
}

// add puts a policy that matches into the group, and judges it if it can be.
func (g *group) add(p *plan, r *rule) {
	switch {
	case r.asksContext:
		g.rules = append(g.rules, r)
	case r.body == nil:
		g.known = g.known.and(verdict{permitted: !r.forbid, forbidden: ifForbid(r)})
	default:
		g.known = g.known.and(judge(p, []*rule{r}, types.Record{}))
	}
}

func ifForbid(r *rule) *rule {
	if r.forbid {
		return r
	}
	return nil
}

// any reports whether there is a policy that could have a say.
func (g *group) any() bool { return len(g.rules) > 0 || g.known != verdict{} }

// mayPermit reports whether there is a permit that could apply.
func (g *group) mayPermit() bool {
	for _, r := range g.rules {
		if !r.forbid {
			return true
		}
	}
	return g.known.permitted
}

// judge asks the policies of the group.
func (g *group) judge(p *plan, context func() types.Record) verdict {
	if len(g.rules) == 0 || g.known.forbidden != nil {
		return g.known
	}
	return g.known.and(judge(p, g.rules, context()))
}

// and is what two groups of policies say together: the first forbid, else whether either permits.
func (v verdict) and(w verdict) verdict {
	if v.forbidden != nil {
		return v
	}
	if w.forbidden != nil {
		return w
	}
	if v.failed == nil {
		v.failed, v.failure = w.failed, w.failure
	}
	v.permitted = v.permitted || w.permitted
	return v
}

// judge asks policies whose scope matches. Cedar skips what it cannot judge; a forbid that is skipped would be a permission, so here it
// forbids.
func judge(p *plan, rules []*rule, context types.Record) (v verdict) {
	decision, diagnostic := cedar.Authorize(bodies(rules), p.entities, p.request(context))
	for _, e := range diagnostic.Errors {
		r := find(rules, string(e.PolicyID))
		if r.forbid {
			return verdict{forbidden: r, failed: r, failure: e.Message}
		}
		v.failed, v.failure = r, e.Message
	}
	if decision == cedar.Allow {
		v.permitted = true
		return v
	}
	if len(diagnostic.Reasons) > 0 { // those of a denial are forbids
		v.forbidden = find(rules, string(diagnostic.Reasons[0].PolicyID))
	}
	return v
}

// bodies are the conditions of rules, as the library takes them.
type bodies []*rule

// All gives each with its id.
func (b bodies) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range b {
			if !yield(cedar.PolicyID(r.id), r.body) {
				return
			}
		}
	}
}

func find(rules []*rule, id string) *rule {
	for _, r := range rules {
		if r.id == id {
			return r
		}
	}
	return nil // an id that the library made up
}
