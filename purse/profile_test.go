package purse_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// The shipped profiles, row by row of EPURSE.md §9.
func TestShippedProfiles(t *testing.T) {
	require.Len(t, purse.ShippedProfiles(), 3)
	for _, c := range []struct {
		name           string
		challenge      int
		debit          [3]byte // purchase, cash withdrawal, compound
		credit         [2]byte
		block          [2]byte // 3DES, SM4
		unframedBlocks int     // in a frame of 15 bytes
	}{
		{"pboc-ep", 4, [3]byte{1, 1, 1}, [2]byte{0, 0}, [2]byte{0, 0}, 1},
		{"transport", 4, [3]byte{2, 2, 1}, [2]byte{0, 2}, [2]byte{0, 1}, 1},
		{"fmcos", 8, [3]byte{1, 1, 1}, [2]byte{0, 0}, [2]byte{0, 0}, 2},
	} {
		p := profile(t, c.name)
		assert.Equal(t, c.name, p.Name())
		assert.Equal(t, c.challenge, p.ChallengeLen())
		assert.Equal(t, c.debit, [3]byte{p.DebitP1(purse.TTIPurchaseEP), p.DebitP1(purse.TTICashWithdrawal), p.DebitP1(purse.TTICompound)})
		p1, p2 := p.CreditForLoadParameters()
		assert.Equal(t, c.credit, [2]byte{p1, p2})
		assert.Equal(t, c.block, [2]byte{p.ApplicationBlockP1(suite.TDES), p.ApplicationBlockP1(suite.SM4)})
		assert.Equal(t, purse.ED, p.UnloadPurse())
		assert.Equal(t, byte(1), p.KeyIndex())
		assert.False(t, p.UpdateEncrypted())
		assert.True(t, p.PINUnblockEncrypted())
		assert.Equal(t, 8, p.CryptogramLen(suite.SM4))
		assert.True(t, p.AcceptsALG(0x00) && p.AcceptsALG(0xFF))
		assert.False(t, p.NeedsIssuerID())
		factors, err := p.IssuerFactors("")
		require.NoError(t, err)
		assert.Empty(t, factors)
		seen := make(map[purse.KeyRow]bool)
		for _, kind := range purse.KeyKinds() {
			row, err := p.KeyRow(kind)
			require.NoError(t, err)
			assert.Equal(t, [4]byte{0x01, 0x00, 0x33, 0x00}, row.Header)
			assert.False(t, seen[row], kind)
			seen[row] = true
			back, ok := p.KindOf(row)
			assert.True(t, ok)
			assert.Equal(t, kind, back)
		}
	}
	_, ok := profile(t, "pboc-ep").KindOf(purse.KeyRow{P1: 0xFF})
	assert.False(t, ok)
	_, err := purse.ShippedProfile("pboc")
	require.EqualError(t, err, `profile: "pboc" is not shipped, expected one of [pboc-ep transport fmcos]`)
}

func TestProfileParameters(t *testing.T) {
	p, err := purse.ParseProfile([]byte(`
name: gd-wallet
keyIndex: 2
updateData: encrypted
unloadPurse: EP
externalAuthentication: whole
pinUnblock: keyId
pinUnblockKeyId: "07"
algByte: ["00", "0b"]
issuerFactors: {from: list, list: ["1000100010001000", "2000200020002000"]}
writeKey:
  load: {p1: "01", p2: "22", header: "3F 00 33 01"}
`))
	require.NoError(t, err)
	assert.Equal(t, "gd-wallet", p.String())
	assert.Equal(t, byte(2), p.KeyIndex())
	assert.True(t, p.UpdateEncrypted())
	assert.Equal(t, purse.EP, p.UnloadPurse())
	assert.Equal(t, 16, p.CryptogramLen(suite.SM4))
	assert.Equal(t, 8, p.CryptogramLen(suite.TDES))
	p1, p2 := p.PINUnblockParameters()
	assert.Equal(t, [2]byte{0x07, 0x00}, [2]byte{p1, p2})
	assert.True(t, p.AcceptsALG(0x0B))
	assert.False(t, p.AcceptsALG(0x01))
	factors, err := p.IssuerFactors("")
	require.NoError(t, err)
	assert.Equal(t, [][8]byte{[8]byte(unhex(t, "1000100010001000")), [8]byte(unhex(t, "2000200020002000"))}, factors)
	_, err = p.IssuerFactors("1000100010001000")
	require.EqualError(t, err, "issuerId: card profile gd-wallet takes none")
	row, err := p.KeyRow(purse.KeyLoad)
	require.NoError(t, err)
	assert.Equal(t, purse.KeyRow{P1: 0x01, P2: 0x22, Header: [4]byte{0x3F, 0x00, 0x33, 0x01}}, row)
	_, err = p.KeyRow("loads")
	require.ErrorContains(t, err, `kind: card profile gd-wallet has no WRITE KEY row for "loads"`)

	again, err := purse.NewProfile(p.File())
	require.NoError(t, err)
	assert.Equal(t, p, again)
	encoded, err := json.Marshal(p.File())
	require.NoError(t, err)
	again, err = purse.ParseProfile(encoded)
	require.NoError(t, err)
	assert.Equal(t, p, again, "a profile survives JSON")

	fromCard, err := p.With([]byte(`{"issuerFactors": {"from": "issuerId"}}`))
	require.NoError(t, err)
	assert.True(t, fromCard.NeedsIssuerID())
	factors, err = fromCard.IssuerFactors("10001000 10001000")
	require.NoError(t, err)
	assert.Equal(t, [][8]byte{[8]byte(unhex(t, "1000100010001000"))}, factors)
	_, err = fromCard.IssuerFactors("")
	require.EqualError(t, err, "issuerId: 0 bytes, expected 8")
}

