package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limitClients are those that the documents here may name.
var limitClients = []Client{
	{Name: "gd", Identity: "spiffe://test/gd", Role: Platform, KeySets: []string{"gd-purse"}},
	{Name: "gx", Identity: "spiffe://test/gx", Role: Platform, KeySets: []string{"gx-purse"}, MaxAmountFen: 100},
}

// newLimited compiles a document of limits.
func newLimited(text string) (*Policy, error) {
	return New(Rules{Clients: limitClients, Limits: &Document{Name: "limits", Text: text}})
}

// Each wrong document is refused at its line, and with the field that is wrong.
func TestWrongLimits(t *testing.T) {
	// entry is a document of one limit per card and day, whose lines after the name are given: the first of them is line 3.
	entry := func(lines ...string) string {
		return "limits:\n  - name: a\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	day := []string{"per: card", "period: day"}
	with := func(lines ...string) string { return entry(append(day, lines...)...) }
	two := func(first, second string) string {
		return fmt.Sprintf("limits:\n  - {name: a, %s}\n  - {name: b, %s}\n", first, second)
	}
	for name, test := range map[string]struct{ text, want string }{
		"no YAML":                 {"limits: [", "limits:1: sequence end token ']' not found"},
		"empty":                   {"", "limits: expected one document with at least one field"},
		"an unknown field":        {with("maxFem: 1"), "limits:5: limits[0].maxFem: unknown field"},
		"a field twice":           {with("maxFen: 1", "maxFen: 2"), `limits:6: mapping key "maxFen" already defined at [5:5]`},
		"an octal number":         {with("maxFen: 0100"), "limits:5: limits[0].maxFen: would be read as another number than is written: write it in quotes"},
		"a text for a number":     {with("maxFen: much"), "limits:5: cannot unmarshal string into Go struct field limitsFile.Limits of type int64"},
		"no name":                 {"limits:\n  - per: card\n    period: day\n    maxFen: 1\n", `limits:2: limits[0].name: "", expected ^[a-z0-9][a-z0-9-]{0,62}$`},
		"no per":                  {entry("maxFen: 1"), `limits:2: limits[0].per: "", expected transaction, balance, card, client or terminal`},
		"another per":             {entry("per: cards", "maxFen: 1"), `limits:3: limits[0].per: "cards", expected transaction, balance, card, client or terminal`},
		"no period":               {entry("per: card", "maxFen: 1"), `limits:2: limits[0].period: "", expected day or hour`},
		"another period":          {entry("per: card", "period: week", "maxFen: 1"), `limits:4: limits[0].period: "week", expected day or hour`},
		"a transaction's period":  {entry("per: transaction", "period: day", "maxFen: 1"), `limits:4: limits[0].period: "day": a limit per transaction has no period`},
		"a balance's period":      {entry("per: balance", "period: day", "maxFen: 1"), `limits:4: limits[0].period: "day": a limit per balance has no period`},
		"no number":               {with(), "limits:2: limits[0]: has no number, expected maxFen, maxCount, alarmFen or alarmCount"},
		"zero":                    {with("maxFen: 0"), "limits:5: limits[0].maxFen: is 0, expected 1 to 1000000000000000: what is never allowed is forbidden by a policy"},
		"below zero":              {with("maxCount: -1"), "limits:5: limits[0].maxCount: is -1, expected 1 to 1000000000"},
		"too much":                {with("maxFen: 1000000000000001"), "limits:5: limits[0].maxFen: is 1000000000000001, expected 1 to 1000000000000000"},
		"more than an amount":     {entry("per: transaction", "maxFen: 4294967296"), "limits:4: limits[0].maxFen: is 4294967296, expected 1 to 4294967295"},
		"a count of one":          {entry("per: transaction", "maxCount: 1"), "limits:4: limits[0].maxCount: a limit per transaction has no running total: it has a maxFen alone"},
		"an alarm of one":         {entry("per: balance", "alarmFen: 1"), "limits:4: limits[0].alarmFen: a limit per balance has no running total: it has a maxFen alone"},
		"an unknown operation":    {with("maxFen: 1", "operations: [AuthorizeLoad, Load]"), `limits:6: limits[0].operations[1]: "Load": expected one of [AuthorizeLoad AuthorizeUnload] for a limit per card`},
		"a purchase's day":        {with("maxFen: 1", "operations: [BeginPurchase]"), `limits:6: limits[0].operations[0]: "BeginPurchase": expected one of [AuthorizeLoad AuthorizeUnload] for a limit per card`},
		"a balance of an unload":  {entry("per: balance", "maxFen: 1", "operations: [AuthorizeUnload]"), `limits:5: limits[0].operations[0]: "AuthorizeUnload": expected one of [AuthorizeLoad] for a limit per balance`},
		"an unknown client":       {with("maxFen: 1", "clients:", "  - gd", "  - dg"), `limits:8: limits[0].clients[1]: "dg": there is no such client`},
		"a client twice":          {with("maxFen: 1", "clients: [gd, gd]"), `limits:6: limits[0].clients[1]: "gd" is there twice`},
		"an unknown role":         {with("maxFen: 1", "roles: [platforms]"), `limits:6: limits[0].roles[0]: "platforms": expected one of [platform reader officer auditor personaliser operator]`},
		"no key set's name":       {with("maxFen: 1", "keySets: [GD]"), `limits:6: limits[0].keySets[0]: "GD": expected a key set's name`},
		"an unknown purse":        {with("maxFen: 1", "purses: [PURSE_EP]"), `limits:6: limits[0].purses[0]: "PURSE_EP": expected ED or EP`},
		"no terminal":             {with("maxFen: 1", "terminals: [11223344556]"), `limits:6: limits[0].terminals[0]: "11223344556": expected 12 hex digits, letters as capitals`},
		"an alarm at the maximum": {with("maxFen: 100", "alarmFen: 100"), "limits:6: limits[0].alarmFen: 100 is not below maxFen, 100: an alarm comes before the refusal"},
		"an alarm count above":    {with("maxCount: 5", "alarmCount: 6"), "limits:6: limits[0].alarmCount: 6 is not below maxCount, 5: an alarm comes before the refusal"},
		"one name twice": {
			"limits:\n  - {name: a, per: transaction, maxFen: 1}\n  - {name: a, per: card, period: day, maxFen: 5}\n",
			`limits:3: limits[1].name: "a" is the name of another limit`,
		},
		"one scope twice": {
			two("per: card, period: day, purses: [EP, ED], maxFen: 5", "per: card, period: day, purses: [ED, EP], maxCount: 6"),
			"limits:3: limits[1]: limit b has the scope of limit a: write both as one",
		},
		"a transaction above its day": {
			two("per: transaction, keySets: [gd-purse], maxFen: 600", "per: card, period: day, maxFen: 500"),
			"limits:2: limits[0].maxFen: 600 is never reached: limit b, per card and day, holds at 500",
		},
		"a transaction above its balance": {
			two("per: balance, maxFen: 500", "per: transaction, maxFen: 501"),
			"limits:3: limits[1].maxFen: 501 is never reached: limit a, per balance, holds at 500",
		},
		"an hour above its day": {
			two("per: client, period: hour, clients: [gd], maxFen: 501", "per: client, period: day, maxFen: 500"),
			"limits:2: limits[0].maxFen: 501 is never reached: limit b, per client and day, holds at 500",
		},
		"an hour's count above its day's": {
			two("per: card, period: day, maxCount: 4", "per: card, period: hour, maxCount: 5"),
			"limits:3: limits[1].maxCount: 5 is never reached: limit a, per card and day, holds at 4",
		},
		"a narrower one above a wider one": {
			two("per: card, period: day, purses: [EP], maxFen: 501", "per: card, period: day, maxFen: 500"),
			"limits:2: limits[0].maxFen: 501 is never reached: limit b, per card and day, holds at 500",
		},
		"an unknown signal":       {"signals:\n  - {watch: macFailures, per: client, alarmCount: 1}\n", `limits:2: signals[0].watch: "macFailures", expected mac1Failures, counterConflicts or tacFailures`},
		"a signal per card":       {"signals:\n  - {watch: mac1Failures, per: card, alarmCount: 1}\n", `limits:2: signals[0].per: "card", expected terminal or client`},
		"a signal without number": {"signals:\n  - {watch: mac1Failures, per: client}\n", "limits:2: signals[0]: has no alarmCount"},
		"a signal at zero":        {"signals:\n  - {watch: mac1Failures, per: client, alarmCount: 0}\n", "limits:2: signals[0].alarmCount: is 0, expected 1 to 1000000000"},
		"TACs refused":            {"signals:\n  - {watch: tacFailures, per: client, alarmCount: 1, refuse: true}\n", "limits:2: signals[0].refuse: only mac1Failures can be refused"},
		"a signal twice": {
			"signals:\n  - {watch: tacFailures, per: client, alarmCount: 1}\n  - {watch: tacFailures, per: client, alarmCount: 2}\n",
			"limits:3: signals[1]: tacFailures per client is there twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newLimited(test.text)
			var invalid *Invalid
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Problems, 1, "%v", err)
			assert.Equal(t, test.want, err.Error())
		})
	}
}

