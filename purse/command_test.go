package purse_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

func pin(t testing.TB, digits string) purse.PIN {
	t.Helper()
	p, err := purse.ParsePIN(digits)
	require.NoError(t, err)
	return p
}

// build makes a command for the demonstration card.
func build(t testing.TB, alg suite.Algorithm, p purse.Profile, challenge []byte, c purse.SecureCommand) (a purse.APDU, err error) {
	t.Helper()
	withCard(t, alg, c.Key(), func(card keyderive.Card) error {
		m, keyErr := card.Messaging()
		require.NoError(t, keyErr)
		a, err = c.Build(p, challenge, m)
		return nil
	})
	return a, err
}

// Computed by an independent program from EPURSE.md §6: 3DES first, SM4 second.
func TestSecureCommandVectors(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	encrypted, err := pboc.With([]byte(`{"updateData": "encrypted"}`))
	require.NoError(t, err)
	data := unhex(t, "31323334353637")
	key := secret.Take(unhex(t, "404142434445464748494A4B4C4D4E4F"))
	defer key.Wipe()
	header := purse.KeyRow{Header: [4]byte{0x01, 0x00, 0x33, 0x00}}
	for _, c := range []struct {
		profile purse.Profile
		command purse.SecureCommand
		key     purse.KeyKind
		want    [2]string
	}{
		{pboc, purse.ApplicationBlock{}, purse.KeyMaintenance, [2]string{"841E000004774D7F57", "841E000004EA54061C"}},
		{pboc, purse.ApplicationBlock{Permanent: true}, purse.KeyMaintenance, [2]string{"841E000104521E0CC0", "841E000104E728C452"}},
		{pboc, purse.ApplicationUnblock{}, purse.KeyMaintenance, [2]string{"84180000049AA0A03C", "8418000004ED2F292E"}},
		{pboc, purse.CardBlock{}, purse.KeyMaintenance, [2]string{"8416000004BB3B6A9A", "8416000004F1A23DFC"}},
		{pboc, purse.PINUnblock{PIN: pin(t, "123456")}, purse.KeyPINUnblock,
			[2]string{"842400010C6AFF7BAC4E8A4300DE1156D0", "84240001144FC3BD44D7D55508067A532F5C607DBC0417EDC5"}},
		{pboc, purse.UpdateBinary{P1: 0x95, Data: data}, purse.KeyMaintenance,
			[2]string{"04D695000B3132333435363749B7D7F0", "04D695000B313233343536376F119277"}},
		{encrypted, purse.UpdateBinary{P1: 0x95, Data: data}, purse.KeyMaintenance,
			[2]string{"04D695000C2A5E076A7B446822CC660686", "04D695001458DAFE7A67D2C8A7A173CA4C203DCCCF480B4923"}},
		{pboc, purse.UpdateRecord{P1: 0x01, P2: 0x94, Data: data}, purse.KeyMaintenance,
			[2]string{"04DC01940B31323334353637C7E6A220", "04DC01940B31323334353637852A38EC"}},
		{pboc, purse.WriteKey{Row: header, KeyValue: key}, purse.KeyControl,
			[2]string{
				"84D400001CBD0C6E2C5C13D8ACF9E541508B6FB58B1B4FE478393C98881334C764",
				"84D4000024D5F7519130A49A7BB055B115A1564CF69E3CB2A3EE762F97DEF6B7473EE9A4A908B5FDA1",
			}},
	} {
		assert.Equal(t, c.key, c.command.Key(), c.command.Name())
		for i, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			a, err := build(t, alg, c.profile, random[:], c.command)
			require.NoError(t, err)
			assert.Equal(t, c.want[i], a.Hex(), "%v %v", alg, c.command.Name())
		}
	}
}

func TestReloadPINVectors(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	command := purse.ReloadPIN{PIN: pin(t, "123456")}
	for alg, want := range map[suite.Algorithm]string{suite.TDES: "805E000007123456A439AE8A", suite.SM4: "805E00000712345625880D0A"} {
		withCard(t, alg, command.Key(), func(card keyderive.Card) error {
			m, err := card.Reload()
			require.NoError(t, err)
			a, err := command.Build(pboc, m)
			require.NoError(t, err)
			assert.Equal(t, want, a.Hex(), alg)
			assert.Equal(t, "805E000007[redacted]", a.String())
			for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
				assert.NotContains(t, fmt.Sprintf(verb, struct{ A purse.APDU }{a}), "123456", verb)
			}
			return nil
		})
	}
}

