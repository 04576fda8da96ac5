package policy

import (
	cedar "github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
)

// Listed is one policy of a document.
type Listed struct {
	ID, Document string
	Line         int
	Forbid, Late bool
	Text         string // in the library's own layout, without comments: two policies of one text decide the same
}

// Listed are all policies, the built-in ones first, then those of the documents in their order.
func (p *Policy) Listed() (all []Listed) {
	for _, r := range p.rules {
		all = append(all, Listed{
			ID: r.id, Document: r.document, Line: r.line, Forbid: r.forbid, Late: r.isLate(),
			Text: string(cedar.NewPolicyFromAST((*public.Policy)(r.syntax)).MarshalCedar()),
		})
	}
	return all
}

// isLate reports whether there is an action for which the policy waits for running totals.
func (r *rule) isLate() bool {
	if len(r.totals) == 0 {
		return false
	}
	for _, a := range Actions() {
		if r.lateFor(a) {
			return true
		}
	}
	return false
}
