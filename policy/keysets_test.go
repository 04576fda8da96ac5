package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnknownKeySetsAreSaidWithTheirPlace(t *testing.T) {
	p, _ := small(t, "@id(\"a\") permit (principal, action, resource in KeySet::\"gd-purse\")\nunless { resource == Key::\"hn-purse/load\" };")
	require.NoError(t, p.CheckKeySets([]string{"gd-purse", "hn-purse"}))
	assert.Equal(t, []string{"gd-purse", "hn-purse"}, p.KeySets())
	require.EqualError(t, p.CheckKeySets([]string{"gd-purse"}), `a:2:22: unknown key set "hn-purse"`)
	require.EqualError(t, p.CheckKeySets([]string{"hn-purse"}), `clients: client "gd": unknown key set "gd-purse"
a:1:49: unknown key set "gd-purse"`)
}

func TestUnknownKeySetsOfLimits(t *testing.T) {
	p, err := newLimited("limits:\n  - name: a\n    per: card\n    period: day\n    maxFen: 1\n    keySets: [gd-purse,\n      hn-purse]\n")
	require.NoError(t, err)
	assert.Equal(t, []string{"gd-purse", "gx-purse", "hn-purse"}, p.KeySets())
	require.NoError(t, p.CheckKeySets(p.KeySets()))
	require.EqualError(t, p.CheckKeySets([]string{"gd-purse", "gx-purse"}), `limits:7: limit a: unknown key set "hn-purse"`)
}

func TestLimitsInWords(t *testing.T) {
	p, err := New(Rules{
		Clients: []Client{{Name: "gd", Identity: "i", Role: Platform, MaxAmountFen: 700}},
		Limits: &Document{Name: "limits", Text: "limits:\n" +
			"  - {name: day, per: card, period: day, keySets: [gd-purse, hn-purse], roles: [platform], purses: [EP], maxFen: 500, alarmFen: 400}\n" +
			"  - {name: hour, per: terminal, period: hour, clients: [gd], terminals: [\"112233445566\"], maxCount: 5, alarmCount: 4}\n"},
	})
	require.NoError(t, err)
	var words []string
	for _, l := range p.Limits() {
		words = append(words, l.String())
	}
	assert.Equal(t, []string{
		"maxAmountFen of client gd: AuthorizeLoad, AuthorizeUnload, AuthorizeOverdraft, BeginPurchase by gd, per transaction: at most 700 fen",
		"day: AuthorizeLoad on gd-purse, hn-purse by role platform of purse EP, per card and day: at most 500 fen: alarm from 400 fen",
		"hour: AuthorizeLoad by gd at terminal 112233445566, per terminal and hour: at most 5 of them: alarm from 4 of them",
	}, words)
}