func TestCryptogramVectors(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	whole, err := pboc.With([]byte(`{"externalAuthentication": "whole"}`))
	require.NoError(t, err)
	challenge := unhex(t, "9B361B26CB9FA8C8")
	for _, c := range []struct {
		kind purse.KeyKind
		make func(purse.Profile, suite.Algorithm, []byte, purse.Encrypter) (purse.Cryptogram, error)
		want [2]string
	}{
		{purse.KeyControl, purse.ExternalCryptogram, [2]string{"52E0F8DCFB8625FD", "479276EE60CBECBE"}},
		{purse.KeyInternalAuth, purse.InternalCryptogram, [2]string{"E258E448AD80662D", "53FC04DF33A5BF11"}},
	} {
		for i, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			withCard(t, alg, c.kind, func(card keyderive.Card) error {
				m, err := card.Messaging()
				require.NoError(t, err)
				got, err := c.make(pboc, alg, challenge, m)
				require.NoError(t, err)
				assert.Equal(t, c.want[i], upper(got), "%v %v", alg, c.kind)
				assert.Len(t, got, pboc.CryptogramLen(alg))

				// Whole is the same block before it is folded.
				uncut, err := c.make(whole, alg, challenge, m)
				require.NoError(t, err)
				require.Len(t, uncut, whole.CryptogramLen(alg))
				if alg == suite.SM4 {
					require.Len(t, uncut, 16)
					for j := range 8 {
						uncut[j] ^= uncut[8+j]
					}
				}
				assert.True(t, got.Equal(uncut[:8]))
				return nil
			})
		}
	}
}

// A 4-byte challenge of EXTERNAL AUTHENTICATE is one followed by zeros; INTERNAL AUTHENTICATE takes 8 alone.
func TestCryptogramChallenges(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	withCard(t, suite.TDES, purse.KeyControl, func(card keyderive.Card) error {
		m, err := card.Messaging()
		require.NoError(t, err)
		short, err := purse.ExternalCryptogram(pboc, suite.TDES, unhex(t, "9B361B26"), m)
		require.NoError(t, err)
		long, err := purse.ExternalCryptogram(pboc, suite.TDES, unhex(t, "9B361B26 00000000"), m)
		require.NoError(t, err)
		assert.True(t, short.Equal(long))
		_, err = purse.ExternalCryptogram(pboc, suite.TDES, unhex(t, "9B361B26CB"), m)
		require.EqualError(t, err, "challenge: 5 bytes, expected 4 or 8")
		_, err = purse.InternalCryptogram(pboc, suite.TDES, unhex(t, "9B361B26"), m)
		require.EqualError(t, err, "challenge: 4 bytes, expected 8")
		return nil
	})
	_, err := purse.ExternalAuthenticate(0, make([]byte, 7))
	require.EqualError(t, err, "cryptogram: 7 bytes, expected 8 or 16")
}

