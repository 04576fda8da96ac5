package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// problemsOf are what New finds wrong with one document, beside the clients of a small world.
func problemsOf(t *testing.T, text string) []string {
	t.Helper()
	_, err := New(Rules{
		Clients: []Client{
			{Name: "gd", Identity: "spiffe://test/gd", Role: Platform, KeySets: []string{"gd-purse"}},
			{Name: "ann", Identity: "spiffe://test/ann", Role: Officer},
		},
		Policies: []Document{{"doc", text}},
	})
	var invalid *Invalid
	if !errors.As(err, &invalid) {
		require.NoError(t, err)
		return nil
	}
	return strings.Split(invalid.Error(), "\n")
}

// Every kind of fault, with the place and the name that is at fault.
func TestFaultsHaveTheirPlace(t *testing.T) {
	const load = `@id("a") permit (principal, action == Action::"AuthorizeLoad", resource)`
	tests := []struct{ name, text, want string }{
		{"syntax", "@id(\"a\")\npermit (principal, action resource);", `doc:2:27: syntax: "resource", expected ","`},
		{"a string too many", "@id(\"a\")\npermit (principal, \"x\", resource);", `doc:2:20: syntax: "\"x\"", expected "action"`},
		{"an end too soon", "@id(\"a\")\npermit (principal, action, resource)", `doc:2:37: syntax: the document ends, expected ";"`},
		{"an open string", "@id(\"a) permit", `doc:1:5: syntax: literal not terminated`},
		{"a misspelt variable", `@id("a") permit (principle, action, resource);`, `doc:1:18: syntax: "principle", expected "principal"`},
		{"a misspelt effect", "\n@id(\"a\") allow (principal, action, resource);", `doc:2:10: syntax: "allow", expected permit or forbid`},
		{"an unknown function", `@id("a") permit (principal, action, resource) when { now() > 1 };`, "doc:1:54: syntax: `now` is not a function"},
		{"nothing", "// later", `doc:1:1: no policy: expected at least one permit or forbid`},
		{"no id", "\n permit (principal, action, resource);", `doc:2:2: a policy without @id("..."): expected one, by which the record names it`},
		{"a wrong id", `@id("A b") permit (principal, action, resource);`, `doc:1:1: @id("A b"): expected ^[a-z0-9][a-z0-9-]{0,62}$`},
		{"an id twice", load + ";\n" + load + ";", `doc:2:1: @id("a") is also that of the policy at doc:1`},
		{
			"an id of the built-in document", `@id("built-in-officers") permit (principal, action, resource);`,
			`doc:1:1: @id("built-in-officers") is also that of the policy at built-in:4`,
		},
		{
			"an unknown action", `@id("a") permit (principal, action in [Action::"AuthorizeLoad", Action::"AuthoriseLoad"], resource);`,
			`doc:1:65: unknown action Action::"AuthoriseLoad"`,
		},
		{
			"an unknown action in a condition", `@id("a") permit (principal, action, resource)` + "\n" + `unless { action == Action::"Sign" };`,
			`doc:2:20: unknown action Action::"Sign"`,
		},
		{
			"a group that is no command", `@id("a") permit (principal, action == Action::"SignCommand", resource);`,
			`doc:1:39: Action::"SignCommand" is a group: say "action in Action::"SignCommand"", or name what is in it`,
		},
		{
			"a group in a condition", `@id("a") permit (principal, action, resource) when { action == Action::"AuthenticateCard" };`,
			`doc:1:64: Action::"AuthenticateCard" is a group: say "action in Action::"AuthenticateCard"", or name what is in it`,
		},
		{
			"an unknown entity type", `@id("a") permit (principal in Group::"x", action, resource);`,
			`doc:1:31: unknown entity type Group: expected one of Client, Key, KeySet, Role, Signer`,
		},
		{
			"an unknown type after is", load + ` when { resource is KeyRing };`,
			`doc:1:93: unknown entity type KeyRing: expected one of Client, Key, KeySet, Role, Signer`,
		},
		{
			"an unknown client", `@id("a") permit (principal == Client::"gdd", action, resource);`,
			`doc:1:31: unknown client Client::"gdd": it is not in the list of clients`,
		},
		{
			"an unknown role", `@id("a") permit (principal in Role::"plattform", action, resource);`,
			`doc:1:31: unknown role Role::"plattform": expected one of [platform reader officer auditor personaliser operator]`,
		},
		{
			"a key of no kind", `@id("a") permit (principal, action, resource == Key::"gd-purse/lod");`,
			`doc:1:49: Key::"gd-purse/lod": expected Key::"KEYSET/KIND", with one of the kinds [purchase load unload overdraft tac` +
				` pin-unblock pin-reload maintenance control internal-auth reader reader-control]`,
		},
		{
			"a key set of no name", `@id("a") permit (principal, action, resource in KeySet::"GD");`,
			`doc:1:49: KeySet::"GD": the name of a key set is ^[a-z0-9][a-z0-9-]{0,62}$`,
		},
		{"another signer", `@id("a") permit (principal, action, resource == Signer::"x");`, `doc:1:49: Signer::"x": there is only Signer::"signer"`},
		{"an unknown attribute", load + "\nwhen { context.amount > 5 };", "doc:2:16: unknown attribute `amount` of the context of AuthorizeLoad"},
		{"an unknown attribute after has", load + "\nwhen { context has amount };", "doc:2:20: unknown attribute `amount` of the context"},
		{"an unknown attribute of the client", load + " when { principal.owner == \"x\" };", "doc:1:91: unknown attribute `owner` on entity type `Client`"},
		{"an unknown attribute after a client's has", load + " when { principal has owner };", "doc:1:95: unknown attribute `owner` of the principal"},
		{"an unknown total", load + " when { context.totals.cardWeekFen < 5 };", "doc:1:96: unknown attribute `cardWeekFen` of the context of AuthorizeLoad"},
		{
			"an attribute that not all actions have", `@id("a") permit (principal, action in [Action::"AuthorizeLoad", Action::"Seal", Action::"Open"], resource)` +
				"\nwhen { context.totals.cardDayFen < 5 };", "doc:2:16: unknown attribute `totals` of the context of Open, Seal",
		},
		{
			"an attribute of far too many actions", `@id("a") permit (principal, action, resource) when { context.totals.cardDayFen < 5 };`,
			"doc:1:62: unknown attribute `totals` of the context of ApplicationBlock and 45 more actions",
		},
		{
			"an attribute that may be absent", load + "\nwhen { context.amountFen <= 100 };",
			`doc:2:16: the attribute amountFen of AuthorizeLoad may be absent: say first that it is there, as in "context has amountFen && ..."`,
		},
		{
			"a guard that is not one", load + "\nwhen { context has amountFen || context.amountFen <= 100 };",
			`doc:2:41: the attribute amountFen of AuthorizeLoad may be absent: say first that it is there, as in "context has amountFen && ..."`,
		},
		{"a wrong type", load + "\nwhen { true }\nunless { context.hour == \"8\" };", "doc:3:1: the types Long and String are not compatible"},
		{"a condition that is none", load + "\nwhen { \"yes\" };", "doc:2:1: unexpected type: expected Bool but saw String"},
		{"a wrong time", load + "\nwhen { context.time > datetime(\"2024-13-01\") };",
			"doc:2:32: error during extension function argument validation: failed to parse as a datetime value: `\"2024-13-01\"`"},
		{"a purse that is none", load + " when { context has purse && context.purse == \"ep\" };", `doc:1:119: purse is never "ep": it is ^(ED|EP)$`},
		{
			"a terminal with spaces", `@id("a") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has terminal && ["1122 3344 5566"].contains(context.terminal) };`,
			`doc:1:106: terminal is never "1122 3344 5566": it is ^[0-9A-F]{12}$`,
		},
		{"an algorithm that is none", load + " unless { resource.algorithm != \"DES\" };", `doc:1:105: algorithm is never "DES": it is ^(3DES|SM4)$`},
		{"another key set's attribute", load + " when { KeySet::\"x\".algorithm == \"SM4\" };", `doc:1:93: the attribute algorithm of KeySet::"x": only those of principal and resource are known`},
		{
			"a role for a client", `@id("a") permit (principal == Role::"platform", action, resource);`,
			`doc:1:1: it can never apply: no action that it names has that kind of principal and of resource`,
		},
		{
			"an action with the wrong resource", `@id("a") permit (principal, action == Action::"ProposeChange", resource is Key);`,
			`doc:1:1: it can never apply: no action that it names has that kind of principal and of resource`,
		},
		{"a condition that is never true", load + " when { resource is Signer };", `doc:1:1: its conditions are never true: it can never apply`},
		{"an exception that is always true", load + " unless { principal is Client };", `doc:1:1: its conditions are never true: it can never apply`},
	}
	for _, test := range tests {
		assert.Equal(t, []string{test.want}, problemsOf(t, test.text), test.name)
	}
}