// All that is wrong is told at once, and limits that can both be meant are taken.
func TestLimitsThatCanBeMeant(t *testing.T) {
	_, err := newLimited("limits:\n  - {name: a, per: card, period: day, maxFen: 0}\n  - {name: B, per: card, period: day, maxFen: 1}\n")
	var invalid *Invalid
	require.ErrorAs(t, err, &invalid)
	assert.Len(t, invalid.Problems, 2)

	for name, text := range map[string]string{
		"a transaction at its day's maximum": "limits:\n  - {name: a, per: transaction, maxFen: 500}\n  - {name: b, per: card, period: day, maxFen: 500}\n",
		"a wider one above a narrower one":   "limits:\n  - {name: a, per: card, period: day, purses: [EP], maxFen: 400}\n  - {name: b, per: card, period: day, maxFen: 500}\n",
		"loads and unloads apart":            "limits:\n  - {name: a, per: card, period: day, maxFen: 400}\n  - {name: b, per: card, period: day, operations: [AuthorizeUnload], maxFen: 500}\n",
		"an alarm alone":                     "limits:\n  - {name: a, per: terminal, period: hour, alarmCount: 400}\n",
		"other key sets":                     "limits:\n  - {name: a, per: transaction, keySets: [x], maxFen: 400}\n  - {name: b, per: card, period: day, keySets: [y], maxFen: 300}\n",
		"a purchase above a load's day":      "limits:\n  - {name: a, per: transaction, operations: [BeginPurchase], maxFen: 400}\n  - {name: b, per: card, period: day, maxFen: 300}\n",
		"a terminal without quotes":          "limits:\n  - {name: a, per: card, period: day, terminals: [112233445566], maxFen: 300}\n",
		"no limit":                           "signals: []\n",
	} {
		_, err := newLimited(text)
		require.NoError(t, err, name)
	}
	guide, err := os.ReadFile("testdata/limits.yaml")
	require.NoError(t, err)
	_, err = newLimited(string(guide))
	require.NoError(t, err)
}

// The digest is over every byte of the document.
func TestDigestCoversTheLimits(t *testing.T) {
	digest := func(text string) string {
		p, err := newLimited(text)
		require.NoError(t, err)
		return p.Digest()
	}
	none, err := New(Rules{Clients: limitClients})
	require.NoError(t, err)
	const text = "limits:\n  - {name: a, per: card, period: day, maxFen: 300}\n"
	assert.NotEqual(t, none.Digest(), digest(text))
	assert.NotEqual(t, digest(text), digest(text+"# a word\n"))
	assert.NotEqual(t, digest(text), digest(strings.Replace(text, "300", "301", 1)))
}
