package hsm

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// transportKeys are published test keys: the protection keys of TR-31:2018 A.7.3.2 and A.7.4, and others cut from them.
var transportKeys = map[keyblock.Cipher]string{
	keyblock.CipherTDES2:  "1D22BF32387C600AD97F9B97A51311AC",
	keyblock.CipherTDES3:  "1D22BF32387C600AD97F9B97A51311AC0123456789ABCDEF",
	keyblock.CipherAES128: "88E1AB2A2E3DD38C1FA039A536500CC8",
	keyblock.CipherAES192: "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01",
	keyblock.CipherAES256: "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6",
}

func transportSpec(t testing.TB, name string, c keyblock.Cipher) TransportSpec {
	t.Helper()
	key := secretOf(t, transportKeys[c])
	defer key.Wipe()
	v, err := keyblock.CheckValue(c, key)
	require.NoError(t, err)
	return TransportSpec{Name: name, Cipher: c, KCV: v}
}

func importTransport(t testing.TB, token *Token, name string, c keyblock.Cipher) *TransportKey {
	t.Helper()
	value := secretOf(t, transportKeys[c])
	defer value.Wipe()
	key, err := token.ImportTransportKey(context.Background(), transportSpec(t, name, c), value)
	require.NoError(t, err, "%v", c)
	return key
}

func memoryProtector(t testing.TB, c keyblock.Cipher) keyblock.Protector {
	t.Helper()
	key := secretOf(t, transportKeys[c])
	t.Cleanup(key.Wipe)
	p, err := keyblock.InMemory(c, key)
	require.NoError(t, err)
	return p
}

func TestTransportContract(t *testing.T) {
	for name, config := range bothTokens {
		t.Run(name, func(t *testing.T) { transportContract(t, openToken(t, config(t)), true) })
	}
}

// There it is composed of the token's ECB: openCryptoki's software token has no CMAC.
func TestTransportContractOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		transportContract(t, openToken(t, openCryptokiConfig(t, made)), false)
	})
}

// A transport key computes what the same key computes in memory, is found again, and is what it has to be.
func transportContract(t *testing.T, token *Token, native bool) {
	ctx := context.Background()
	require.Equal(t, "08793E", mustCheckValue(t, "3F419E1CB7079442AA37474C2EFBF8B8"), "X9.143:2021 8.1")
	for c := range transportKeys {
		spec := transportSpec(t, fmt.Sprintf("to-%d", c), c)
		_, err := token.TransportKey(ctx, spec)
		require.ErrorIs(t, err, ErrKeyNotFound)
		importTransport(t, token, spec.Name, c)
		key, err := token.TransportKey(ctx, spec)
		require.NoError(t, err)
		assert.Equal(t, c, key.Cipher())
		memory := memoryProtector(t, c)
		for _, n := range []int{0, 1, 8, 15, 16, 17, 100} {
			message := make([]byte, n)
			got, err := key.CMAC(ctx, message)
			require.NoError(t, err, "%v, %d bytes", c, n)
			want, err := memory.CMAC(ctx, message)
			require.NoError(t, err)
			assert.True(t, want.Equal(got), "%v, %d bytes", c, n)
			got.Wipe()
			want.Wipe()
		}
		onAnchor(t, token, func(s *session) error {
			way, object, err := token.findTransport(s, spec)
			require.NoError(t, err)
			assert.Equal(t, native, way.mechanism != 0)
			assert.ErrorContains(t, s.module.cryptoki.value(s.handle, object, make([]byte, c.KeySize())), "CKR_ATTRIBUTE_SENSITIVE")
			return nil
		})
		value := secretOf(t, transportKeys[c])
		_, err = token.ImportTransportKey(ctx, spec, value)
		value.Wipe()
		require.ErrorIs(t, err, ErrExists)

		wrong := spec
		wrong.KCV[0] ^= 1
		_, err = token.TransportKey(ctx, wrong)
		require.ErrorIs(t, err, ErrKCVMismatch)
		require.ErrorContains(t, err, spec.Name)
		require.ErrorIs(t, token.DestroyTransportKey(ctx, wrong), ErrKCVMismatch)
		over, cancel := context.WithCancel(ctx)
		cancel()
		_, err = key.CMAC(over, nil)
		require.ErrorIs(t, err, context.Canceled)

		require.NoError(t, token.DestroyTransportKey(ctx, spec))
		_, err = key.CMAC(ctx, nil)
		require.ErrorIs(t, err, ErrKeyNotFound)
		require.ErrorIs(t, token.DestroyTransportKey(ctx, spec), ErrKeyNotFound)
	}
}

