package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
)

// Cases are what rules must allow and deny: a table of roles, and requests one by one. They are no part of the rules.
type Cases struct {
	table *table
	cases []Case
	lines map[string]int // of the fields
}

// table is what the role of a client alone gives it, on a key set of its own. On one that is not its own everything is denied.
type table struct {
	// KeySet is the one that the clients of the table have.
	KeySet string `yaml:"keySet"`
	// Request is the rest of each request.
	Request Asked `yaml:"request"`
	// Cells has a row for every action, with "allow" or "deny" for every role.
	Cells map[string]map[string]string `yaml:"cells"`
}

// Case is one request and what must come of it.
type Case struct {
	Name   string `yaml:"name"`
	Ask    Asked  `yaml:"ask"`
	Expect string `yaml:"expect"` // "allow" or "deny"
	// By is a policy that must have its say: one that permits, or one that forbids.
	By string `yaml:"by"`
}

// What a case expects.
const (
	allow = "allow"
	deny  = "deny"
)

// Failure is a case that came out otherwise, with its line in the document.
type Failure struct {
	Line int
	Text string
}

// ParseCases reads a table of cases. The error is an *Invalid.
func ParseCases(d Document) (*Cases, error) {
	var file struct {
		Table *table `yaml:"table"`
		Cases []Case `yaml:"cases"`
	}
	doc, err := strictyaml.Parse([]byte(d.Text))
	if err != nil {
		return nil, &Invalid{[]Problem{inDocument(d.Name, strictyaml.Syntax(err))}}
	}
	if problems := doc.Decode(&file); problems != nil {
		invalid := &Invalid{}
		for _, p := range problems {
			invalid.Problems = append(invalid.Problems, inDocument(d.Name, p))
		}
		return nil, invalid
	}
	c := &Cases{table: file.Table, cases: file.Cases, lines: map[string]int{}}
	invalid := &Invalid{}
	refuse := func(field, text string, args ...any) {
		invalid.Problems = append(invalid.Problems, Problem{d.Name, doc.Line(field), 0, field + ": " + fmt.Sprintf(text, args...)})
	}
	for i, one := range c.cases {
		field := fmt.Sprintf("cases[%d]", i)
		c.lines[field] = doc.Line(field)
		if one.Expect != allow && one.Expect != deny {
			refuse(field+".expect", "%q, expected allow or deny", one.Expect)
		}
	}
	if c.table != nil {
		c.table.check(refuse)
		for row, cells := range c.table.Cells {
			for role := range cells {
				c.lines[row+" "+role] = doc.Line("table.cells.'" + row + "'." + role)
			}
		}
	}
	if len(invalid.Problems) > 0 {
		return nil, invalid
	}
	return c, nil
}

func inDocument(name string, p strictyaml.Problem) Problem {
	text := p.Reason
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	return Problem{name, p.Line, 0, text}
}

// check refuses rows and roles that are not there, and cells that are left out: what a table does not say nobody looks at.
func (t *table) check(refuse func(field, text string, args ...any)) {
	if !nameForm.MatchString(t.KeySet) {
		refuse("table.keySet", "%q, expected %s", t.KeySet, nameForm)
	}
	rows := map[string]bool{}
	for _, a := range Actions() {
		rows[a.String()] = true
		cells, there := t.Cells[a.String()]
		if !there {
			refuse("table.cells", "the row %q is missing", a)
			continue
		}
		for _, role := range Roles() {
			if got := cells[string(role)]; got != allow && got != deny {
				refuse("table.cells.'"+a.String()+"'", "%s is %q, expected allow or deny", role, got)
			}
		}
		for role := range cells {
			if !slices.Contains(Roles(), Role(role)) {
				refuse("table.cells.'"+a.String()+"'", "%q is no role", role)
			}
		}
	}
	for row := range t.Cells {
		if !rows[row] {
			refuse("table.cells", "the row %q is no action", row)
		}
	}
}

// Count is how many cells and cases there are.
func (c *Cases) Count() (cells, cases int) {
	if c.table != nil {
		cells = len(Actions()) * len(Roles())
	}
	return cells, len(c.cases)
}

// Run decides every case by rules, and returns those that came out otherwise, in the order of their lines.
func (c *Cases) Run(rules Rules) (failures []Failure, err error) {
	p, err := New(rules)
	if err != nil {
		return nil, err
	}
	for i, one := range c.cases {
		if text := one.run(p); text != "" {
			failures = append(failures, Failure{c.lines[fmt.Sprintf("cases[%d]", i)], fmt.Sprintf("%s: %s", one.Name, text)})
		}
	}
	if c.table != nil {
		found, err := c.runTable(rules)
		if err != nil {
			return nil, err
		}
		failures = append(failures, found...)
	}
	slices.SortStableFunc(failures, func(a, b Failure) int { return a.Line - b.Line })
	return failures, nil
}

// run says what came out otherwise, "" when it came out as expected.
func (c Case) run(p *Policy) string {
	r, err := c.Ask.Request(p)
	if err != nil {
		return err.Error()
	}
	e := p.Explain(r, c.Ask.Totals)
	got := deny
	if e.Allowed {
		got = allow
	}
	if got != c.Expect {
		return strings.TrimSuffix(fmt.Sprintf("expected %s, got %s: %s", c.Expect, got, e.Reason), ": ")
	}
	effect := "forbid"
	if e.Allowed {
		effect = "permit"
	}
	by := func(w Word) bool { return w.ID == c.By && w.Applies && w.Effect == effect }
	if c.By != "" && !slices.ContainsFunc(e.Words, by) {
		return fmt.Sprintf("it is %s, but not by a %s of the policy %s", got, effect, c.By)
	}
	return ""
}

// tableClient is the client of a role in the table. No list of clients has such a name: it has a space.
func tableClient(role Role) string { return "the table's " + string(role) }

// runTable decides every cell, on the key set of the table and on one that is not the client's.
func (c *Cases) runTable(rules Rules) (failures []Failure, err error) {
	if len(rules.Policies) == 0 {
		rules.Policies = Shipped()
	}
	for _, role := range Roles() {
		name := tableClient(role)
		rules.Clients = append(slices.Clip(rules.Clients), Client{Name: name, Identity: name, Role: role, KeySets: []string{c.table.KeySet}})
	}
	p, err := New(rules)
	if err != nil {
		return nil, err
	}
	for _, a := range Actions() {
		for _, role := range Roles() {
			ask := c.table.Request
			ask.Client, ask.Operation, ask.Command = tableClient(role), string(a.Operation), a.Command
			sets := map[string]string{c.table.KeySet: c.table.Cells[a.String()][string(role)], AnyOther: deny}
			if !a.Operation.OfKeySet() {
				sets = map[string]string{"": c.table.Cells[a.String()][string(role)]}
			}
			for set, expect := range sets {
				ask.KeySet = set
				if text := (Case{Ask: ask, Expect: expect}).run(p); text != "" {
					failures = append(failures, Failure{c.lines[a.String()+" "+string(role)], fmt.Sprintf("%s of %s on %q: %s", a, role, set, text)})
				}
			}
		}
	}
	return failures, nil
}
