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
