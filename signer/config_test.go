package signer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// No recorder, no policy, no start; and what a key set's author got wrong is named.
func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		says   string
		change func(*Config)
	}{
		{"a policy and a store are needed", func(c *Config) { c.Policy = nil }},
		{"a policy and a store are needed", func(c *Config) { c.Store = nil }},
		{"key set demo: is there twice", func(c *Config) { c.KeySets[1].Name = "demo" }},
		{"expected [a-z0-9][a-z0-9-]{0,62}", func(c *Config) { c.KeySets[0].Name = "Demo" }},
		{"expected [a-z0-9][a-z0-9-]{0,62}", func(c *Config) { c.KeySets[0].Name = "a/b" }},
		{"key set demo: invalid", func(c *Config) { c.KeySets[0].Algorithm = 0 }},
		{"key set demo: no time zone", func(c *Config) { c.KeySets[0].Location = nil }},
		{"not both", func(c *Config) { c.KeySets[0].Issuer.FromCard = true }},
		{"version 0: expected 1 to 255", func(c *Config) { c.KeySets[0].Versions[0].Number = 0 }},
		{"version 256: expected 1 to 255", func(c *Config) { c.KeySets[0].Versions[0].Number = 256 }},
		{"version 1: is there twice", func(c *Config) { c.KeySets[0].Versions[1].Kind = c.KeySets[0].Versions[0].Kind }},
		{"version 1: no key", func(c *Config) { c.KeySets[0].Versions[0].Key = nil }},
		{"key is SM4, expected 3DES", func(c *Config) { c.KeySets[0].Versions[0].Key = c.KeySets[1].Versions[0].Key }},
		{"key set demo: ", func(c *Config) { c.KeySets[0].Versions[0].Kind = keyderive.Kind(99) }},
	} {
		t.Run(test.says, func(t *testing.T) {
			b := newBench(t)
			c := Config{Policy: limitedPolicy(t, 0), Store: b.store, KeySets: []KeySet{
				testKeySet(t, "demo", suite.TDES), testKeySet(t, "demo-sm4", suite.SM4),
			}}
			_, err := New(c)
			require.NoError(t, err)
			test.change(&c)
			_, err = New(c)
			require.ErrorContains(t, err, test.says)
		})
	}
}

func TestKeyStatesHaveTheirNames(t *testing.T) {
	for state := custody.PreActive; state <= custody.Destroyed; state++ {
		parsed, err := custody.ParseKeyState(state.String())
		require.NoError(t, err)
		require.Equal(t, state, parsed)
	}
	for _, name := range []string{"", "Active", "retired"} {
		_, err := custody.ParseKeyState(name)
		require.Error(t, err, name)
	}
	require.Contains(t, custody.KeyState(0).String(), "invalid")
	require.False(t, custody.KeyState(0).Signs() || custody.KeyState(0).Verifies() || custody.KeyState(0).For(policy.SettleLoad).Settles(), "a key that is not there does nothing")
}