func mustCheckValue(t testing.TB, digits string) string {
	t.Helper()
	key := secretOf(t, digits)
	defer key.Wipe()
	v, err := keyblock.CheckValue(keyblock.CipherAES128, key)
	require.NoError(t, err)
	return v.String()
}

func TestTransportKeysRefused(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	good := transportSpec(t, "good", keyblock.CipherAES128)
	for name, c := range map[string]struct {
		spec   TransportSpec
		digits string
		want   string
	}{
		"no name":                  {TransportSpec{Cipher: good.Cipher, KCV: good.KCV}, transportKeys[good.Cipher], "name"},
		"a path":                   {TransportSpec{"a/b", good.Cipher, good.KCV}, transportKeys[good.Cipher], "name"},
		"no cipher":                {TransportSpec{Name: "a", KCV: good.KCV}, transportKeys[good.Cipher], "invalid cipher"},
		"another length":           {good, transportKeys[keyblock.CipherAES192], "24 bytes, expected 16"},
		"another check value":      {TransportSpec{"a", good.Cipher, [3]byte{1}}, transportKeys[good.Cipher], "check value mismatch"},
		"single DES":               {TransportSpec{"a", keyblock.CipherTDES2, [3]byte{1}}, "0123456789ABCDEF0123456789ABCDEF", "two of its keys are equal"},
		"two keys of three, equal": {TransportSpec{"a", keyblock.CipherTDES3, [3]byte{1}}, "0123456789ABCDEFFEDCBA9876543210FEDCBA9876543210", "equal"},
	} {
		value := secretOf(t, c.digits)
		_, err := token.ImportTransportKey(ctx, c.spec, value)
		value.Wipe()
		require.ErrorContains(t, err, c.want, name)
	}
	_, err := token.TransportKey(ctx, TransportSpec{})
	require.ErrorContains(t, err, "name")
	_, err = token.TransportKey(ctx, good)
	require.ErrorIs(t, err, ErrKeyNotFound, "nothing is left of the refused ones")
}

// Objects under the label that are less protected, may do more, or are another key.
func TestTransportObjectsRefused(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	for c, right := range map[keyblock.Cipher]map[uint]any{
		keyblock.CipherAES128: {pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES, pkcs11.CKA_DERIVE: false, pkcs11.CKA_SIGN: true},
		keyblock.CipherTDES2:  {pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2, pkcs11.CKA_DERIVE: false, pkcs11.CKA_SIGN: true, pkcs11.CKA_ENCRYPT: true},
	} {
		for name, change := range map[string]map[uint]any{
			"": nil, "CKA_SENSITIVE": {pkcs11.CKA_SENSITIVE: false}, "CKA_EXTRACTABLE": {pkcs11.CKA_EXTRACTABLE: true},
			"CKA_MODIFIABLE": {pkcs11.CKA_MODIFIABLE: true}, "CKA_COPYABLE": {pkcs11.CKA_COPYABLE: true}, "CKA_PRIVATE": {pkcs11.CKA_PRIVATE: false},
			"CKA_TOKEN": {pkcs11.CKA_TOKEN: false}, "CKA_DECRYPT": {pkcs11.CKA_DECRYPT: true}, "CKA_DERIVE": {pkcs11.CKA_DERIVE: true},
			"CKA_WRAP": {pkcs11.CKA_WRAP: true}, "CKA_UNWRAP": {pkcs11.CKA_UNWRAP: true}, "CKA_VERIFY": {pkcs11.CKA_VERIFY: true},
			"CKA_SIGN": {pkcs11.CKA_SIGN: false}, "CKA_ENCRYPT": {pkcs11.CKA_ENCRYPT: c == keyblock.CipherAES128},
			"CKA_KEY_TYPE":  {pkcs11.CKA_KEY_TYPE: pkcs11.CKK_GENERIC_SECRET},
			"CKA_VALUE_LEN": {pkcs11.CKA_VALUE: bytesOf(t, transportKeys[keyblock.CipherAES192])},
			"check value":   {pkcs11.CKA_VALUE: bytesOf(t, loadMaster)},
		} {
			if name == "CKA_VALUE_LEN" && c != keyblock.CipherAES128 {
				continue
			}
			spec := transportSpec(t, hex.EncodeToString(fmt.Appendf(nil, "%d%s", c, name)), c)
			attributes := maps.Clone(right)
			maps.Copy(attributes, change)
			value := bytesOf(t, transportKeys[c])
			if changed, ok := attributes[pkcs11.CKA_VALUE].([]byte); ok {
				value = changed
			}
			createRaw(t, token, rawKey(spec.label(), value, attributes))
			_, err := token.TransportKey(ctx, spec)
			switch name {
			case "":
				require.NoError(t, err)
				createRaw(t, token, rawKey(spec.label(), value, attributes))
				_, err = token.TransportKey(ctx, spec)
				require.ErrorIs(t, err, ErrAmbiguous)
			case "check value":
				require.ErrorIs(t, err, ErrKCVMismatch)
			default:
				require.ErrorIs(t, err, ErrAttributes, name)
				assert.ErrorContains(t, err, name)
			}
			if name == "CKA_EXTRACTABLE" { // a weak one is destroyed as any other
				require.NoError(t, token.DestroyTransportKey(ctx, spec))
			}
		}
	}
}