// Where profiles differ, the commands do.
func TestCommandsFollowTheProfile(t *testing.T) {
	pboc, fmcos := profile(t, purse.ProfilePBOC), profile(t, purse.ProfileFMCOS)
	transport := profile(t, purse.ProfileTransport)
	keyID, err := pboc.With([]byte(`{"pinUnblock": "keyId", "pinUnblockKeyId": "07"}`))
	require.NoError(t, err)
	macOnly, err := pboc.With([]byte(`{"pinUnblock": "macOnly"}`))
	require.NoError(t, err)
	eight := unhex(t, "A1B2C3D4 00000000")

	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		// A challenge of four bytes and zeros is one of eight that ends in zeros.
		short, err := build(t, alg, pboc, eight[:4], purse.CardBlock{})
		require.NoError(t, err)
		long, err := build(t, alg, fmcos, eight, purse.CardBlock{})
		require.NoError(t, err)
		assert.Equal(t, short.Hex(), long.Hex())
		_, err = build(t, alg, pboc, eight, purse.CardBlock{})
		require.EqualError(t, err, "challenge: 8 bytes, expected 4")
		_, err = build(t, alg, fmcos, eight[:4], purse.CardBlock{})
		require.EqualError(t, err, "challenge: 4 bytes, expected 8")

		// fmcos pads a whole block with one more.
		whole := make([]byte, alg.BlockSize()-1)
		plain, err := pboc.With([]byte(`{"updateData": "encrypted"}`))
		require.NoError(t, err)
		padded, err := plain.With([]byte(`{"encryptionPadding": "always"}`))
		require.NoError(t, err)
		one, err := build(t, alg, plain, eight[:4], purse.UpdateBinary{Data: whole})
		require.NoError(t, err)
		two, err := build(t, alg, padded, eight[:4], purse.UpdateBinary{Data: whole})
		require.NoError(t, err)
		assert.Len(t, one.Data, alg.BlockSize()+4)
		assert.Len(t, two.Data, 2*alg.BlockSize()+4)
		assert.Equal(t, one.Data[:alg.BlockSize()], two.Data[:alg.BlockSize()])

		byKey, err := build(t, alg, keyID, eight[:4], purse.PINUnblock{PIN: pin(t, "123456")})
		require.NoError(t, err)
		assert.Equal(t, "84240700", byKey.Hex()[:8])
		bare, err := build(t, alg, macOnly, eight[:4], purse.PINUnblock{})
		require.NoError(t, err)
		assert.Equal(t, "8424000104", bare.Hex()[:10])
		_, err = build(t, alg, macOnly, eight[:4], purse.PINUnblock{PIN: pin(t, "123456")})
		require.EqualError(t, err, "pin: the card profile's PIN UNBLOCK carries none")
	}
	des, err := build(t, suite.TDES, transport, eight[:4], purse.ApplicationBlock{})
	require.NoError(t, err)
	sm4, err := build(t, suite.SM4, transport, eight[:4], purse.ApplicationBlock{})
	require.NoError(t, err)
	assert.Equal(t, byte(0x00), des.P1)
	assert.Equal(t, byte(0x01), sm4.P1)
}

// RELOAD PIN over header and PIN covers 80 5E 00 00 Lc and then the PIN.
func TestReloadPINCoversHeaderWhereTheProfileSaysSo(t *testing.T) {
	p, err := profile(t, purse.ProfilePBOC).With([]byte(`{"reloadPinMac": "headerAndPin"}`))
	require.NoError(t, err)
	var covered macRecorder
	_, err = purse.ReloadPIN{PIN: pin(t, "12345")}.Build(p, &covered)
	require.NoError(t, err)
	assert.Equal(t, "805E00000712345F", upper(covered.data))
}

type macRecorder struct{ data []byte }

func (r *macRecorder) MAC(data []byte) (purse.MAC, error) {
	r.data = append([]byte(nil), data...)
	return purse.MAC{}, nil
}

// broken is a token that is away.
type broken struct{ macs int }

var errAway = errors.New("away")

func (broken) Algorithm() suite.Algorithm { return suite.TDES }

func (b broken) MAC(_, _ []byte) (purse.MAC, error) {
	if b.macs > 0 {
		return purse.MAC{}, nil
	}
	return purse.MAC{}, errAway
}

func (broken) Encrypt([]byte) ([]byte, error) { return nil, errAway }

