package hsm_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// A token says what it is, and each mechanism what its known-answer test said: not what its list promises.
func TestDescribe(t *testing.T) {
	results := func(made *hsmtest.Token, profile hsm.Profile) (hsm.Description, map[string]string) {
		token, err := hsm.Open(context.Background(), hsm.Config{Module: made.Module, TokenLabel: made.Label, Profile: profile,
			PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil }})
		require.NoError(t, err)
		defer func() { require.NoError(t, token.Close()) }()
		d, err := token.Describe(context.Background())
		require.NoError(t, err)
		again, err := token.Describe(context.Background())
		require.NoError(t, err)
		assert.Equal(t, d, again)
		all := map[string]string{}
		for _, m := range d.Mechanisms {
			all[m.Name] = m.Result
		}
		require.Len(t, all, 10)
		return d, all
	}
	d, all := results(hsmtest.NewToken(t), hsm.Profile{})
	assert.Equal(t, "SoftHSM project", d.Manufacturer)
	assert.Equal(t, "SoftHSM v2", d.Model)
	assert.NotEmpty(t, d.Serial)
	assert.Regexp(t, `^\d+\.\d+$`, d.Firmware)
	assert.Regexp(t, `^\d+\.\d+$`, d.LibraryVersion)
	assert.Equal(t, hsm.MechanismPassed, all["3DES derive"])
	assert.Equal(t, hsm.MechanismUnsupported, all["3DES fold"])
	assert.Equal(t, hsm.MechanismUnsupported, all["SM4 ecb"])

	made, _ := hsmtest.NewSM4Token(t)
	profile, err := hsm.ParseProfile([]byte(made.Mechanisms.Profile()))
	require.NoError(t, err)
	_, all = results(made, profile)
	for name, result := range all {
		assert.Equal(t, hsm.MechanismPassed, result, name)
	}
	profile.SM4CBC += 0x100 // the number of nothing
	_, all = results(made, profile)
	assert.Equal(t, hsm.MechanismFailed, all["SM4 cbc"])
	assert.Equal(t, hsm.MechanismPassed, all["SM4 ecb"])
}

// A second library describes itself too.
func TestDescribeOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		profile, err := hsm.ShippedProfile(hsm.ProfileOpenCryptoki)
		require.NoError(t, err)
		token, err := hsm.Open(context.Background(), hsm.Config{Module: made.Module, TokenLabel: made.Label, Profile: profile,
			PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil }})
		require.NoError(t, err)
		defer func() { require.NoError(t, token.Close()) }()
		d, err := token.Describe(context.Background())
		require.NoError(t, err)
		assert.NotEmpty(t, d.Manufacturer)
		assert.NotEmpty(t, d.Library)
		assert.NotEqual(t, "SoftHSM v2", d.Model)
		for _, m := range d.Mechanisms {
			assert.NotEqual(t, hsm.MechanismFailed, m.Result, "%s: %s", m.Name, m.Detail)
		}
		require.NoError(t, token.Ready(context.Background()))
	})
}
