package hsm

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A token without a two-key type holds L‖R‖L, and computes the same.
func TestThreeKeyDES(t *testing.T) {
	config := configOf(hsmtest.NewToken(t))
	config.Profile.ThreeKeyDES = true
	token := openToken(t, config)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard} {
		spec := specOf(t, boundary.String(), keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
		key := importKey(t, token, spec, loadMaster)
		contractComputes(t, suite.TDES, key)
		onAnchor(t, token, func(s *session) error {
			object, err := s.find(pkcs11.CKO_SECRET_KEY, spec.Label)
			require.NoError(t, err)
			return s.checkAttributes(object, pkcs11.CKK_DES3, mayDerive)
		})
	}
	_, err := token.Exposure(context.Background(), "TOKEN")
	require.NoError(t, err)
}

// A token that derives nothing serves the CARD boundary by ECB alone, at any level.
func TestNoDerivation(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", Code: pkcs11.CKR_FUNCTION_NOT_SUPPORTED})
	config := configOf(made)
	config.Profile.NoDerivation = true
	token := openToken(t, config)
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster)
	contractComputes(t, suite.TDES, key)
	contractConcurrent(t, suite.TDES, key)
	contractContext(t, key)
	require.NoError(t, token.Ready(context.Background()))
	assert.Zero(t, control.Calls("C_DeriveKey"))

	master := secretOf(t, loadMaster)
	defer master.Wipe()
	memory, err := keyderive.InMemory(suite.TDES, master)
	require.NoError(t, err)
	deep := importKey(t, token, specOf(t, "deep", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 3, loadMaster), loadMaster)
	path := keyderive.RootFirst(benchCard, benchInput, benchCard)
	want, err := sessionMAC(memory, path)
	require.NoError(t, err)
	got, err := sessionMAC(deep, path)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	spec := specOf(t, "inside", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	assert.ErrorIs(t, token.ImportMaster(context.Background(), spec, master), keyderive.ErrUnsupported)
	assert.Equal(t, keyderive.BoundaryCard, token.Strictest(keyderive.KindLoad, suite.TDES))
}

// Several issuer levels inside the token are those in memory.
func TestIssuerLevelsInsideTheToken(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	memory, err := keyderive.InMemory(suite.TDES, master)
	require.NoError(t, err)
	paths := []keyderive.Path{{}, keyderive.RootFirst(benchCard), keyderive.RootFirst(benchCard, benchInput), keyderive.RootFirst(benchInput, benchCard, benchInput)}
	for levels, path := range paths {
		want, err := sessionMAC(memory, path)
		require.NoError(t, err)
		for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
			spec := specOf(t, boundary.String()+string(rune('0'+levels)), keyderive.KindLoad, suite.TDES, boundary, levels, loadMaster)
			got, err := sessionMAC(importKey(t, token, spec, loadMaster), path)
			require.NoError(t, err)
			assert.Equal(t, want, got, spec.Label)
		}
	}
}

func sessionMAC(key keyderive.Key, path keyderive.Path) (mac keyderive.MAC, err error) {
	err = keyderive.NewMaster(key, path).WithCard(context.Background(), benchCard, func(card keyderive.Card) error {
		session, err := card.Session(benchInput)
		if err == nil {
			mac, err = session.MAC(benchIssue)
		}
		return err
	})
	return mac, err
}

// A mechanism that answers wrong fails the keys that need it, and no others (rule 8).
func TestAWrongAnswerFailsTheKeysThatNeedIt(t *testing.T) {
	cbc := feature{suite.TDES, useCBC}
	right := answers[cbc]
	answers[cbc] = testMessage
	defer func() { answers[cbc] = right }()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	spec := specOf(t, "token", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	assert.ErrorIs(t, token.ImportMaster(context.Background(), spec, master), ErrSelfTest)
	card := importKey(t, token, specOf(t, "card", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster)
	contractComputes(t, suite.TDES, card)
}

// The tests run again in each generation, before its traffic.
func TestEachGenerationIsTested(t *testing.T) {
	token, control, keys := faulty(t, nil)
	right := answers[feature{suite.TDES, useDerive}]
	defer func() { answers[feature{suite.TDES, useDerive}] = right }()
	g, err := token.generation()
	require.NoError(t, err)
	answers[feature{suite.TDES, useDerive}] = testMessage
	g.fail(classDevice, errLoginLost)
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	_, err = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	assert.ErrorIs(t, err, ErrSelfTest)
	assert.ErrorIs(t, token.Ready(context.Background()), ErrSelfTest)
	contractComputes(t, suite.TDES, keys[2])
	rulesKept(t, control)
}

// The token's own account of its PIN is heeded before a try is spent (rule 5).
func TestPINFlagsAreHeeded(t *testing.T) {
	token, control, _ := faulty(t, nil)
	logins := control.Stats().Logins
	for _, flags := range []uint{pkcs11.CKF_USER_PIN_LOCKED, pkcs11.CKF_USER_PIN_FINAL_TRY} {
		err := token.login(token.newSession(), flags)
		assert.Equal(t, classPIN, classOf(err))
	}
	assert.Equal(t, logins, control.Stats().Logins)
}

// Open whose login never comes out asks for a restart instead of waiting for ever.
func TestOpenThatHangs(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_Login", Hang: hsmtest.HangForever})
	config := configOf(made)
	config.Hang = 30 * time.Millisecond
	_, err := Open(context.Background(), config)
	require.ErrorIs(t, err, ErrRestart)
	control.Clear()
	require.Eventually(t, func() bool {
		token, err := Open(context.Background(), configOf(made))
		return err == nil && token.Close() == nil
	}, recoveryLimit, tick, "the module is given back when the call comes out")
}

// A key configured while a new generation begins is in it.
func TestAdoptionBesideARecovery(t *testing.T) {
	token, _, keys := faulty(t, nil)
	createRaw(t, token, rawKey("late", bytesOf(t, loadMaster), nil))
	spec := specOf(t, "late", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	g, err := token.generation()
	require.NoError(t, err)
	e := &entry{spec: spec}
	g.fail(classStale, errLoginLost)
	require.Eventually(t, func() bool { return token.State() == StateReady && token.Stats().Generation == 2 }, recoveryLimit, tick)
	require.NoError(t, token.adopt(context.Background(), g, e), "checked in generation 1, configured in 2")
	key, err := token.Key("late")
	require.NoError(t, err)
	contractComputes(t, suite.TDES, key)
	contractComputes(t, suite.TDES, keys[0])
}

func TestBareLoop(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	ctx := context.Background()
	importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	before := objects(t, token)
	loop, err := token.BareLoop(ctx, "load", demoPath, 2)
	require.NoError(t, err)
	for threads := 1; threads <= 2; threads++ {
		took, err := loop.Run(ctx, 50, threads)
		require.NoError(t, err)
		assert.Positive(t, took)
	}
	assert.Equal(t, before+1, objects(t, token), "the key at the issuer levels is left")
	_, err = loop.Run(ctx, 50, 3)
	assert.ErrorContains(t, err, "at most 2 threads")
	_, err = token.BareLoop(ctx, "none", demoPath, 1)
	assert.ErrorIs(t, err, ErrKeyNotFound)
	_, err = token.BareLoop(ctx, "load", keyderive.Path{}, 1)
	assert.ErrorContains(t, err, "issuer levels")
	token.current.Load().fail(classStale, pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN))
	_, err = loop.Run(ctx, 50, 1)
	assert.ErrorIs(t, err, ErrUnavailable, "its handles are of the generation before")
}
