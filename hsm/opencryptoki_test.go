package hsm

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// openCryptoki's software token is the second PKCS#11 library that the contract is held against: it derives nothing, has no two-key
// DES type and no AES-GCM, and is behind a daemon.

func openCryptokiConfig(t testing.TB, made *hsmtest.Token) Config {
	t.Helper()
	profile, err := ShippedProfile(ProfileOpenCryptoki)
	require.NoError(t, err)
	config := configOf(made)
	config.Profile = profile
	return config
}

func TestKeyContractOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		var names []string
		for _, e := range engines(config.Profile) {
			names = append(names, e.name)
			t.Run(e.name, func(t *testing.T) {
				token := openToken(t, config)
				contract(t, e, token)
				destroyAll(t, token)
			})
		}
		assert.ElementsMatch(t, []string{"memory 3DES", "memory SM4", "CARD 3DES", "PROCESS 3DES", "PROCESS SM4"}, names)
	})
}

// destroyAll destroys the masters that the token holds, so that the next to use it finds it as new, but for its sealing key.
func destroyAll(t *testing.T, token *Token) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		for _, kind := range []keyderive.Kind{keyderive.KindLoad, keyderive.KindMaintenance} {
			found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, kind.String()))
			require.NoError(t, err)
			for _, object := range found {
				require.NoError(t, s.destroy(object))
			}
		}
		return nil
	})
}

func TestRightsAndManyCardsOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		token := openToken(t, openCryptokiConfig(t, made))
		for label, e := range map[string]struct {
			alg      suite.Algorithm
			boundary keyderive.Boundary
		}{
			"card":        {suite.TDES, keyderive.BoundaryCard},
			"process":     {suite.TDES, keyderive.BoundaryProcess},
			"process sm4": {suite.SM4, keyderive.BoundaryProcess},
		} {
			contractRights(t, importKey(t, token, specOf(t, label, keyderive.KindLoad, e.alg, e.boundary, 0, loadMaster), loadMaster))
		}
		for levels, path := range []keyderive.Path{{}, demoPath} {
			label := []string{"flat", "levels"}[levels]
			spec := specOf(t, label, keyderive.KindTAC, suite.TDES, keyderive.BoundaryCard, levels, tacMaster)
			contractMany(t, importKey(t, token, spec, tacMaster), path)
		}
	})
}

// It takes the two-key type as well, which its own list of mechanisms does not have: the profile does without it.
func TestTwoKeyDESOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		require.True(t, config.Profile.ThreeKeyDES)
		config.Profile.ThreeKeyDES = false
		token := openToken(t, config)
		spec := specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster)
		contractComputes(t, suite.TDES, importKey(t, token, spec, loadMaster))
		mechanisms, err := token.module.ctx.GetMechanismList(0)
		require.NoError(t, err)
		for _, m := range mechanisms {
			assert.NotEqual(t, uint(pkcs11.CKM_DES2_KEY_GEN), m.Mechanism)
		}
	})
}

// Issuer levels of any number are those in memory.
func TestIssuerLevelsOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		token := openToken(t, openCryptokiConfig(t, made))
		memory := memoryKey(t, suite.TDES, loadMaster)
		for levels, path := range []keyderive.Path{{}, keyderive.RootFirst(benchCard), keyderive.RootFirst(benchInput, benchCard, benchInput)} {
			want, err := sessionMAC(memory, path)
			require.NoError(t, err)
			label := string(rune('0' + levels))
			spec := specOf(t, label, keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, path.Len(), loadMaster)
			got, err := sessionMAC(importKey(t, token, spec, loadMaster), path)
			require.NoError(t, err)
			assert.Equal(t, want, got, label)
		}
	})
}

// The known-answer tests, one by one: what the profile uses holds, and what it says is missing is.
func TestKnownAnswersOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		token := openToken(t, openCryptokiConfig(t, made))
		profile := token.config.Profile
		onAnchor(t, token, func(s *session) error {
			for _, f := range []feature{{suite.TDES, useECB}, {suite.TDES, useCBC}, {suite.TDES, useBatch}, {use: useSeal}} {
				assert.NoError(t, profile.test(s, f), f)
			}
			absent := pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)
			assert.ErrorIs(t, profile.test(s, feature{suite.TDES, useDerive}), absent)
			gcm := profile
			gcm.NoGCM = false
			assert.ErrorIs(t, gcm.test(s, feature{use: useSeal}), absent)
			assert.ErrorIs(t, profile.test(s, feature{suite.SM4, useECB}), keyderive.ErrUnsupported)
			return nil
		})
		for label, spec := range map[string]KeySpec{
			"inside":     specOf(t, "inside", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster),
			"sm4 inside": specOf(t, "sm4 inside", keyderive.KindLoad, suite.SM4, keyderive.BoundaryToken, 1, loadMaster),
			"sm4 card":   specOf(t, "sm4 card", keyderive.KindLoad, suite.SM4, keyderive.BoundaryCard, 1, loadMaster),
		} {
			master := secretOf(t, loadMaster)
			assert.ErrorIs(t, token.ImportMaster(context.Background(), spec, master), keyderive.ErrUnsupported, label)
			master.Wipe()
		}
	})
}

