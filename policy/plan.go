package policy

import (
	"iter"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// question is what of a request decides which policies it may meet: all but the context.
type question struct {
	client, action, keySet, kind string
	algorithm, profile           string
}

// plan is what is known of the answer to a question before there is a context: only the policies whose scope matches, and of those the
// ones without the context already judged.
type plan struct {
	principal, action, resource types.EntityUID
	entities                    types.EntityMap
	declared                    bool                // the schema has the action
	attributes                  resolved.RecordType // of the context
	early, late                 group
	needs                       []TotalName // of the late group
	limits                      []*Limit    // whatever the purse and the terminal
}

// newQuestion is what r asks, of c.
func newQuestion(c Client, r Request) question {
	return question{
		client: c.Identity, action: r.Operation.Action(r.Context.Command), keySet: r.KeySet, kind: r.Operation.Kind(r.Context.Command),
		algorithm: r.Context.Algorithm, profile: r.Context.Profile,
	}
}

// maxPlans bounds the memory of plans; what is beyond is planned anew for each request.
const maxPlans = 1 << 16

func (p *Policy) plan(q question) *plan {
	p.planning.RLock()
	known := p.plans[q]
	p.planning.RUnlock()
	if known != nil {
		return known
	}
	made := p.newPlan(q)
	p.planning.Lock()
	defer p.planning.Unlock()
	if p.plans == nil {
		p.plans = make(map[question]*plan)
	}
	if len(p.plans) < maxPlans {
		p.plans[q] = made
	}
	return made
}

func (p *Policy) newPlan(q question) *plan {
	made := newAsked(p.clients[q.client], q)
	made.limits = p.limitsOf(q)
	_, hasTotals := made.attributes[totalsAttribute]
	for _, r := range p.rules {
		if !made.inScope(r) {
			continue
		}
		if hasTotals && len(r.totals) > 0 {
			made.late.add(made, r)
			made.needs = append(made.needs, r.totals...)
			continue
		}
		made.early.add(made, r)
	}
	made.needs = slices.DeleteFunc(TotalNames(), func(n TotalName) bool { return !slices.Contains(made.needs, n) })
	return made
}

// newAsked is a plan of who asks what of which resource, without a policy.
func newAsked(c Client, q question) *plan {
	p := &plan{action: types.NewEntityUID(actionType, types.String(q.action)), entities: types.EntityMap{}}
	p.attributes = theSchema().attributes(p.action)
	p.principal = p.know(clientEntity(c))
	p.resource = p.know(signerEntity())
	if q.keySet != "" {
		p.resource = p.know(keySetEntity(q))
	}
	if q.keySet != "" && q.kind != "" {
		p.resource = p.know(keyEntity(q))
	}
	if action, ok := theSchema().Actions[p.action]; ok {
		p.declared = true
		p.know(action.Entity)
	}
	return p
}

// know adds an entity to those that conditions see.
func (p *plan) know(e types.Entity) types.EntityUID {
	p.entities[e.UID] = e
	return e.UID
}

func (p *plan) request(context types.Record) cedar.Request {
	return cedar.Request{Principal: p.principal, Action: p.action, Resource: p.resource, Context: context}
}

// inScope reports whether a policy's principal, action and resource match.
func (p *plan) inScope(r *rule) bool {
	decision, _ := cedar.Authorize(one{r.scope}, p.entities, p.request(types.Record{}))
	return decision == cedar.Allow
}

// one is a set of one policy.
type one struct{ *cedar.Policy }

func (o one) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) { yield("", o.Policy) }
}

func clientEntity(c Client) types.Entity {
	sets := make([]types.Value, len(c.KeySets))
	for i, name := range c.KeySets {
		sets[i] = types.NewEntityUID(keySetType, types.String(name))
	}
	return types.Entity{
		UID:        types.NewEntityUID(clientType, types.String(c.Name)),
		Parents:    types.NewEntityUIDSet(types.NewEntityUID(roleType, types.String(c.Role))),
		Attributes: types.NewRecord(types.RecordMap{"keySets": types.NewSet(sets...)}),
	}
}

func signerEntity() types.Entity { return types.Entity{UID: theSigner} }

func keySetEntity(q question) types.Entity {
	return types.Entity{UID: types.NewEntityUID(keySetType, types.String(q.keySet)), Attributes: types.NewRecord(keyAttributes(q))}
}

func keyEntity(q question) types.Entity {
	attributes := keyAttributes(q)
	attributes["kind"] = types.String(q.kind)
	return types.Entity{
		UID:        types.NewEntityUID(keyType, types.String(q.keySet+"/"+q.kind)),
		Parents:    types.NewEntityUIDSet(types.NewEntityUID(keySetType, types.String(q.keySet))),
		Attributes: types.NewRecord(attributes),
	}
}

// keyAttributes leaves out what is not known, so that a policy that asks for it cannot be judged.
func keyAttributes(q question) types.RecordMap {
	attributes := types.RecordMap{}
	if q.algorithm != "" {
		attributes["algorithm"] = types.String(q.algorithm)
	}
	if q.profile != "" {
		attributes["profile"] = types.String(q.profile)
	}
	return attributes
}