// What would keep the type checker busy, or the parser deep, is refused before it is parsed.
func TestDocumentsThatNobodyReads(t *testing.T) {
	const head = `@id("a") forbid (principal, action, resource is Key) when { `
	for text, want := range map[string]string{
		strings.Repeat("[", 20000) + "1" + strings.Repeat("]", 20000) + ".contains(1) };": "doc:1:110: nested more than 50 deep",
		strings.Repeat("!", 20000) + "true };":                                            "doc:1:111: nested more than 50 deep",
		strings.Repeat("(", 60000):                                                        "doc:1:110: nested more than 50 deep",
		strings.Repeat("x", 1<<16):                                                        "doc: 65596 bytes, expected at most 65536",
	} {
		assert.Equal(t, []string{want}, problemsOf(t, head+text))
	}
	assert.Empty(t, problemsOf(t, head+strings.Repeat("(", 49)+"context.hour > 1"+strings.Repeat(")", 49)+` && context.profile like "[[[[[[[*" };`))
}

func TestAllFaultsOfAllDocumentsAreSaid(t *testing.T) {
	_, err := New(Rules{
		Clients: []Client{{Name: "x", Identity: "i", Role: "boss"}},
		Policies: []Document{
			{"Upper", "x"}, {"one", `@id("a") permit (principal in Rolle::"x", action == Action::"y", resource);`}, {"two", "("}, {"one", "x"},
			{"built-in", `@id("b") permit (principal, action, resource);`},
		},
	})
	require.EqualError(t, err, strings.Join([]string{
		`clients: client "x": role "boss": expected one of [platform reader officer auditor personaliser operator]`,
		`Upper: document 1 has the name "Upper": expected ^[a-z0-9][a-z0-9-]{0,62}$`,
		`one:1:31: unknown entity type Rolle: expected one of Client, Key, KeySet, Role, Signer`,
		`one:1:53: unknown action Action::"y"`,
		`two:1:1: syntax: "(", expected permit or forbid`,
		`one: the name one is that of another document too`,
		`built-in: the name built-in is that of another document too`,
	}, "\n"))
}

