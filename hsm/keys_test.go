package hsm

import (
	"context"
	"maps"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// onAnchor runs f where keys are made.
func onAnchor(t testing.TB, token *Token, f func(*session) error) {
	t.Helper()
	g, err := token.generation()
	require.NoError(t, err)
	require.NoError(t, g.do(context.Background(), g.admin, newJob(func(s *session) (error, error) { return f(s), nil })))
}

// rawKey is the template of a right TOKEN master, with some attributes changed.
func rawKey(label string, value []byte, change map[uint]any) []*pkcs11.Attribute {
	attributes := map[uint]any{
		pkcs11.CKA_CLASS: pkcs11.CKO_SECRET_KEY, pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2, pkcs11.CKA_LABEL: label, pkcs11.CKA_VALUE: value,
		pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false,
		pkcs11.CKA_MODIFIABLE: false, pkcs11.CKA_COPYABLE: false, pkcs11.CKA_DERIVE: true, pkcs11.CKA_ENCRYPT: false,
		pkcs11.CKA_DECRYPT: false, pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
	}
	for kind, value := range change {
		attributes[kind] = value
	}
	var template []*pkcs11.Attribute
	for kind, value := range attributes {
		template = append(template, pkcs11.NewAttribute(kind, value))
	}
	return template
}

func createRaw(t testing.TB, token *Token, template []*pkcs11.Attribute) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		_, err := s.module.ctx.CreateObject(s.handle, template)
		return err
	})
}

func TestAttributesRefused(t *testing.T) {
	for name, config := range bothTokens {
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			config := config(t)
			if config.Profile.Strictest(keyderive.KindLoad, alg) == keyderive.BoundaryToken {
				t.Run(name+" "+alg.String(), func(t *testing.T) { attributesRefused(t, alg, openToken(t, config)) })
			}
		}
	}
}

func attributesRefused(t *testing.T, alg suite.Algorithm, token *Token) {
	value := bytesOf(t, loadMaster)
	keyType := uint(pkcs11.CKK_DES2)
	if alg == suite.SM4 {
		keyType = token.config.Profile.SM4KeyType
	}
	for _, c := range []struct {
		name   string
		change map[uint]any
		want   string
	}{
		{"as it must be", nil, ""},
		{"not sensitive", map[uint]any{pkcs11.CKA_SENSITIVE: false}, "CKA_SENSITIVE"},
		{"extractable", map[uint]any{pkcs11.CKA_EXTRACTABLE: true}, "CKA_EXTRACTABLE"},
		{"modifiable", map[uint]any{pkcs11.CKA_MODIFIABLE: true}, "CKA_MODIFIABLE"},
		{"copyable", map[uint]any{pkcs11.CKA_COPYABLE: true}, "CKA_COPYABLE"},
		{"public", map[uint]any{pkcs11.CKA_PRIVATE: false}, "CKA_PRIVATE"},
		{"of the session", map[uint]any{pkcs11.CKA_TOKEN: false}, "CKA_TOKEN"},
		{"may encrypt", map[uint]any{pkcs11.CKA_ENCRYPT: true}, "CKA_ENCRYPT"},
		{"may decrypt", map[uint]any{pkcs11.CKA_DECRYPT: true}, "CKA_DECRYPT"},
		{"may wrap", map[uint]any{pkcs11.CKA_WRAP: true}, "CKA_WRAP"},
		{"may unwrap", map[uint]any{pkcs11.CKA_UNWRAP: true}, "CKA_UNWRAP"},
		{"may sign", map[uint]any{pkcs11.CKA_SIGN: true}, "CKA_SIGN"},
		{"may verify", map[uint]any{pkcs11.CKA_VERIFY: true}, "CKA_VERIFY"},
		{"may not derive", map[uint]any{pkcs11.CKA_DERIVE: false}, "CKA_DERIVE"},
		{"three keys", map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES3, pkcs11.CKA_VALUE: append(value[:16:16], value[:8]...)}, "CKA_KEY_TYPE"},
		{"of no cipher", map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_GENERIC_SECRET}, "CKA_KEY_TYPE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := specOf(t, c.name, keyderive.KindLoad, alg, keyderive.BoundaryToken, 1, loadMaster)
			change := map[uint]any{pkcs11.CKA_KEY_TYPE: keyType}
			maps.Copy(change, c.change)
			createRaw(t, token, rawKey(c.name, value, change))
			err := token.Adopt(context.Background(), spec)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrAttributes)
			assert.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, c.name)
			_, err = token.Key(c.name)
			assert.ErrorIs(t, err, ErrKeyNotFound, "a refused key is not configured")
		})
	}
}

