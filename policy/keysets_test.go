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
