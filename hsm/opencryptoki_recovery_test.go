package hsm

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// pinFlags is what the token says of the user's PIN: 0 when no try is lost.
func pinFlags(t *testing.T, token *Token) uint {
	t.Helper()
	_, flags, err := token.module.findSlot(token.config.TokenLabel)
	require.NoError(t, err)
	return flags & (pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED)
}

// The daemon is killed under traffic. Clients that are in serve on, for the cipher runs in their own process; one that has to begin anew
// is refused until the daemon is back, and is then in service within five seconds, with one login and no PIN try lost.
func TestDaemonKilledOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, daemon *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		var pin atomic.Value
		pin.Store(made.PIN)
		asked := countedPIN(&config, &pin)
		token := openToken(t, config)
		token.steady = 0
		keys := []*Key{
			importKey(t, token, specOf(t, "card", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster),
			importKey(t, token, specOf(t, "process", keyderive.KindLoad, suite.TDES, keyderive.BoundaryProcess, 1, loadMaster), loadMaster),
		}
		stop, good := traffic(t, keys, 6)
		defer stop()
		serves := func() {
			t.Helper()
			before := good.Load()
			require.Eventually(t, func() bool { return good.Load() > before+20 && token.State() == StateReady }, recoveryLimit, tick)
		}
		serves()
		require.NoError(t, daemon.Kill())
		serves()
		require.NoError(t, token.Ready(context.Background()))
		assert.Equal(t, int64(1), asked.Load())

		lost, err := token.generation()
		require.NoError(t, err)
		lost.fail(classDevice, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR))
		begin := time.Now()
		_, err = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
		require.ErrorIs(t, err, ErrUnavailable)
		assert.Less(t, time.Since(begin), 200*time.Millisecond, "refused at once")
		time.Sleep(2 * time.Second) // backoff at its longest
		require.Equal(t, StateRecovering, token.State())
		assert.Equal(t, int64(1), asked.Load(), "no login without the daemon")

		begin = time.Now()
		_, err = opencryptoki.Start(t.Context())
		require.NoError(t, err)
		serves()
		t.Logf("in service %v after the daemon's start began", time.Since(begin).Round(time.Millisecond))
		stop()
		assert.Equal(t, int64(2), asked.Load())
		assert.Zero(t, pinFlags(t, token))
		require.NoError(t, token.Ready(context.Background()))
		contractComputes(t, suite.TDES,
			importKey(t, token, specOf(t, "new", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster))
	})
}

// A daemon that is killed and started again between two calls is not noticed by those that are in, also when they make a key.
func TestDaemonRestartedOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, daemon *opencryptoki.Daemon) {
		token := openToken(t, openCryptokiConfig(t, made))
		before := importKey(t, token, specOf(t, "before", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster)
		require.NoError(t, daemon.Kill())
		_, err := opencryptoki.Start(t.Context())
		require.NoError(t, err)
		after := importKey(t, token, specOf(t, "after", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster)
		for _, key := range []*Key{before, after} {
			contractComputes(t, suite.TDES, key)
		}
		assert.Equal(t, uint64(1), token.Stats().Generation)

		g, err := token.generation()
		require.NoError(t, err)
		g.fail(classDevice, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR))
		require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
		contractComputes(t, suite.TDES, after)
	})
}

// A wrong PIN is tried once, and the last of the token's three tries is left to an operator.
func TestPINLatchOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		var pin atomic.Value
		pin.Store("wrong-01")
		asked := countedPIN(&config, &pin)
		latched := func(token *Token, tries int64, flags uint) {
			t.Helper()
			require.Eventually(t, func() bool { return asked.Load() == tries && token.State() == StateLatched }, recoveryLimit, tick)
			time.Sleep(100 * time.Millisecond)
			assert.Equal(t, tries, asked.Load())
			assert.Equal(t, flags, pinFlags(t, token))
			assert.ErrorIs(t, token.Ready(context.Background()), ErrPINLatched)
		}
		first, err := Open(context.Background(), config)
		require.ErrorIs(t, err, ErrPINLatched)
		require.ErrorContains(t, err, "CKR_PIN_INCORRECT")
		assert.NotContains(t, err.Error(), "wrong-01")
		latched(first, 1, pkcs11.CKF_USER_PIN_COUNT_LOW)
		assert.True(t, first.Unlatch())
		latched(first, 2, pkcs11.CKF_USER_PIN_FINAL_TRY)
		require.NoError(t, first.Close())

		pin.Store(made.PIN)
		second, err := Open(context.Background(), config)
		require.ErrorIs(t, err, errLastTry, "the right PIN as well: nobody knows that it is")
		latched(second, 2, pkcs11.CKF_USER_PIN_FINAL_TRY)
		assert.True(t, second.Unlatch())
		require.Eventually(t, func() bool { return second.Ready(context.Background()) == nil }, recoveryLimit, tick)
		assert.Equal(t, int64(3), asked.Load())
		assert.Zero(t, pinFlags(t, second), "a login gives the tries back")
		require.NoError(t, second.Close())
	})
}

// A PIN that is used up is not tried.
func TestLockedPINOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		var pin atomic.Value
		pin.Store("wrong-01")
		asked := countedPIN(&config, &pin)
		token, err := Open(context.Background(), config)
		require.ErrorIs(t, err, ErrPINLatched)
		for tries := int64(2); tries <= 3; tries++ {
			require.Eventually(t, func() bool { return token.State() == StateLatched }, recoveryLimit, tick)
			require.True(t, token.Unlatch())
			require.Eventually(t, func() bool { return asked.Load() == tries && token.State() == StateLatched }, recoveryLimit, tick)
		}
		assert.Equal(t, uint(pkcs11.CKF_USER_PIN_LOCKED), pinFlags(t, token))
		require.True(t, token.Unlatch())
		time.Sleep(200 * time.Millisecond)
		assert.Equal(t, int64(3), asked.Load())
		assert.Equal(t, StateLatched, token.State())
		require.NoError(t, token.Close())
	})
}