// rawOpenCryptokiKey is the template of a right CARD master there, with some attributes changed.
func rawOpenCryptokiKey(t *testing.T, label string, change map[uint]any) []*pkcs11.Attribute {
	value := bytesOf(t, loadMaster)
	right := map[uint]any{
		pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES3, pkcs11.CKA_VALUE: append(value, value[:8]...),
		pkcs11.CKA_DERIVE: false, pkcs11.CKA_ENCRYPT: true,
	}
	for kind, value := range change {
		right[kind] = value
	}
	return slices.DeleteFunc(rawKey(label, nil, right), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_COPYABLE })
}

// Keys that are less protected, or may do more, are refused there as everywhere, and so is a copy with another right: a token of
// PKCS#11 v2.20 does not know CKA_COPYABLE.
func TestAttributesRefusedOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		token := openToken(t, config)
		adopt := func(label string) error {
			return token.Adopt(context.Background(), specOf(t, label, keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster))
		}
		for label, change := range map[string]map[uint]any{
			"CKA_SENSITIVE":   {pkcs11.CKA_SENSITIVE: false},
			"CKA_EXTRACTABLE": {pkcs11.CKA_EXTRACTABLE: true},
			"CKA_MODIFIABLE":  {pkcs11.CKA_MODIFIABLE: true},
			"CKA_PRIVATE":     {pkcs11.CKA_PRIVATE: false},
			"CKA_TOKEN":       {pkcs11.CKA_TOKEN: false},
			"CKA_DECRYPT":     {pkcs11.CKA_DECRYPT: true},
			"CKA_WRAP":        {pkcs11.CKA_WRAP: true},
			"CKA_UNWRAP":      {pkcs11.CKA_UNWRAP: true},
			"CKA_SIGN":        {pkcs11.CKA_SIGN: true},
			"CKA_VERIFY":      {pkcs11.CKA_VERIFY: true},
			"CKA_DERIVE":      {pkcs11.CKA_DERIVE: true},
			"CKA_ENCRYPT":     {pkcs11.CKA_ENCRYPT: false},
			"CKA_KEY_TYPE":    {pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2, pkcs11.CKA_VALUE: bytesOf(t, loadMaster)},
		} {
			createRaw(t, token, rawOpenCryptokiKey(t, label, change))
			err := adopt(label)
			require.ErrorIs(t, err, ErrAttributes, label)
			assert.ErrorContains(t, err, label)
		}
		createRaw(t, token, rawOpenCryptokiKey(t, "right", nil))
		require.NoError(t, adopt("right"))
		onAnchor(t, token, func(s *session) error {
			master, err := s.find(pkcs11.CKO_SECRET_KEY, "right")
			require.NoError(t, err)
			template := func(label string, kind uint, value bool) []*pkcs11.Attribute {
				return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(kind, value)}
			}
			_, err = s.module.ctx.CopyObject(s.handle, master, template("copy", pkcs11.CKA_DECRYPT, true))
			require.NoError(t, err, "the token lets the PIN's holder do this")
			for kind, value := range map[uint]bool{pkcs11.CKA_EXTRACTABLE: true, pkcs11.CKA_SENSITIVE: false} {
				_, err := s.module.ctx.CopyObject(s.handle, master, template("out", kind, value))
				assert.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_READ_ONLY))
			}
			return nil
		})
		assert.ErrorIs(t, adopt("copy"), ErrAttributes)
	})
}

// Keys are there after the process, and the daemon, and are what they were.
func TestKeysStayOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, daemon *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		first, err := Open(context.Background(), config)
		require.NoError(t, err)
		for label, boundary := range map[string]keyderive.Boundary{"card": keyderive.BoundaryCard, "process": keyderive.BoundaryProcess} {
			spec := specOf(t, label, keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
			importKey(t, first, spec, loadMaster)
			config.Keys = append(config.Keys, spec)
		}
		require.NoError(t, first.Close())
		require.NoError(t, daemon.Kill())
		_, err = Open(context.Background(), config)
		require.ErrorContains(t, err, "CKR_FUNCTION_FAILED", "no daemon")
		_, err = opencryptoki.Start(t.Context())
		require.NoError(t, err)

		second := openToken(t, config)
		require.NoError(t, second.Ready(context.Background()))
		for _, label := range []string{"card", "process"} {
			key, err := second.Key(label)
			require.NoError(t, err)
			contractComputes(t, suite.TDES, key)
		}
		exposure, err := second.Exposure(context.Background(), "card")
		require.NoError(t, err)
		assert.True(t, exposure.Extractable)
	})
}

// countedPIN counts how often the PIN is asked for: once for each try to log in.
func countedPIN(config *Config, pin *atomic.Value) (asked *atomic.Int64) {
	asked = &atomic.Int64{}
	config.PIN = func(context.Context) (secret.Bytes, error) {
		asked.Add(1)
		return secret.Copy([]byte(pin.Load().(string))), nil
	}
	return asked
}