// With changes a copy, and what it does not name stays.
func TestWithLeavesItsProfileAlone(t *testing.T) {
	base, err := purse.ParseProfile([]byte(`{"name": "base", "algByte": ["01"], "keyIndex": 3}`))
	require.NoError(t, err)
	before := fmt.Sprintf("%+v", base)
	changed, err := base.With([]byte(`{"algByte": ["02"], "writeKey": {"load": {"p1": "09", "p2": "09", "header": "01003300"}}}`))
	require.NoError(t, err)
	assert.True(t, changed.AcceptsALG(2) && !changed.AcceptsALG(1))
	assert.Equal(t, byte(3), changed.KeyIndex())
	assert.Equal(t, before, fmt.Sprintf("%+v", base))
}

func TestProfilesThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "card profile: empty",
		"[]":                                   "card profile: [1:1]",
		"null":                                 "card profile: [1:1]",
		"keyIndex: 1":                          `name: "" does not match`,
		"name: A":                              `name: "A" does not match`,
		"name: a\n---\nname: b":                "card profile: more than one document",
		"name: a\nname: b":                     `"name" already defined`,
		"name: a\nkeyindex: 1":                 `unknown field "keyindex"`,
		"name: a\nissuerFactors: {form: x}":    `unknown field "form"`,
		"name: a\nsmChallenge: 6":              `card profile "a": smChallenge: 6 bytes, expected 4 or 8`,
		"name: a\nkeyIndex: 256":               "keyIndex: 256, expected 0 to 255",
		"name: a\nkeyIndex: -1":                "keyIndex: -1, expected 0 to 255",
		"name: a\nupdateData: ENCRYPTED":       `updateData: "ENCRYPTED", expected one of ["plain" "encrypted"]`,
		"name: a\nencryptionPadding: ''":       `encryptionPadding: "", expected one of ["none" "always"]`,
		"name: a\nreloadPinMac: header":        "reloadPinMac: ",
		"name: a\npinUnblock: plain":           "pinUnblock: ",
		"name: a\npinUnblock: keyId":           "pinUnblockKeyId: 0 bytes, expected 1",
		"name: a\npinUnblockKeyId: '01'":       `pinUnblockKeyId: has no use unless pinUnblock is "keyId"`,
		"name: a\ndebitForPurchaseP1: '02'":    "debitForPurchaseP1: ",
		"name: a\ncreditForLoadP1P2: '0200'":   "creditForLoadP1P2: ",
		"name: a\napplicationBlockP1: '01'":    "applicationBlockP1: ",
		"name: a\nunloadPurse: ed":             `unloadPurse: "ed", expected one of ["ED" "EP"]`,
		"name: a\nexternalAuthentication: f":   "externalAuthentication: ",
		"name: a\nalgByte: ['0']":              "algByte: 1 hex digits, expected an even number",
		"name: a\nissuerFactors: {from: up}":   "issuerFactors.from: ",
		"name: a\nissuerFactors: {from: list}": `issuerFactors.list: 0 factors with from "list"`,
		"name: a\nissuerFactors: {from: none, list: [1000100010001000]}":     `issuerFactors.list: 1 factors with from "none"`,
		"name: a\nissuerFactors: {from: list, list: ['10']}":                 "issuerFactors.list: 1 bytes, expected 8",
		"name: a\nwriteKey: {loads: {p1: '00'}}":                             "writeKey.loads: unknown kind of key",
		"name: a\nwriteKey: {load: {p1: '00', p2: '00'}}":                    "writeKey.load.header: 0 bytes, expected 4",
		"name: a\nwriteKey: {tac: {p1: '00', p2: '00', header: '01003300'}}": "writeKey.tac: the same row as control",
	} {
		_, err := purse.ParseProfile([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := purse.NewProfile(purse.ProfileFile{})
	require.Error(t, err, "the zero value is no profile")
}