// The right of a CARD master is the least that its levels can do with.
func TestCardMasterHasTheLeastRight(t *testing.T) {
	made := hsmtest.NewToken(t)
	first, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	specs := map[uint]KeySpec{}
	for levels, right := range []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DERIVE} {
		specs[right] = specOf(t, []string{"flat", "levels"}[levels], keyderive.KindTAC, suite.TDES, keyderive.BoundaryCard, levels, loadMaster)
		importKey(t, first, specs[right], loadMaster)
	}
	require.NoError(t, first.Close())
	token := openToken(t, configOf(made)) // which is told of no key
	for right, spec := range specs {
		onAnchor(t, token, func(s *session) error {
			object, err := s.find(pkcs11.CKO_SECRET_KEY, spec.Label)
			require.NoError(t, err)
			for _, kind := range []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DERIVE} {
				value, known, err := s.attribute(object, kind)
				require.NoError(t, err)
				require.True(t, known)
				assert.Equal(t, kind == right, value[0] == 1)
			}
			return nil
		})
		other := spec
		other.IssuerLevels = 1 - spec.IssuerLevels
		assert.ErrorIs(t, token.Adopt(context.Background(), other), ErrAttributes)
		require.NoError(t, token.Adopt(context.Background(), spec))
		assert.ErrorIs(t, token.Adopt(context.Background(), other), ErrExists)
	}
}

// What is wrong with one key fails that key closed, by name, and no other, at Open and after.
func TestKeysFailClosedByName(t *testing.T) {
	made := hsmtest.NewToken(t)
	spec := func(label string) KeySpec {
		return specOf(t, label, keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	}
	first, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	for _, label := range []string{"good", "twin", "twin", "other value"} {
		createRaw(t, first, rawKey(label, bytesOf(t, loadMaster), nil))
	}
	require.NoError(t, first.Close())

	config := configOf(made)
	other := spec("other value")
	other.KCV = kcv.Value{1, 2, 3}
	config.Keys = []KeySpec{spec("good"), spec("twin"), spec("none"), other}
	token := openToken(t, config)
	for label, want := range map[string]error{"twin": ErrAmbiguous, "none": ErrKeyNotFound, "other value": ErrKCVMismatch} {
		_, err := token.Key(label)
		assert.ErrorIs(t, err, want)
		assert.ErrorContains(t, err, label)
		ready := token.Ready(context.Background())
		assert.ErrorIs(t, ready, want)
		assert.ErrorContains(t, ready, label)
		key := &Key{token: token, spec: spec(label)}
		assert.ErrorIs(t, key.Lend(context.Background(), demoPath, nil), want)
	}
	assert.Equal(t, 3, token.Stats().KeysFailed)
	good, err := token.Key("good")
	require.NoError(t, err)
	contractComputes(t, suite.TDES, good)
}

func TestImportRefusals(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	ctx := context.Background()
	spec := specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	for _, c := range []struct {
		name, key string
		change    func(*KeySpec)
		want      string
	}{
		{"8 bytes", loadMaster[:16], nil, "8 bytes"},
		{"24 bytes", loadMaster + loadMaster[:16], nil, "24 bytes"},
		{"single DES", loadMaster[:16] + loadMaster[:16], nil, "single DES"},
		{"single DES but for parity", loadMaster[:16] + "F6C1734AABB56E2C", nil, "single DES"},
		{"other check value", tacMaster, nil, "check value mismatch"},
		{"reserved label", loadMaster, func(s *KeySpec) { s.Label = kekLabel }, "reserved"},
		{"no label", loadMaster, func(s *KeySpec) { s.Label = "" }, "label"},
		{"no kind", loadMaster, func(s *KeySpec) { s.Kind = 0 }, "kind"},
		{"no algorithm", loadMaster, func(s *KeySpec) { s.Algorithm = 0 }, "algorithm"},
		{"no boundary", loadMaster, func(s *KeySpec) { s.Boundary = 0 }, "boundary"},
		{"negative levels", loadMaster, func(s *KeySpec) { s.IssuerLevels = -1 }, "levels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := spec
			if c.change != nil {
				c.change(&spec)
			}
			key := secretOf(t, c.key)
			defer key.Wipe()
			assert.ErrorContains(t, token.ImportMaster(ctx, spec, key), c.want)
			onAnchor(t, token, func(s *session) error {
				found, err := s.findAll()
				assert.Empty(t, found, "nothing was left in the token")
				return err
			})
		})
	}
	importKey(t, token, spec, loadMaster)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		spec.Boundary = boundary
		key := secretOf(t, loadMaster)
		assert.ErrorIs(t, token.ImportMaster(ctx, spec, key), ErrExists, boundary)
		key.Wipe()
	}
	spec.Algorithm, spec.Label = suite.SM4, "sm4"
	spec.Boundary = keyderive.BoundaryToken
	block, err := suite.SM4.New(bytesOf(t, loadMaster))
	require.NoError(t, err)
	spec.KCV = kcv.Of(block)
	key := secretOf(t, loadMaster)
	defer key.Wipe()
	assert.ErrorIs(t, token.ImportMaster(ctx, spec, key), keyderive.ErrUnsupported, "SoftHSM has no SM4")
}