// A token whose CMAC is missing composes it, one that has no mechanism at all says so, and one whose CMAC is wrong is not used.
func TestTransportByFaultyTokens(t *testing.T) {
	ctx := context.Background()
	token, control, _ := faulty(t, nil)
	value := secretOf(t, transportKeys[keyblock.CipherAES256])
	defer value.Wipe()
	spec := transportSpec(t, "t", keyblock.CipherAES256)

	control.Set(hsmtest.Fault{Function: "C_SignInit", Code: pkcs11.CKR_MECHANISM_INVALID})
	control.Set(hsmtest.Fault{Function: "C_EncryptInit", Code: pkcs11.CKR_MECHANISM_INVALID})
	_, err := token.ImportTransportKey(ctx, spec, value)
	require.ErrorIs(t, err, keyderive.ErrUnsupported)

	control.Clear()
	control.Set(hsmtest.Fault{Function: "C_SignInit", Code: pkcs11.CKR_MECHANISM_INVALID})
	composed, err := token.ImportTransportKey(ctx, spec, value)
	require.NoError(t, err)
	mac, err := composed.CMAC(ctx, []byte("message"))
	require.NoError(t, err)
	want, err := memoryProtector(t, spec.Cipher).CMAC(ctx, []byte("message"))
	require.NoError(t, err)
	assert.True(t, want.Equal(mac))

	control.Clear() // the mechanism is there after all: the key has the rights of the other way
	_, err = composed.CMAC(ctx, []byte("message"))
	require.ErrorIs(t, err, ErrAttributes)

	spec.Name = "u"
	key, err := token.ImportTransportKey(ctx, spec, value)
	require.NoError(t, err)
	for _, code := range []uint{pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_DATA_LEN_RANGE} {
		control.Set(hsmtest.Fault{Function: "C_Sign", Code: code, AfterCall: true})
		_, err = key.CMAC(ctx, []byte("message"))
		require.ErrorContains(t, err, "known-answer test of AES-256 cmac")
		control.Clear()
	}
	mac, err = key.CMAC(ctx, []byte("message"))
	require.NoError(t, err)
	assert.True(t, want.Equal(mac))
	rulesKept(t, control)
}

// The published answers are those of Go's ciphers, and a token that gives another is refused.
func TestCMACAnswers(t *testing.T) {
	for c, known := range cmacAnswers {
		key := secretOf(t, known.key)
		p, err := keyblock.InMemory(c, key)
		require.NoError(t, err)
		require.Len(t, known.answers, 2)
		for n, want := range known.answers {
			got, err := p.CMAC(context.Background(), bytesOf(t, cmacMessage)[:n])
			require.NoError(t, err)
			assert.Equal(t, bytesOf(t, want), got.Reveal("test"))
		}
		key.Wipe()
	}
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	onAnchor(t, token, func(s *session) error {
		ways, err := token.config.Profile.cmacWays(keyblock.CipherTDES2)
		require.NoError(t, err)
		for _, way := range ways {
			require.NoError(t, way.test(s))
			wrong := cmacAnswers[way.cipher]
			wrong.answers = map[int]string{8: wrong.answers[8], 20: wrong.answers[8]}
			assert.ErrorIs(t, way.compare(s, wrong), ErrSelfTest)
		}
		return nil
	})
}

func TestTransportKeyOutlivesAGeneration(t *testing.T) {
	token, control, _ := faulty(t, nil)
	key := importTransport(t, token, "t", keyblock.CipherAES128)
	control.LoseSessions()
	require.Eventually(t, func() bool {
		mac, err := key.CMAC(context.Background(), []byte("m"))
		if err != nil {
			require.ErrorIs(t, err, ErrUnavailable)
		}
		mac.Wipe()
		return err == nil && token.Stats().Generation > 1
	}, recoveryLimit, tick)
	rulesKept(t, control)
}
