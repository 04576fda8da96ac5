package policy

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
)

// Action is one thing that a client may do: an operation, or one command of SignCommand or direction of AuthenticateCard.
type Action struct {
	Operation Operation
	Command   string // of SignCommand and AuthenticateCard
}

// String is the operation, and the command after it.
func (a Action) String() string {
	if a.Command == "" {
		return string(a.Operation)
	}
	return string(a.Operation) + " " + a.Command
}

// Actions returns every action once, in the order of Operations.
func Actions() (all []Action) {
	for _, op := range Operations() {
		if len(parts[op]) == 0 {
			all = append(all, Action{Operation: op})
		}
		for _, p := range parts[op] {
			all = append(all, Action{op, p.action})
		}
	}
	return all
}

// Right is what a policy says of a client, an action and a key set before there is a request.
type Right int

// The rights.
const (
	No   Right = iota // whatever the request says
	Some              // it depends on the request
	Yes               // whatever the request says
)

// String is "no", "some" or "yes".
func (r Right) String() string { return [...]string{"no", "some", "yes"}[r] }

// AnyOther is a key set that nothing names: what is allowed on it is allowed on key sets to come.
const AnyOther = "any-other"

// Cell is one right of a policy.
type Cell struct {
	Client string
	Role   Role
	KeySet string // "" of an action that is of no key set
	Action Action
}

// Verdict is what a policy says of a cell, and the policies that the rest depends on, of a No the ones that forbid it.
type Verdict struct {
	Right    Right
	Policies []string // by their ids, late ones with " (late)"
}

// Cells are all rights of the clients on the key sets; clients who are suspended have none.
func (p *Policy) Cells(keySets []string) map[Cell]Verdict {
	cells := map[Cell]Verdict{}
	for _, c := range p.clients {
		for _, a := range Actions() {
			sets := keySets
			if !a.Operation.OfKeySet() {
				sets = []string{""}
			}
			for _, set := range sets {
				cells[Cell{c.Name, c.Role, set, a}] = p.right(c, a, set)
			}
		}
	}
	return cells
}

// Clients are the clients, by name.
func (p *Policy) Clients() []Client {
	return slices.SortedFunc(maps.Values(p.clients), func(a, b Client) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

func (p *Policy) right(c Client, a Action, keySet string) (v Verdict) {
	if c.Suspended {
		return v
	}
	made := p.newPlan(newQuestion(c, Request{Operation: a.Operation, KeySet: keySet, Context: Context{Command: a.Command}}))
	known := made.early.known.and(made.late.known)
	if known.forbidden != nil && known.failed == nil {
		return Verdict{No, []string{known.forbidden.id}}
	}
	if !made.early.mayPermit() && !made.late.mayPermit() && known.failed == nil {
		return v
	}
	for _, r := range made.early.rules {
		v.Policies = append(v.Policies, r.id)
	}
	for _, r := range made.late.rules {
		v.Policies = append(v.Policies, r.id+" (late)")
	}
	if known.failed != nil { // for want of the key set's algorithm and profile
		v.Policies = append(v.Policies, known.failed.id)
	}
	v.Right = Some
	if known.permitted && known.failed == nil && !made.mayForbid() {
		v = Verdict{Right: Yes}
	}
	return v
}

// mayForbid reports whether a forbid depends on the request.
func (p *plan) mayForbid() bool {
	return slices.ContainsFunc(append(slices.Clone(p.early.rules), p.late.rules...), func(r *rule) bool { return r.forbid })
}

// lateFor reports whether an action has running totals.
func (r *rule) lateFor(a Action) bool {
	_, has := theSchema().attributes(types.NewEntityUID(actionType, types.String(a.Operation.Action(a.Command))))[totalsAttribute]
	return has
}