// A sealed master opens under its own label and algorithm only, and not with a bit changed.
func TestSealedMasters(t *testing.T) {
	made := hsmtest.NewToken(t)
	spec := specOf(t, "sm4", keyderive.KindLoad, suite.SM4, keyderive.BoundaryProcess, 1, loadMaster)
	token, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	importKey(t, token, spec, loadMaster)
	var value []byte
	onAnchor(t, token, func(s *session) error {
		object, err := s.find(pkcs11.CKO_DATA, "sm4")
		require.NoError(t, err)
		value, _, err = s.attribute(object, pkcs11.CKA_VALUE)
		return err
	})
	require.Len(t, value, sealedSize)
	assert.NotContains(t, string(value), string(bytesOf(t, loadMaster)[:4]))
	flipped := append([]byte(nil), value...)
	flipped[20] ^= 1
	for label, value := range map[string][]byte{"moved": value, "flipped": flipped, "short": value[:sealedSize-1]} {
		createRaw(t, token, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)})
		spec := spec
		spec.Label = label
		assert.ErrorIs(t, token.Adopt(context.Background(), spec), ErrAttributes, label)
	}
	require.NoError(t, token.Close())

	token, err = Open(context.Background(), configOf(made)) // which is told of no key
	require.NoError(t, err)
	other := spec
	other.Algorithm = suite.TDES
	assert.ErrorIs(t, token.Adopt(context.Background(), other), ErrAttributes)
	assert.Equal(t, uint64(1), token.Stats().Generation)
	require.NoError(t, token.Close())

	config := configOf(made)
	config.Keys = []KeySpec{spec}
	token = openToken(t, config)
	require.NoError(t, token.Ready(context.Background()))
	key, err := token.Key("sm4")
	require.NoError(t, err)
	contractComputes(t, suite.SM4, key)
	assert.Equal(t, uint64(1), token.Stats().Generation, "a tag that does not match is no fault of the device")
}

// Levels belong to the key set: no request shortens or lengthens them.
func TestLevelsAreTheKeySets(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	for _, path := range []keyderive.Path{{}, keyderive.RootFirst(benchCard, benchCard)} {
		err := key.Lend(context.Background(), path, func(keyderive.Unit) error { return nil })
		assert.ErrorContains(t, err, "levels")
	}
}

// Many issuers share a bounded number of cached keys, and all compute right.
func TestIssuerLevelKeysAreBounded(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	memory, err := keyderive.InMemory(suite.TDES, master)
	require.NoError(t, err)
	mac := func(key keyderive.Key, path keyderive.Path) (mac keyderive.MAC) {
		require.NoError(t, keyderive.NewMaster(key, path).WithCard(context.Background(), benchCard, func(card keyderive.Card) error {
			session, err := card.Session(benchInput)
			if err == nil {
				mac, err = session.MAC(benchIssue)
			}
			return err
		}))
		return mac
	}
	for i := range maxLevelKeys + 20 {
		path := keyderive.RootFirst(keyderive.Factor{byte(i >> 8), byte(i)})
		assert.Equal(t, mac(memory, path), mac(key, path))
	}
	g, err := token.generation()
	require.NoError(t, err)
	assert.Len(t, g.levels.keys, maxLevelKeys)
}

