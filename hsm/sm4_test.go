package hsm

import (
	"context"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// sm4Config makes a token that has SM4 and key-XOR-key derivation, by the profile that an operator would write for it.
func sm4Config(t testing.TB) (Config, *hsmtest.Control) {
	t.Helper()
	return vendorConfig(t, nil)
}

// vendorConfig makes a token with all the mechanisms of the test module, but for a change.
func vendorConfig(t testing.TB, change func(*hsmtest.Mechanisms)) (Config, *hsmtest.Control) {
	t.Helper()
	mechanisms := hsmtest.AllMechanisms()
	if change != nil {
		change(&mechanisms)
	}
	made, control := hsmtest.NewVendorToken(t, mechanisms)
	config := configOf(made)
	var err error
	config.Profile, err = ParseProfile([]byte(made.Mechanisms.Profile()))
	require.NoError(t, err)
	return config, control
}

// With SM4 and key-XOR-key derivation everything is inside the token.
func TestEveryKindIsInsideTheTokenThatHasAll(t *testing.T) {
	config, _ := sm4Config(t)
	token := openToken(t, config)
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, kind := range keyderive.Kinds() {
			require.Equal(t, keyderive.BoundaryToken, token.Strictest(kind, alg), "%v %v", alg, kind)
			importKey(t, token, specOf(t, alg.String()+kind.String(), kind, alg, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
		}
	}
	require.NoError(t, token.Ready(context.Background()))
}

// The TAC key of 3DES folds inside the token: what comes out is what memory computes, and nothing is left behind.
func TestFoldInsideTheToken(t *testing.T) {
	config, control := sm4Config(t)
	token := openToken(t, config)
	key := importKey(t, token, specOf(t, "tac", keyderive.KindTAC, suite.TDES, keyderive.BoundaryToken, 1, tacMaster), tacMaster)
	tac := func(key keyderive.Key) (mac keyderive.MAC) {
		require.NoError(t, keyderive.NewMaster(key, demoPath).WithCard(context.Background(), benchCard, func(card keyderive.Card) (err error) {
			mac, err = recordTAC(card)
			return err
		}))
		return mac
	}
	want := tac(memoryKey(t, suite.TDES, tacMaster))
	assert.Equal(t, want, tac(key))
	before, derived := objects(t, token), control.Calls("C_DeriveKey")
	assert.Equal(t, want, tac(key))
	assert.Equal(t, before, objects(t, token))
	assert.Equal(t, uint64(3), control.Calls("C_DeriveKey")-derived, "the two halves, and the key that they fold into")
}

// Masters of the token's own SM4 are there after a restart of the service, and of no other label.
func TestSM4MastersOutliveTheProcess(t *testing.T) {
	config, _ := sm4Config(t)
	first, err := Open(context.Background(), config)
	require.NoError(t, err)
	for _, boundary := range allBoundaries {
		spec := specOf(t, boundary.String(), keyderive.KindLoad, suite.SM4, boundary, 1, loadMaster)
		importKey(t, first, spec, loadMaster)
		config.Keys = append(config.Keys, spec)
	}
	require.NoError(t, first.Close())
	token := openToken(t, config)
	require.NoError(t, token.Ready(context.Background()))
	for _, spec := range config.Keys {
		key, err := token.Key(spec.Label)
		require.NoError(t, err)
		contractComputes(t, suite.SM4, key)
	}
}

// A token that encrypts with SM4 and does not derive serves the CARD boundary, at any level, and 3DES as before.
func TestSM4WithoutDerivation(t *testing.T) {
	config, _ := vendorConfig(t, func(m *hsmtest.Mechanisms) { m.SM4Derive = 0 })
	token := openToken(t, config)
	assert.Equal(t, keyderive.BoundaryCard, token.Strictest(keyderive.KindLoad, suite.SM4))
	assert.Equal(t, keyderive.BoundaryToken, token.Strictest(keyderive.KindLoad, suite.TDES))
	memory := memoryKey(t, suite.SM4, loadMaster)
	for levels, path := range []keyderive.Path{{}, demoPath, keyderive.RootFirst(benchCard, benchInput)} {
		key := importKey(t, token, specOf(t, string(rune('0'+levels)), keyderive.KindLoad, suite.SM4, keyderive.BoundaryCard, levels, loadMaster), loadMaster)
		want, err := sessionMAC(memory, path)
		require.NoError(t, err)
		got, err := sessionMAC(key, path)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	spec := specOf(t, "inside", keyderive.KindLoad, suite.SM4, keyderive.BoundaryToken, 1, loadMaster)
	assert.ErrorIs(t, token.ImportMaster(context.Background(), spec, master), keyderive.ErrUnsupported)
	scratch, err := token.Scratch(context.Background(), KeySpec{Kind: keyderive.KindLoad, Algorithm: suite.SM4, Boundary: keyderive.BoundaryCard}, master)
	require.NoError(t, err)
	contractComputes(t, suite.SM4, scratch)
	require.NoError(t, scratch.Close())
	require.NoError(t, token.Ready(context.Background()))
}

// A profile with wrong numbers is found out by the known answers: the keys fail closed, and those of the other algorithm do not.
func TestWrongNumbersAreFoundOut(t *testing.T) {
	for name, change := range map[string]func(*Profile){
		"ecb and cbc exchanged": func(p *Profile) { p.SM4ECB, p.SM4CBC = p.SM4CBC, p.SM4ECB },
		"derives by xor":        func(p *Profile) { p.SM4Derive, p.XORKeys = p.XORKeys, 0 },
		"no such mechanism":     func(p *Profile) { p.SM4CBC = 0x80001234 },
		"another cipher's key":  func(p *Profile) { p.SM4KeyType = pkcs11.CKK_DES2 },
		"another cipher's numbers": func(p *Profile) {
			p.SM4KeyType, p.SM4ECB, p.SM4CBC = pkcs11.CKK_DES2, pkcs11.CKM_DES3_ECB, pkcs11.CKM_DES3_CBC
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, _ := sm4Config(t)
			change(&config.Profile)
			token := openToken(t, config)
			master := secretOf(t, loadMaster)
			defer master.Wipe()
			spec := specOf(t, "load", keyderive.KindLoad, suite.SM4, keyderive.BoundaryToken, 1, loadMaster)
			require.ErrorContains(t, token.ImportMaster(context.Background(), spec, master), "SM4")
			_, err := token.Key("load")
			require.ErrorIs(t, err, ErrKeyNotFound)
			des := importKey(t, token, specOf(t, "des", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
			contractComputes(t, suite.TDES, des)
		})
	}
}

// The findings are real on both sides: the hardened token refuses, the other gives away.
func TestExposureOfAVendorsToken(t *testing.T) {
	for _, hardened := range []bool{false, true} {
		config, _ := vendorConfig(t, func(m *hsmtest.Mechanisms) { m.Hardened = hardened })
		token, err := Open(context.Background(), config)
		require.NoError(t, err)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			label := alg.String()
			key := importKey(t, token, specOf(t, label, keyderive.KindLoad, alg, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
			report, err := token.Exposure(context.Background(), label)
			require.NoError(t, err)
			assert.Equal(t, !hardened, report.Extractable, label)
			assert.Contains(t, report.Detail, map[bool]string{false: "holder of the PIN", true: "refuses"}[hardened])
			assert.Contains(t, report.Detail, "not made in the token", "it was imported")
			contractComputes(t, alg, key)
		}
		findings := token.Findings()
		require.Len(t, findings, 2)
		assert.Equal(t, []any{"3DES", !hardened, "SM4", !hardened},
			[]any{findings[0].Label, findings[0].Extractable, findings[1].Label, findings[1].Extractable})
		require.NoError(t, token.Ready(context.Background()), "check values of a token that derives nothing readable are its own")
		require.NoError(t, token.Close())
	}
}

// Recovery by the rules of DESIGN §5, under traffic of both algorithms inside the token.
func TestRecoveryOfTheSM4Token(t *testing.T) {
	config, control := sm4Config(t)
	token := openToken(t, config)
	token.steady = 0
	var keys []*Key
	for _, e := range []struct {
		alg      suite.Algorithm
		boundary keyderive.Boundary
	}{{suite.SM4, keyderive.BoundaryToken}, {suite.SM4, keyderive.BoundaryCard}, {suite.TDES, keyderive.BoundaryToken}} {
		spec := specOf(t, e.alg.String()+e.boundary.String(), keyderive.KindLoad, e.alg, e.boundary, 1, loadMaster)
		keys = append(keys, importKey(t, token, spec, loadMaster))
	}
	stop, good := traffic(t, keys, 6)
	defer stop()
	recovered := func(what any) {
		t.Helper()
		before := good.Load()
		require.Eventually(t, func() bool { return good.Load() > before+20 && token.State() == StateReady }, recoveryLimit, tick, "%v", what)
	}
	for _, code := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_DEVICE_ERROR} {
		for _, function := range []string{"C_DeriveKey", "C_EncryptInit", "C_Encrypt"} {
			control.Set(hsmtest.Fault{Function: function, From: 2, To: 3, Code: code})
			seen := control.Calls(function)
			require.Eventually(t, func() bool { return control.Calls(function) > seen+3 }, recoveryLimit, tick, "%v %s", code, function)
			recovered(pkcs11.Error(code))
		}
	}
	control.Clear()
	control.LoseSessions()
	recovered("sessions lost")
	control.RemoveToken(recoveryLimit / 20)
	recovered("token away")
	stop()
	require.NoError(t, token.Ready(context.Background()))
	assert.NotZero(t, token.Stats().Recoveries)
	assert.Zero(t, control.Stats().PINRefused)
	rulesKept(t, control)
}