func TestCommandsRefuse(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	encrypted, err := pboc.With([]byte(`{"updateData": "encrypted"}`))
	require.NoError(t, err)
	short := secret.Take([]byte{1, 2, 3})
	key := secret.Take(make([]byte, 16))
	for want, c := range map[string]struct {
		profile purse.Profile
		command purse.SecureCommand
	}{
		"pin: missing":                                  {pboc, purse.PINUnblock{}},
		"data: 0 bytes, expected 1 to 251":              {pboc, purse.UpdateBinary{}},
		"data: 252 bytes, expected 1 to 251":            {pboc, purse.UpdateRecord{Data: make([]byte, 252)}},
		"data: 256 bytes as sent, expected at most 251": {encrypted, purse.UpdateRecord{Data: make([]byte, 250)}},
		"key: missing":                                  {pboc, purse.WriteKey{}},
		"key: 3 bytes, expected 16":                     {pboc, purse.WriteKey{KeyValue: short}},
	} {
		_, err := build(t, suite.TDES, c.profile, random[:], c.command)
		var field *purse.FieldError
		require.ErrorAs(t, err, &field)
		assert.EqualError(t, err, want)
	}
	for _, command := range []purse.SecureCommand{
		purse.CardBlock{}, purse.PINUnblock{PIN: pin(t, "1234")}, purse.UpdateBinary{Data: []byte{1}}, purse.WriteKey{KeyValue: key},
	} {
		a, err := command.Build(pboc, random[:], broken{})
		require.ErrorIs(t, err, errAway, command.Name())
		assert.Zero(t, a)
	}
	_, err = purse.UpdateBinary{Data: []byte{1}}.Build(encrypted, random[:], broken{macs: 1})
	require.ErrorIs(t, err, errAway)
	_, err = purse.ReloadPIN{}.Build(pboc, &macRecorder{})
	require.EqualError(t, err, "pin: missing")
	_, err = purse.VerifyPIN(purse.PIN{})
	require.EqualError(t, err, "pin: missing")
	_, err = purse.ExternalCryptogram(pboc, suite.TDES, make([]byte, 8), broken{})
	require.ErrorIs(t, err, errAway)
}

// keeper keeps what it was given to work on, to look at it later.
type keeper struct {
	clearMessenger
	given [][]byte
}

func (k *keeper) Encrypt(blocks []byte) ([]byte, error) {
	k.given = append(k.given, blocks)
	return make([]byte, len(blocks)), nil
}

type macKeeper struct{ given []byte }

func (k *macKeeper) MAC(data []byte) (purse.MAC, error) {
	k.given = data
	return purse.MAC{}, nil
}

// The buffers that held a PIN or a key are zero when the command is built; the PIN and the key are not.
func TestCommandsWipeTheirBuffers(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	p := pin(t, "123456")
	key := secret.Take([]byte("0123456789abcdef"))
	defer key.Wipe()
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		k := &keeper{clearMessenger: clearMessenger{alg}}
		_, err := purse.PINUnblock{PIN: p}.Build(pboc, random[:], k)
		require.NoError(t, err)
		_, err = purse.WriteKey{KeyValue: key}.Build(pboc, random[:], k)
		require.NoError(t, err)
		require.Len(t, k.given, 2)
		for _, blocks := range k.given {
			assert.Equal(t, make([]byte, len(blocks)), blocks)
		}
	}
	var k macKeeper
	_, err := purse.ReloadPIN{PIN: p}.Build(pboc, &k)
	require.NoError(t, err)
	assert.Equal(t, []byte{0, 0, 0}, k.given)
	assert.Equal(t, "123456", upper(p.Reveal("test")))
	assert.Equal(t, "0123456789abcdef", string(key.Reveal("test")))
}

// What a command writes, a card reads back.
func TestCardReadsWhatCommandsWrite(t *testing.T) {
	a, err := build(t, suite.TDES, profile(t, purse.ProfilePBOC), random[:], purse.UpdateBinary{P1: 0x95, Data: []byte{1, 2}})
	require.NoError(t, err)
	covered, data, mac, err := purse.SplitSecure(a)
	require.NoError(t, err)
	assert.Equal(t, "04D69500060102", upper(covered))
	assert.Equal(t, []byte{1, 2}, data)
	assert.Equal(t, a.Data[2:], mac[:])
	_, _, _, err = purse.SplitSecure(purse.APDU{Data: []byte{1, 2, 3}})
	require.EqualError(t, err, "data: 3 bytes, expected at least 4")
}

func TestOnlyPINCommandsCarryPINs(t *testing.T) {
	for command, want := range map[purse.Command]bool{
		purse.CardBlock{}: false, purse.ApplicationBlock{}: false, purse.ApplicationUnblock{}: false,
		purse.PINUnblock{}: true, purse.ReloadPIN{}: true, purse.WriteKey{}: false,
	} {
		assert.Equal(t, want, command.CarriesPIN(), command.Name())
	}
	assert.False(t, purse.UpdateBinary{}.CarriesPIN())
	assert.False(t, purse.UpdateRecord{}.CarriesPIN())
}