func TestGoodDocumentsHaveNoProblems(t *testing.T) {
	for _, text := range []string{
		`@id("a") permit (principal == Client::"gd", action in Action::"SignCommand", resource in KeySet::"gd-purse");`,
		`@id("a") permit (principal, action == Action::"AuthorizeLoad", resource == Key::"gd-purse/load")
		 when { context has amountFen && context.amountFen <= 50000 && context.hour >= 8 && context.weekday < 6 && context.date > 20240101 };`,
		`@id("a") forbid (principal, action, resource) when { context has terminal && context.terminal like "1122*" };`,
		`@id("a") forbid (principal, action in [Action::"AuthorizeLoad", Action::"AuthorizeUnload"], resource)
		 when { context.totals.cardDayFen > 50000 || context.totals.cardHourCount > 10 };`,
		`@id("a") @why("a reason") forbid (principal, action, resource is Key) unless { ["3DES", "SM4"].contains(context.algorithm) };`,
		`@id("a") forbid (principal is Client in Role::"platform", action == Action::"ApplicationBlock", resource) when { context.permanent };`,
	} {
		assert.Empty(t, problemsOf(t, text), text)
	}
}

// Nothing takes from officers, of now or to come, the means to put a right back.
func TestOfficersAreNotLockedOut(t *testing.T) {
	const advice = `, which nothing may: leave officers out, as in "unless { principal in Role::"officer" }"`
	tests := []struct{ name, text, want string }{
		{"everybody", `@id("a") forbid (principal, action, resource);`, "doc:1:1: a could keep an officer from ProposeChange" + advice},
		{"one of them", "\n@id(\"a\") forbid (principal == Client::\"ann\", action == Action::\"ReadChange\", resource);",
			"doc:2:1: a could keep officer ann from ReadChange" + advice},
		{"at night", `@id("a") forbid (principal in Role::"officer", action == Action::"ApproveChange", resource) when { context.hour < 6 };`,
			"doc:1:1: a could keep an officer from ApproveChange" + advice},
		{"those of no key set", `@id("a") forbid (principal, action, resource) when { principal.keySets.isEmpty() };`,
			"doc:1:1: a could keep an officer from ProposeChange" + advice},
		{"all but one", `@id("a") forbid (principal, action, resource is Signer) unless { principal == Client::"ann" };`,
			"doc:1:1: a could keep an officer from ProposeChange" + advice},
		{"what may be an overflow", `@id("a") forbid (principal, action == Action::"ListChanges", resource) when { context.date * 9223372036854775807 == 1 };`,
			"doc:1:1: a could keep an officer from ListChanges" + advice},
	}
	for _, test := range tests {
		assert.Equal(t, []string{test.want}, problemsOf(t, test.text), test.name)
	}
	for _, text := range []string{
		`@id("a") forbid (principal, action, resource) unless { principal in Role::"officer" };`,
		`@id("a") forbid (principal in Role::"officer", action == Action::"UnlockCard", resource);`,
		`@id("a") forbid (principal, action, resource is KeySet);`,
		`@id("a") forbid (principal == Client::"gd", action, resource);`,
		`@id("a") forbid (principal, action, resource) when { context has amountFen && context.amountFen > 5 };`,
	} {
		assert.Empty(t, problemsOf(t, text), text)
	}
}
