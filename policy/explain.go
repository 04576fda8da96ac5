package policy

import (
	"fmt"

	cedar "github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Explanation is what each policy has to say of a request.
type Explanation struct {
	Allowed bool
	Reason  string // of a denial
	Late    []string
	Words   []Word
	// Limits are those that an allowed request is held against where it is recorded, in words: what they say of it is not known here.
	Limits []string
}

// Word is what one policy says.
type Word struct {
	ID, Document string
	Line         int
	Effect       string // "permit" or "forbid"
	Says         string // "applies", or why it does not
	Applies      bool   // or could not be judged, of a forbid
}

// Explain decides r, with the totals where policies need them, and says of every policy whether it applied or why it did not.
func (p *Policy) Explain(r Request, totals Totals) Explanation {
	grant, err := p.Decide(r)
	if err == nil {
		err = grant.Judge(totals)
	}
	e := Explanation{Allowed: err == nil}
	if err != nil {
		e.Reason = err.Error()
	}
	if e.Allowed {
		for _, l := range grant.Limits() {
			if l.Total == "" && l.Covers(r.Context.Purse, r.Context.Terminal) {
				e.Limits = append(e.Limits, l.String())
			}
		}
	}
	c := p.clients[r.Caller.client.Identity]
	asked := newAsked(c, newQuestion(c, r))
	context := asked.context(r.Context)
	if _, has := asked.attributes[totalsAttribute]; has {
		context[totalsAttribute] = totals.record()
	}
	for _, rule := range p.rules {
		word := Word{ID: rule.id, Document: rule.document, Line: rule.line, Effect: "permit"}
		if rule.forbid {
			word.Effect = "forbid"
		}
		word.Says, word.Applies = rule.says(asked, types.NewRecord(context))
		if word.Applies && len(rule.totals) > 0 && rule.lateFor(Action{r.Operation, r.Context.Command}) {
			e.Late = append(e.Late, rule.id)
		}
		e.Words = append(e.Words, word)
	}
	return e
}

// says goes through a policy's parts in their order, to the first that does not match.
func (r *rule) says(asked *plan, context types.Record) (says string, applies bool) {
	all := *r.syntax
	all.Effect, all.Conditions = ast.EffectPermit, nil
	parts := []struct {
		what string
		part ast.Policy
	}{{fmt.Sprintf("is not about %v", asked.principal), all}, {fmt.Sprintf("is not about %v", asked.action), all}, {fmt.Sprintf("is not about %v", asked.resource), all}}
	for i := range parts {
		part := &parts[i].part
		if i != 0 {
			part.Principal = ast.ScopeTypeAll{}
		}
		if i != 1 {
			part.Action = ast.ScopeTypeAll{}
		}
		if i != 2 {
			part.Resource = ast.ScopeTypeAll{}
		}
		if holds, _ := asked.holds(part, types.Record{}); !holds {
			return parts[i].what, false
		}
	}
	for i, condition := range r.syntax.Conditions {
		part := ast.Policy{
			Effect: ast.EffectPermit, Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{},
			Conditions: []ast.ConditionType{condition},
		}
		holds, failure := asked.holds(&part, context)
		switch {
		case failure != "" && r.forbid:
			return "could not be judged, and so forbids: " + failure, true
		case failure != "":
			return "could not be judged: " + failure, false
		case !holds && condition.Condition == ast.ConditionUnless:
			return fmt.Sprintf("its condition %d, an unless, is met", i+1), false
		case !holds:
			return fmt.Sprintf("its condition %d, a when, is not met", i+1), false
		}
	}
	return "applies", true
}

// holds asks one part of a policy.
func (p *plan) holds(part *ast.Policy, context types.Record) (holds bool, failure string) {
	decision, diagnostic := cedar.Authorize(one{cedar.NewPolicyFromAST((*public.Policy)(part))}, p.entities, p.request(context))
	for _, e := range diagnostic.Errors {
		failure = e.Message
	}
	return decision == cedar.Allow, failure
}
