package hsm

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Every shipped profile parses, has the name of its file and is listed; what is not tested says so, and where its numbers come from.
func TestShippedProfiles(t *testing.T) {
	files, err := fs.Glob(shippedProfiles, "profiles/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(ShippedProfiles()))
	for _, name := range ShippedProfiles() {
		profile, err := ShippedProfile(name)
		require.NoError(t, err)
		assert.Equal(t, name, profile.Name)
		text, err := shippedProfiles.ReadFile("profiles/" + name + ".yaml")
		require.NoError(t, err)
		if !profile.Tested {
			assert.Contains(t, string(text), "NOT TESTED ON HARDWARE")
			assert.Contains(t, string(text), "tested: false")
			assert.Regexp(t, `header|\.h `, string(text), "where the numbers are from")
		}
	}
	_, err = ShippedProfile("../profile")
	require.ErrorContains(t, err, `token profile "../profile" is not shipped, expected one of [softhsm`)
}

// What the shipped profiles come to: the boundary of each algorithm, and of the TAC of 3DES.
func TestBoundariesOfShippedProfiles(t *testing.T) {
	const token, card, process = keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess
	for name, want := range map[string][3]keyderive.Boundary{
		"softhsm":              {token, card, process},
		"opencryptoki":         {card, card, process},
		"thales-luna":          {token, token, process},
		"thales-protectserver": {token, token, process},
		"westone":              {token, card, card},
	} {
		p, err := ShippedProfile(name)
		require.NoError(t, err)
		got := [3]keyderive.Boundary{p.Strictest(keyderive.KindLoad, suite.TDES), p.Strictest(keyderive.KindTAC, suite.TDES), p.Strictest(keyderive.KindLoad, suite.SM4)}
		assert.Equal(t, want, got, name)
	}
	softhsm, err := ShippedProfile(ProfileSoftHSM)
	require.NoError(t, err)
	assert.Equal(t, Profile{Name: "softhsm", Tested: true, Serial: true}, softhsm, "the zero profile, but for its name and its turns")
}

const wholeProfile = `name: own
tested: true
xorKeys: 0x8000001B
sm4:
  keyType: 0x80000005
  ecb: 0x80000029
  cbc: 2147483690 # 0x8000002A
  deriveEcb: 0x8000002B
`

func TestParseProfile(t *testing.T) {
	profile, err := ParseProfile([]byte(wholeProfile))
	require.NoError(t, err)
	assert.Equal(t, Profile{Name: "own", Tested: true, XORKeys: 0x8000001B, SM4KeyType: 0x80000005, SM4ECB: 0x80000029, SM4CBC: 0x8000002A,
		SM4Derive: 0x8000002B}, profile)
	profile, err = ParseProfile([]byte("name: own\nnoDerivation: true\nthreeKeyDes: true\n"))
	require.NoError(t, err)
	assert.Equal(t, Profile{Name: "own", NoDerivation: true, ThreeKeyDES: true}, profile)
	for _, test := range []struct{ name, old, new, says string }{
		{"unknown field", "xorKeys:", "xorKey:", `unknown field "xorKey"`},
		{"unknown field of SM4", "deriveEcb:", "derive:", `unknown field "derive"`},
		{"twice", "tested: true", "name: own", "already defined"},
		{"no name", "name: own", "tested: false", "already defined"},
		{"a name of another script", "name: own", "name: Own", `name: "Own" does not match`},
		{"a negative number", "0x8000001B", "-1", "-1"},
		{"no number", "0x8000001B", "many", "cannot unmarshal"},
		{"no key type", "  keyType: 0x80000005\n", "", "profile: sm4.keyType: missing"},
		{"no ecb", "  ecb: 0x80000029\n", "", "profile: sm4.ecb: missing"},
		{"no cbc", "  cbc: 2147483690 # 0x8000002A\n", "", "profile: sm4.cbc: missing"},
		{"one number for two", "0x8000002B", "0x80000029", "profile: sm4.deriveEcb: 0x80000029 is the number of sm4.ecb too"},
		{"one number for two algorithms", "0x8000001B", "0x8000002A", "profile: xorKeys: 0x8000002a is the number of sm4.cbc too"},
		{"derives without derivation", "tested: true", "noDerivation: true", "profile: noDerivation: has a mechanism that derives"},
		{"two documents", "sm4:", "---\nsm4:", "more than one document"},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Contains(t, wholeProfile, test.old)
			_, err := ParseProfile([]byte(strings.Replace(wholeProfile, test.old, test.new, 1)))
			require.ErrorContains(t, err, test.says)
			assert.ErrorContains(t, err, "token profile")
		})
	}
	for text, says := range map[string]string{"": "empty", "name: own\nsm4: {}": "sm4: empty", "- a": "", "tested: true": "name"} {
		_, err := ParseProfile([]byte(text))
		require.ErrorContains(t, err, says, fmt.Sprintf("%q", text))
	}
}
