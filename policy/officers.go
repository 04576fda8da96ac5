package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// everyOfficer are the operations that no document takes from a client of the role officer: with them officers put every other right
// back.
var everyOfficer = []Operation{ProposeChange, ApproveChange, RejectChange, CancelChange, ListChanges, ReadChange, ListOfficers}

// anyOfficer is a client that no list of clients has: the next officer. No list of clients has the name "".
var anyOfficer = Client{Role: Officer}

// lockouts are the forbids that could keep an officer, one of the clients or the next, from deciding on changes. One that could only
// at times, by the clock, is one of them.
func (p *Policy) lockouts() (problems []Problem) {
	officers := []Client{anyOfficer}
	for _, identity := range slices.Sorted(maps.Keys(p.clients)) {
		if c := p.clients[identity]; c.Role == Officer {
			officers = append(officers, c)
		}
	}
	var requests []officersRequest
	for _, c := range officers {
		for _, op := range everyOfficer {
			requests = append(requests, newOfficersRequest(c, op))
		}
	}
	for _, r := range p.rules {
		if who, op, ok := r.locksOut(requests); ok {
			name := "an officer"
			if who.Name != "" {
				name = "officer " + who.Name
			}
			problems = append(problems, Problem{r.document, r.line, r.syntax.Position.Column, fmt.Sprintf(
				"%s could keep %s from %s, which nothing may: leave officers out, as in \"unless { principal in Role::\"officer\" }\"", r.id, name, op)})
		}
	}
	return problems
}

func (r *rule) locksOut(requests []officersRequest) (who Client, from Operation, ok bool) {
	if !r.forbid {
		return Client{}, "", false
	}
	for _, one := range requests {
		if r.couldForbid(one) {
			return one.who, one.op, true
		}
	}
	return Client{}, "", false
}

// officersRequest is one operation of one officer, at any moment.
type officersRequest struct {
	who     Client
	op      Operation
	asked   *plan
	context types.Record // of unknown values
}

func newOfficersRequest(c Client, op Operation) officersRequest {
	asked := newAsked(c, newQuestion(c, Request{Operation: op}))
	context := types.RecordMap{}
	for name := range asked.attributes {
		context[name] = eval.Variable(name)
	}
	return officersRequest{c, op, asked, types.NewRecord(context)}
}

// couldForbid reports whether there may be a moment at which the rule forbids the request.
func (r *rule) couldForbid(one officersRequest) bool {
	if !one.asked.inScope(r) {
		return false
	}
	_, could := eval.PartialPolicy(eval.Env{
		Principal: one.asked.principal, Action: one.asked.action, Resource: one.asked.resource, Context: one.context, Entities: one.asked.entities,
	}, r.syntax)
	return could
}
