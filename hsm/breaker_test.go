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

// A request that draws a fault of the device again and again, while every start passes, does not have the token initialized
// without end.
func TestAFaultThatReturnsIsBraked(t *testing.T) {
	token, control, keys := faulty(t, nil)
	token.steady = longLife
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); {
		if g, err := token.generation(); err == nil {
			_ = g.do(context.Background(), g.jobs, newJob(simple(func(*session) error { return pkcs11.Error(pkcs11.CKR_DEVICE_MEMORY) })))
		}
		time.Sleep(time.Millisecond)
	}
	n := token.Stats().Generation
	assert.Greater(t, n, uint64(1))
	assert.Less(t, n, uint64(12))
	assert.Equal(t, n, control.Stats().Logins)
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
	assert.NotZero(t, token.pause)

	token.steady = 0 // now it has lived long
	begin := time.Now()
	next(t, token, classDevice)
	assert.Less(t, time.Since(begin), recoveryLimit)
	assert.LessOrEqual(t, token.pause, firstPause)
	contractComputes(t, suite.TDES, keys[0])
	rulesKept(t, control)
}

// Generations that end with their sessions unfinalized give up no more of them than are counted.
func TestStaleGenerationsAreFinalizedInTheEnd(t *testing.T) {
	token, control, keys := faulty(t, nil)
	for range 2 * maxDiscarded / (DefaultInFlight + 1) {
		next(t, token, classStale)
		assert.LessOrEqual(t, token.discarded.Load(), int64(maxDiscarded))
	}
	assert.Equal(t, uint64(1), control.Calls("C_Finalize"))
	contractComputes(t, suite.TDES, keys[0])
	rulesKept(t, control)
}

// The anchor is not replaced: the issuer-level keys died with its session, and their handles may be other objects' by now.
func TestALostAnchorEndsItsGeneration(t *testing.T) {
	token, control, keys := faulty(t, nil)
	contractComputes(t, suite.TDES, keys[0])
	g, err := token.generation()
	require.NoError(t, err)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_SESSION_HANDLE_INVALID})
	_, err = sessionMAC(keys[0], keyderive.RootFirst(benchCard)) // another issuer: the anchor derives its key
	require.ErrorIs(t, err, ErrUnavailable)
	assert.True(t, closed(g.down), "before its caller hears of it")
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	contractComputes(t, suite.TDES, keys[0])
	rulesKept(t, control)
}

// An anchor whose call is written off is lost too.
func TestAHangingAnchorEndsItsGeneration(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	require.ErrorIs(t, hangOne(t, control, keys[0], "C_DeriveKey"), ErrUnavailable)
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	contractComputes(t, suite.TDES, keys[0])
	settle(t, token, control)
	rulesKept(t, control)
}

// A mechanism that answers "general error", and with it the keys that need it, does not keep the others from service: not in a
// recovery, and not at Open. When it is well again, so are they.
func TestOneMechanismDoesNotStopTheToken(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	config := configOf(made)
	first, err := Open(context.Background(), config)
	require.NoError(t, err)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryProcess} {
		spec := specOf(t, boundary.String(), keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
		config.Keys = append(config.Keys, spec)
		importKey(t, first, spec, loadMaster)
	}
	require.NoError(t, first.Close())
	for _, code := range []uint{pkcs11.CKR_GENERAL_ERROR, 0x80000042} {
		control.Set(hsmtest.Fault{Function: "C_DecryptInit", Code: code})
		before := control.Stats().Logins
		token, err := Open(context.Background(), config)
		require.NoError(t, err)
		assert.Equal(t, before+maxBlamed, control.Stats().Logins)
		half := func() {
			t.Helper()
			key, err := token.Key("TOKEN")
			require.NoError(t, err)
			contractComputes(t, suite.TDES, key)
			_, err = token.Key("PROCESS")
			assert.ErrorContains(t, err, "PROCESS")
			assert.NotErrorIs(t, err, ErrUnavailable)
			assert.Equal(t, 1, token.Stats().KeysFailed)
		}
		half()
		token.steady = 0
		next(t, token, classDevice)
		half()
		control.Clear()
		next(t, token, classDevice)
		require.NoError(t, token.Ready(context.Background()))
		require.NoError(t, token.Close())
	}

	control.Set(hsmtest.Fault{Function: "C_DecryptInit", Code: pkcs11.CKR_GENERAL_ERROR})
	config.Keys = config.Keys[1:]
	_, err = Open(context.Background(), config)
	require.ErrorContains(t, err, "CKR_GENERAL_ERROR", "no key is good: it is the device")
	require.NotErrorIs(t, err, errAgain)
	rulesKept(t, control)
}

// A fault of the device is neither a tampered master nor the proof that tampering is seen.
func TestADeviceFaultIsNoTampering(t *testing.T) {
	token, control, keys := faulty(t, nil)
	for call := range uint64(4) { // open, two tamper tests, the master
		control.Set(hsmtest.Fault{Function: "C_Decrypt", From: call + 1, To: call + 1, Code: pkcs11.CKR_DEVICE_ERROR, AfterCall: true})
		before := control.Stats().Logins
		next(t, token, classDevice)
		assert.Equal(t, before+2, control.Stats().Logins, "the start with the fault did not stand: call %d", call+1)
		contractComputes(t, suite.TDES, keys[2])
	}
	rulesKept(t, control)
}

// A token that takes less than a batch in one call fails the keys that send batches, and no others.
func TestABatchIsTested(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	token := openToken(t, configOf(made))
	control.Set(hsmtest.Fault{Function: "C_Encrypt", From: 2, To: 2, Code: pkcs11.CKR_DATA_LEN_RANGE, AfterCall: true})
	master := secretOf(t, loadMaster)
	defer master.Wipe()
	spec := specOf(t, "card", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster)
	require.ErrorContains(t, token.ImportMaster(context.Background(), spec, master), "ecb in bulk")
	contractComputes(t, suite.TDES, importKey(t, token, specOf(t, "token", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster))
	next(t, token, classDevice)
	contractComputes(t, suite.TDES, importKey(t, token, spec, loadMaster))
}
