package policy

import (
	"fmt"
	"regexp"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// rule is one policy of a document, compiled.
type rule struct {
	id       string // of its annotation @id, unique in all documents
	document string
	line     int
	forbid   bool
	syntax   *ast.Policy
	scope    *cedar.Policy // what it says of principal, action and resource, as a permit
	body     *cedar.Policy // its conditions alone; nil: it has none

	asksContext bool        // its conditions ask for something of the context
	totals      []TotalName // the running totals that they mention
	keySets     []named     // the key sets that it names, itself or by a key of theirs
}

// named is a key set that a policy names, and where.
type named struct {
	keySet       string
	line, column int
}

// String names the rule in a reason.
func (r *rule) String() string { return fmt.Sprintf("policy %s (%s:%d)", r.id, r.document, r.line) }

// builtinDocument is the name of what is part of every policy.
const builtinDocument = "built-in"

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// compile parses and checks the documents, the built-in one first. clients are the names of those there are.
func compile(documents []Document, clients map[string]bool) (rules []*rule, problems []Problem) {
	ids, names := map[string]*rule{}, map[string]bool{}
	for i, d := range append([]Document{{builtinDocument, builtin}}, documents...) {
		switch {
		case !nameForm.MatchString(d.Name):
			problems = append(problems, Problem{d.Name, 0, 0, fmt.Sprintf("document %d has the name %q: expected %s", i, d.Name, nameForm)})
			continue
		case d.Name == ClientsDocument || d.Name == LimitsDocument: // what is wrong with it would be looked for in the file of that name
			problems = append(problems, Problem{d.Name, 0, 0, fmt.Sprintf("a document of policies has the name %s, which is that of the list of clients or of the limits", d.Name)})
			continue
		case names[d.Name]:
			problems = append(problems, Problem{d.Name, 0, 0, fmt.Sprintf("the name %s is that of another document too", d.Name)})
			continue
		}
		names[d.Name] = true
		found, faults := parse(d, ids)
		faults = append(faults, checkRules(found, d.Text, clients)...)
		sortProblems(faults)
		rules, problems = append(rules, found...), append(problems, faults...)
	}
	return rules, problems
}

// parse reads one document; ids are those of the policies before it.
func parse(d Document, ids map[string]*rule) (rules []*rule, problems []Problem) {
	if problem, ok := tooMuch(d); ok {
		return nil, []Problem{problem}
	}
	list, err := cedar.NewPolicyListFromBytes(d.Name, []byte(d.Text))
	if err != nil {
		return nil, []Problem{syntaxProblem(d, err)}
	}
	if len(list) == 0 {
		return nil, []Problem{{d.Name, 1, 1, "no policy: expected at least one permit or forbid"}}
	}
	for _, p := range list {
		r := newRule(d.Name, (*ast.Policy)(p.AST()))
		at := func(text string, args ...any) Problem {
			return Problem{d.Name, r.line, r.syntax.Position.Column, fmt.Sprintf(text, args...)}
		}
		switch before := ids[r.id]; {
		case r.id == "":
			problems = append(problems, at(`a policy without @id("..."): expected one, by which the record names it`))
		case !nameForm.MatchString(r.id):
			problems = append(problems, at("@id(%q): expected %s", r.id, nameForm))
		case before != nil:
			problems = append(problems, at("@id(%q) is also that of the policy at %s:%d", r.id, before.document, before.line))
		default:
			ids[r.id] = r
		}
		rules = append(rules, r)
	}
	return rules, problems
}

// What a document may be: a text that a person reads. The library's work on an expression grows with the square of its depth, and that is
// of its brackets, and of operators one after another.
const (
	maxDocument = 64 << 10 // bytes
	maxDepth    = 50       // brackets in brackets, and signs before one value
	maxJoined   = 100      // of one policy: operators and methods that join values, else, and conditions
)

// tooMuch refuses a document before it is parsed.
func tooMuch(d Document) (Problem, bool) {
	if len(d.Text) > maxDocument {
		return Problem{d.Name, 0, 0, fmt.Sprintf("%d bytes, expected at most %d", len(d.Text), maxDocument)}, true
	}
	if problem, ok := unseen(d); ok {
		return problem, true
	}
	depth, signs, joined := 0, 0, 0
	all := words(tokens(d.Text))
	for i, t := range all {
		if problem := t.unclear(); problem != "" {
			return Problem{d.Name, t.line, t.column, problem}, true
		}
		sign := !t.quoted && (t.text == "!" || t.text == "-")
		switch {
		case sign:
			signs++
		case !t.quoted && (t.text == "(" || t.text == "[" || t.text == "{"):
			depth++
		case !t.quoted && (t.text == ")" || t.text == "]" || t.text == "}"):
			depth--
		}
		if !sign {
			signs = 0
		}
		switch {
		case !t.quoted && t.text == ";":
			joined = 0
		case all.joins(i):
			joined++
		}
		if joined > maxJoined {
			return Problem{d.Name, t.line, t.column, fmt.Sprintf("more than %d operators and conditions in one policy: write several, or values as a set", maxJoined)}, true
		}
		if depth > maxDepth || signs > maxDepth {
			return Problem{d.Name, t.line, t.column, fmt.Sprintf("nested more than %d deep", maxDepth)}, true
		}
	}
	return Problem{}, false
}

// joins reports whether a token joins values or conditions, or is the bracket of a method that is called on a value.
func (w words) joins(i int) bool {
	switch t := w[i]; {
	case t.quoted:
	case t.text == "&" || t.text == "|":
		return i > 0 && w.is(i-1, t.text) // the second of two
	case t.text == "(":
		return i > 1 && w.is(i-2, ".")
	case t.text == "+" || t.text == "-" || t.text == "*" || t.text == "else" || t.text == "when" || t.text == "unless":
		return true
	}
	return false
}

// newRule splits a policy into what its scope says and its conditions.
func newRule(document string, p *ast.Policy) *rule {
	scope, body := *p, *p
	scope.Conditions = nil
	body.Principal, body.Action, body.Resource = ast.ScopeTypeAll{}, ast.ScopeTypeAll{}, ast.ScopeTypeAll{}
	scope.Effect = ast.EffectPermit // so that a match is an Allow
	r := &rule{
		document: document, line: p.Position.Line, forbid: p.Effect == ast.EffectForbid, syntax: p,
		scope: cedar.NewPolicyFromAST((*public.Policy)(&scope)), totals: totalsOf(p), asksContext: asksContext(p),
	}
	if len(p.Conditions) > 0 {
		r.body = cedar.NewPolicyFromAST((*public.Policy)(&body))
	}
	if i := slices.IndexFunc(p.Annotations, func(a ast.AnnotationType) bool { return a.Key == "id" }); i >= 0 {
		r.id = string(p.Annotations[i].Value)
	}
	return r
}
