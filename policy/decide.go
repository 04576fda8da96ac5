package policy

import (
	"fmt"
	"time"

	"github.com/cedar-policy/cedar-go/types"
)

// Request is what Decide is asked. KeySet is "" of an operation that is of no key set.
type Request struct {
	Caller    Caller
	Operation Operation
	KeySet    string
	// Kind is the kind of the key, as keyderive names it: "load"; "" where the operation is of no single one. Left out, it is what
	// Operation.Kind says; another than that is denied.
	Kind    string
	Context Context
}

// Context is what is asked, beside who asks for what with which key. What a request does not have, or what is not well-formed in it, is
// left zero.
type Context struct {
	Amount    *uint64 // fen; of an overdraft the new limit
	Purse     string  // "ED" or "EP"
	Terminal  string  // 12 hex digits, letters as capitals
	Profile   string  // of the key set: its card profile
	Algorithm string  // of the key set: "3DES" or "SM4"
	// Command is of SignCommand, one of the commands here; of AuthenticateCard it is one of the directions.
	Command   string
	Permanent bool      // of the command ApplicationBlock
	Time      time.Time // by the signer's clock, in the key set's time zone
}

// Grant is a decision in favour, and the only way to the signer's keys. The zero Grant allows nothing.
type Grant struct {
	operation Operation
	keySet    string
	digest    string
	late      *late
	limits    []*Limit
}

// Allows reports whether g was given for this operation on this key set.
func (g Grant) Allows(op Operation, keySet string) bool {
	return g.operation != "" && g.operation == op && g.keySet == keySet
}

// Policy is the digest of the policy that decided.
func (g Grant) Policy() string { return g.digest }

// Denied is a decision against.
type Denied struct{ Reason string }

func (d *Denied) Error() string { return "permission denied: " + d.Reason }

// Decide grants r or returns a *Denied. The caller is looked up anew: who was identified by an earlier policy has the rights of this
// one. Policies that mention running totals are not judged yet: see Grant.Late.
func (p *Policy) Decide(r Request) (Grant, error) {
	c := p.clients[r.Caller.client.Identity]
	switch {
	case c.Name == "" || c.Name != r.Caller.client.Name:
		return Grant{}, &Denied{Reason: "the caller is not known"}
	case c.Suspended:
		return Grant{}, &Denied{Reason: fmt.Sprintf("client %s is suspended", c.Name)}
	case !r.Operation.OfKeySet() && r.KeySet != "":
		return Grant{}, &Denied{Reason: fmt.Sprintf("%s is of no key set", r.Operation)}
	case r.Operation.OfKeySet() && r.KeySet == "":
		return Grant{}, &Denied{Reason: fmt.Sprintf("%s is of a key set, and none is named", r.Operation)}
	}
	asked := newQuestion(c, r)
	if r.Kind != "" && r.Kind != asked.kind {
		return Grant{}, &Denied{Reason: fmt.Sprintf("%s is not of a key of the kind %q", r.Operation, r.Kind)}
	}
	plan := p.plan(asked)
	if !plan.declared {
		return Grant{}, &Denied{Reason: fmt.Sprintf("%q is no operation", r.Operation)}
	}
	verdict := plan.early.judge(plan, func() types.Record { return types.NewRecord(plan.context(r.Context)) })
	switch {
	case verdict.forbidden != nil:
		return Grant{}, &Denied{Reason: verdict.why()}
	case !verdict.permitted && !plan.late.mayPermit():
		return Grant{}, &Denied{Reason: plan.notPermitted(c, r, verdict)}
	}
	grant := Grant{operation: r.Operation, keySet: r.KeySet, digest: p.digest, limits: plan.limits}
	if plan.late.any() {
		grant.late = &late{plan: plan, context: plan.context(r.Context), permitted: verdict.permitted, client: c.Name}
	}
	return grant, nil
}

// notPermitted says why nothing permits r.
func (p *plan) notPermitted(c Client, r Request, v verdict) string {
	action := string(r.Operation)
	if string(p.action.ID) != action {
		action += " " + string(p.action.ID)
	}
	switch {
	case v.failed != nil:
		return fmt.Sprintf("client %s may not %s: %v could not be judged: %s", c.Name, action, v.failed, v.failure)
	case !p.early.mayPermit():
		return fmt.Sprintf("role %s may not %s with %v: no policy permits it", c.Role, action, p.resource)
	}
	return fmt.Sprintf("client %s may not %s with %v: the conditions of no policy permit it", c.Name, action, p.resource)
}
