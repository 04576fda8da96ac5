package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// checker judges one policy against the schema and against what Rules know.
type checker struct {
	*rule
	words   words
	clients map[string]bool // by name
	found   []Problem
}

// checkRules judges the policies of one document; text is the document's.
func checkRules(rules []*rule, text string, clients map[string]bool) (problems []Problem) {
	all := words(tokens(text))
	for i, r := range rules {
		end := -1
		if i+1 < len(rules) {
			end = rules[i+1].syntax.Position.Offset
		}
		c := &checker{rule: r, words: all.of(r.syntax.Position.Offset, end), clients: clients}
		c.names()
		c.literals()
		if len(c.found) == 0 { // what is misspelt would be said again in other words
			c.types()
		}
		if len(c.found) == 0 && c.neverApplies() {
			c.refuse(c.start(), "its conditions are never true: it can never apply")
		}
		problems = append(problems, c.found...)
	}
	return problems
}

func (c *checker) refuse(at token, text string, args ...any) {
	problem := Problem{c.document, at.line, at.column, fmt.Sprintf(text, args...)}
	if !slices.Contains(c.found, problem) {
		c.found = append(c.found, problem)
	}
}

// start is where the policy begins.
func (c *checker) start() token { return token{line: c.line, column: c.syntax.Position.Column} }

// at is a place that was looked for, or where the policy begins.
func (c *checker) at(t token, ok bool) token {
	if ok {
		return t
	}
	return c.start()
}

// types has the library check the types, one condition after the other, so that its words have a place.
func (c *checker) types() {
	scope := *c.syntax
	scope.Conditions = nil
	c.complaints(&scope, c.words, c.start())
	for i, condition := range c.syntax.Conditions {
		p := scope
		p.Conditions = []ast.ConditionType{condition}
		place := c.at(c.words.keyword(i, "when", "unless"))
		end := -1
		if next, ok := c.words.keyword(i+1, "when", "unless"); ok {
			end = next.offset
		}
		c.complaints(&p, c.words.of(place.offset, end), place)
	}
}

// complaints has the library check p, which is in some words, and whose faults are at a place unless a better one is found in the words.
func (c *checker) complaints(p *ast.Policy, in words, place token) {
	said := map[string][]string{} // what is wrong, and the actions for which it is
	for _, text := range lines(theSchema().validator.Policy("", p)) {
		text, action := splitAction(text)
		said[text] = append(said[text], action)
	}
	for _, text := range slices.Sorted(keysOf(said)) {
		c.refuse(placeOf(text, in, place), "%s", inWords(text, said[text]))
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

var ofAction = regexp.MustCompile(` in context for Action::"(\w+)"`)

// splitAction takes the action out of a complaint about the context.
func splitAction(text string) (rest, action string) {
	if m := ofAction.FindStringSubmatch(text); m != nil {
		return strings.Replace(text, m[0], " of the context", 1), m[1]
	}
	return text, ""
}

var quotedName = regexp.MustCompile("`([^`]+)`")

// placeOf finds the name that a complaint is about.
func placeOf(text string, in words, otherwise token) token {
	m := quotedName.FindStringSubmatch(text)
	if m == nil {
		return otherwise
	}
	name := m[1][strings.LastIndexByte(m[1], '.')+1:]
	if t, ok := in.attribute(name, false); ok {
		return t
	}
	if t, ok := in.text(strings.Trim(m[1], `"`)); ok {
		return t
	}
	return otherwise
}

// inWords says a complaint of the library as it helps whoever wrote the policy.
func inWords(text string, actions []string) string {
	actions = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(actions))), func(a string) bool { return a == "" })
	of := ""
	switch len(actions) {
	case 0:
	case 1, 2, 3:
		of = " of " + strings.Join(actions, ", ")
	default:
		of = fmt.Sprintf(" of %s and %d more actions", actions[0], len(actions)-1)
	}
	switch {
	case strings.HasPrefix(text, "unable to find an applicable action"):
		return "it can never apply: no action that it names has that kind of principal and of resource"
	case strings.HasPrefix(text, "unable to guarantee safety of access to optional attribute"):
		name := quotedName.FindStringSubmatch(text)[1]
		return fmt.Sprintf("the attribute %s%s may be absent: say first that it is there, as in \"context has %s && ...\"", name, of, name)
	case strings.HasPrefix(text, "attribute ") && strings.HasSuffix(text, " not found"):
		return "unknown " + strings.TrimSuffix(text, " not found") + of
	}
	return text + of
}

// neverApplies reports whether the types alone say that the conditions are false. The library says so only by leaving out what is
// behind a condition that is: a wrong expression there is then no fault.
func (c *checker) neverApplies() bool {
	if len(c.syntax.Conditions) == 0 {
		return false
	}
	all := ast.True()
	for _, condition := range c.syntax.Conditions {
		body := ast.NewNode(condition.Body)
		if condition.Condition == ast.ConditionUnless {
			body = ast.Not(body)
		}
		all = all.And(body)
	}
	wrong := ast.Long(1).Add(ast.String("")).Equal(ast.Long(1))
	probe := *c.syntax
	probe.Conditions = []ast.ConditionType{{Condition: ast.ConditionWhen, Body: ast.IfThenElse(all, wrong, ast.True()).AsIsNode()}}
	return theSchema().validator.Policy("", &probe) == nil
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