// Everything that a Lend derives is destroyed in it.
func TestNothingIsLeftInTheToken(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	count := func() (n int) {
		onAnchor(t, token, func(s *session) error {
			require.NoError(t, s.module.ctx.FindObjectsInit(s.handle, nil))
			found, _, err := s.module.ctx.FindObjects(s.handle, 1000)
			require.NoError(t, err)
			n = len(found)
			return s.module.ctx.FindObjectsFinal(s.handle)
		})
		return n
	}
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	contractComputes(t, suite.TDES, key)
	before := count()
	assert.Equal(t, 2, before, "the master and its issuer-level key")
	contractComputes(t, suite.TDES, key)
	contractUse(t, key)
	require.NoError(t, token.Ready(context.Background()))
	_, err := token.Exposure(context.Background(), "load")
	require.NoError(t, err)
	assert.Equal(t, before, count())

	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		value := secretOf(t, loadMaster)
		scratch, err := token.Scratch(context.Background(), KeySpec{Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: boundary}, value)
		require.NoError(t, err)
		contractComputes(t, suite.TDES, scratch)
		require.NoError(t, scratch.Close())
		card, err := token.ScratchCard(context.Background(), KeySpec{Kind: keyderive.KindMaintenance, Algorithm: suite.TDES, Boundary: boundary}, value)
		require.NoError(t, err)
		require.NoError(t, card.Close())
		value.Wipe()
		assert.Equal(t, before, count(), boundary)
	}
}

// SoftHSM gives derived keys to the holder of the PIN, and the report says so (DESIGN, §2).
func TestExposureTellsTheTruth(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	importKey(t, token, specOf(t, "tac", keyderive.KindTAC, suite.TDES, keyderive.BoundaryCard, 0, loadMaster), loadMaster)
	for label, detail := range map[string]string{"load": "holder of the PIN", "tac": "boundary allows"} {
		report, err := token.Exposure(context.Background(), label)
		require.NoError(t, err)
		assert.True(t, report.Extractable)
		assert.Contains(t, report.Detail, detail)
	}
	_, err := token.Exposure(context.Background(), "none")
	assert.ErrorIs(t, err, ErrKeyNotFound)
}

func TestScratchDiesWithItsGeneration(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	value := secret.Copy(bytesOf(t, loadMaster))
	defer value.Wipe()
	scratch, err := token.Scratch(context.Background(), KeySpec{Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: keyderive.BoundaryToken}, value)
	require.NoError(t, err)
	g, err := token.generation()
	require.NoError(t, err)
	g.fail(classStale, errLoginLost)
	_, err = loadMAC2(context.Background(), t, scratch, demoPath, "7E1722D0")
	assert.ErrorIs(t, err, ErrUnavailable)
	assert.NoError(t, scratch.Close())
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
}

// A configured label keeps its spec: Adopt and ImportMaster refuse another, and leave nothing behind.
func TestAConfiguredKeyKeepsItsSpec(t *testing.T) {
	made := hsmtest.NewToken(t)
	config := configOf(made)
	spec := specOf(t, "missing", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	config.Keys = []KeySpec{spec}
	token := openToken(t, config)
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	before := objects(t, token)
	other := key.Spec()
	other.Boundary = keyderive.BoundaryCard
	assert.ErrorIs(t, token.Adopt(context.Background(), other), ErrExists)
	g, err := token.generation()
	require.NoError(t, err)
	assert.ErrorIs(t, token.adopt(context.Background(), g, &entry{spec: other}), ErrExists, "configured while it was checked")
	e, err := g.entry("load")
	require.NoError(t, err)
	assert.Equal(t, key.Spec(), e.spec)
	require.NoError(t, token.Adopt(context.Background(), key.Spec()), "the same again")

	other = spec
	other.IssuerLevels = 2
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	assert.ErrorIs(t, token.ImportMaster(context.Background(), other, master), ErrExists)
	assert.Equal(t, before, objects(t, token))
	contractComputes(t, suite.TDES, importKey(t, token, spec, loadMaster))
	contractComputes(t, suite.TDES, key)
}
