package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// TotalName names a running total, as policies do after "context.totals.".
type TotalName string

// The running totals, each of what was authorised in the key set's time zone.
const (
	CardDayFen     TotalName = "cardDayFen"     // of the card, today
	CardHourCount  TotalName = "cardHourCount"  // of the card, in this hour
	ClientDayFen   TotalName = "clientDayFen"   // of the client, today
	TerminalDayFen TotalName = "terminalDayFen" // at the terminal, today
)

// TotalNames returns every running total once.
func TotalNames() []TotalName {
	return []TotalName{CardDayFen, CardHourCount, ClientDayFen, TerminalDayFen}
}

// Totals are the running totals as they are once the transaction in question is counted. Those that Grant.Needs does not name may be
// left zero.
type Totals struct {
	CardDayFen     uint64 `json:"cardDayFen,omitempty" yaml:"cardDayFen"`
	CardHourCount  uint64 `json:"cardHourCount,omitempty" yaml:"cardHourCount"`
	ClientDayFen   uint64 `json:"clientDayFen,omitempty" yaml:"clientDayFen"`
	TerminalDayFen uint64 `json:"terminalDayFen,omitempty" yaml:"terminalDayFen"`
}

func (t Totals) record() types.Record {
	return types.NewRecord(types.RecordMap{
		types.String(CardDayFen): long(t.CardDayFen), types.String(CardHourCount): long(t.CardHourCount),
		types.String(ClientDayFen): long(t.ClientDayFen), types.String(TerminalDayFen): long(t.TerminalDayFen),
	})
}

// long is n in Cedar, whose numbers end at 2⁶³-1: no amount of money is above it, and what is counts as all of it.
func long(n uint64) types.Long { return types.Long(min(n, 1<<63-1)) } //nolint:gosec // no more than fits

const totalsAttribute = "totals"

// totalsOf are the running totals that a policy's conditions mention, in the order of TotalNames: all, where it takes them as a whole.
func totalsOf(p *ast.Policy) []TotalName {
	found := map[TotalName]bool{}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch n := n.(type) {
			case ast.NodeTypeAccess:
				if isTotals(n.Arg) && slices.Contains(TotalNames(), TotalName(n.Value)) {
					found[TotalName(n.Value)] = true
					return false
				}
				if isContext(n.Arg) && n.Value != totalsAttribute {
					return false
				}
			case ast.NodeTypeHas:
				if isContext(n.Arg) && n.Value != totalsAttribute {
					return false
				}
			case ast.NodeTypeVariable: // the context, and in it the totals, in any other use
				if n.Name == "context" {
					for _, name := range TotalNames() {
						found[name] = true
					}
				}
			}
			return true
		})
	}
	return slices.DeleteFunc(TotalNames(), func(n TotalName) bool { return !found[n] })
}

// asksContext reports whether a policy's conditions mention the context.
func asksContext(p *ast.Policy) (found bool) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			found = found || isContext(n)
			return !found
		})
	}
	return found
}

func isContext(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "context"
}

func isTotals(n ast.IsNode) bool {
	a, ok := n.(ast.NodeTypeAccess)
	return ok && a.Value == totalsAttribute && isContext(a.Arg)
}

// late is what of a decision waits for the running totals.
type late struct {
	plan      *plan
	context   types.RecordMap // without the totals
	permitted bool            // a policy that needs no totals permits
	client    string
}

// Late reports whether policies of g are still to be judged, on running totals: g is good only once Judge has agreed.
func (g Grant) Late() bool { return g.late != nil }

// Needs are the running totals that g's late policies mention, in the order of TotalNames.
func (g Grant) Needs() []TotalName {
	if g.late == nil {
		return nil
	}
	return g.late.plan.needs
}

// Judge judges the late policies of g; those who judge nothing may not go on with a Late grant. The error is a *Denied that names the
// policy. A grant that is not late is good as it is; the zero Grant is refused.
func (g Grant) Judge(t Totals) error {
	if g.operation == "" {
		return &Denied{Reason: "no grant"}
	}
	l := g.late
	if l == nil {
		return nil
	}
	context := maps.Clone(l.context)
	context[totalsAttribute] = t.record()
	verdict := l.plan.late.judge(l.plan, func() types.Record { return types.NewRecord(context) })
	switch {
	case verdict.forbidden != nil:
		return &Denied{Reason: verdict.why()}
	case !l.permitted && !verdict.permitted:
		return &Denied{Reason: fmt.Sprintf("client %s may not %s with these running totals: no policy permits it", l.client, g.operation)}
	}
	return nil
}
