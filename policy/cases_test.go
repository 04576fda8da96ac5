package policy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func runCases(t *testing.T, text string, rules Rules) (lines []string) {
	t.Helper()
	cases, err := ParseCases(Document{"cases", text})
	require.NoError(t, err)
	failures, err := cases.Run(rules)
	require.NoError(t, err)
	for _, f := range failures {
		lines = append(lines, (&Problem{"cases", f.Line, 0, f.Text}).String())
	}
	return lines
}

// Every method, and every command, for every role: what the shipped documents give is what their table says, and no cell is missing.
func TestTheShippedDocumentsGiveTheShippedTable(t *testing.T) {
	text := ShippedCases()
	assert.Empty(t, runCases(t, text, Rules{Policies: Shipped()}))
	cases, err := ParseCases(Document{"cases", text})
	require.NoError(t, err)
	cells, _ := cases.Count()
	covered := map[Operation]bool{}
	for _, a := range Actions() {
		covered[a.Operation] = true
		for _, role := range Roles() {
			assert.Contains(t, []string{allow, deny}, cases.table.Cells[a.String()][string(role)], "%v %s", a, role)
			cells--
		}
	}
	assert.Zero(t, cells)
	assert.Len(t, covered, len(Operations()))
}

// Whatever a cell says otherwise is found, with its line: a table that no longer looks would pass.
func TestEveryCellIsLookedAt(t *testing.T) {
	lines := strings.Split(ShippedCases(), "\n")
	var want []string // of each cell, the beginning of what is said
	for i, line := range lines {
		row, cells, found := strings.Cut(line, "{")
		if !found || !strings.HasPrefix(row, "    ") {
			continue
		}
		lines[i] = row + "{" + strings.NewReplacer("allow", "deny", "deny", "allow").Replace(cells)
		for _, role := range Roles() {
			action := strings.TrimRight(strings.TrimSpace(row), ":")
			want = append(want, (&Problem{"cases", i + 1, 0, action + " of " + string(role) + " on "}).String())
		}
	}
	require.Len(t, want, len(Actions())*len(Roles()))
	failures := runCases(t, strings.Join(lines, "\n"), Rules{Policies: Shipped()})
	require.Len(t, failures, len(want))
	for i, f := range failures {
		assert.True(t, strings.HasPrefix(f, want[i]), "%s: %s", want[i], f)
	}
}

// A document that lets a role at key sets that are not its own is found by the table too.
func TestTheTableLooksAtForeignKeySets(t *testing.T) {
	wide := Document{"wide", `@id("wide") permit (principal in Role::"platform", action == Action::"GetTransaction", resource);`}
	assert.Equal(t, []string{`cases:14: GetTransaction of platform on "any-other": expected deny, got allow`},
		runCases(t, ShippedCases(), Rules{Policies: append(Shipped(), wide)}))
}

const someCases = `cases:
  - name: a small load
    ask: {client: gd, operation: AuthorizeLoad, keySet: gd-purse, amountFen: 100, totals: {cardDayFen: 1000}}
    expect: allow
    by: loads
  - name: one more on that day
    ask: {client: gd, operation: AuthorizeLoad, keySet: gd-purse, amountFen: 100, totals: {cardDayFen: 1001}}
    expect: deny
    by: day
`

func someRules() Rules {
	return Rules{
		Clients:  []Client{{Name: "gd", Identity: "i", Role: Platform, KeySets: []string{"gd-purse"}}},
		Policies: []Document{{"a", permitLoads}, {"b", dayForbids}},
	}
}

func TestCasesOneByOne(t *testing.T) {
	assert.Empty(t, runCases(t, someCases, someRules()))
	assert.Equal(t, []string{
		"cases:2: a small load: it is allow, but not by a permit of the policy day",
		"cases:6: one more on that day: it is deny, but not by a forbid of the policy loads",
	}, runCases(t, strings.NewReplacer("by: day", "by: loads", "by: loads", "by: day").Replace(someCases), someRules()))
	assert.Equal(t, []string{
		"cases:2: a small load: expected deny, got allow",
		"cases:6: one more on that day: expected allow, got deny: permission denied: policy day (b:1) forbids it",
	}, runCases(t, strings.NewReplacer("allow", "deny", "deny", "allow").Replace(someCases), someRules()))
	tests := []struct{ old, new, want string }{
		{"client: gd", "client: hn", `cases:2: a small load: client: "hn" is not in the list of clients`},
		{"operation: AuthorizeLoad", "operation: Authorise", `cases:2: a small load: operation: "Authorise" is no method of the API`},
		{"keySet: gd-purse", "keySet: GD", `cases:2: a small load: keySet: "GD", expected ^[a-z0-9][a-z0-9-]{0,62}$`},
		{"operation: AuthorizeLoad", "operation: ListChanges", `cases:2: a small load: keySet: ListChanges is of no key set`},
		{"amountFen: 100", "purse: ep", `cases:2: a small load: purse: "ep", expected ED or EP`},
		{"amountFen: 100", `terminal: "1122 3344 5566"`, `cases:2: a small load: terminal: "1122 3344 5566", expected 12 hex digits, letters as capitals`},
		{"amountFen: 100", "time: noon", `cases:2: a small load: time: "noon", expected one such as 2024-01-31T23:59:59+08:00`},
		{"amountFen: 100", "command: CardBlock", `cases:2: a small load: command: "CardBlock", expected none of AuthorizeLoad`},
		{
			"operation: AuthorizeLoad", "operation: AuthenticateCard",
			`cases:2: a small load: command: "", expected one of AuthenticateExternal, AuthenticateInternal`,
		},
	}
	for _, test := range tests {
		changed := strings.Replace(someCases, test.old, test.new, 1)
		assert.Equal(t, []string{test.want}, runCases(t, changed, someRules()), test.new)
	}
}

func TestTablesThatAreNotWhole(t *testing.T) {
	whole := ShippedCases()
	tests := []struct{ old, new, want string }{
		{"auditor: allow, personaliser: deny,  operator: deny}", "auditor: allow, personaliser: deny}",
			`cases:14: table.cells.'GetTransaction': operator is "", expected allow or deny`},
		{"{platform: allow, reader: deny,  officer: allow", "{platform: perhaps, reader: deny,  officer: allow",
			`cases:14: table.cells.'GetTransaction': platform is "perhaps", expected allow or deny`},
		{"operator: deny}", "operator: deny, king: allow}", `cases:10: table.cells.'AuthorizeLoad': "king" is no role`},
		{"SignCommand CardBlock:", "SignCommand Cardblock:", `cases:10: table.cells: the row "SignCommand CardBlock" is missing`},
		{"keySet: gd-purse", "keySet: GD", `cases:7: table.keySet: "GD", expected ^[a-z0-9][a-z0-9-]{0,62}$`},
		{"keySet: gd-purse", "keyset: gd-purse", `cases:7: table.keyset: unknown field`},
		{"  cells:", "  cells: [", "cases:9: "},
	}
	for _, test := range tests {
		_, err := ParseCases(Document{"cases", strings.Replace(whole, test.old, test.new, 1)})
		var invalid *Invalid
		require.ErrorAs(t, err, &invalid, test.new)
		assert.Contains(t, invalid.Error(), test.want, test.new)
	}
	_, err := ParseCases(Document{"cases", strings.Replace(someCases, "expect: deny", "expect: denied", 1)})
	require.EqualError(t, err, `cases:8: cases[1].expect: "denied", expected allow or deny`)
}
