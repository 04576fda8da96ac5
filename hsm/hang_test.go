package hsm

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// testHang is long enough that no good call takes as long on a loaded machine, also one that writes an object to a busy disk.
const testHang = 1500 * time.Millisecond

func hanging(config *Config) {
	config.Hang = testHang
	config.InFlight = 3
}

// hangOne makes one call hang and returns what its caller got, once the call hangs: on a loaded machine it may have been written off
// before it came to that, and would then take the next one's fault.
func hangOne(t *testing.T, control *hsmtest.Control, key *Key, function string) error {
	t.Helper()
	before := control.Stats().Hanging
	control.Set(hsmtest.Fault{Function: function, To: 1, Hang: hsmtest.HangForever})
	_, err := loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
	require.Eventually(t, func() bool { return control.Stats().Hanging == before+1 }, recoveryLimit, tick)
	return err
}

// settle lets hanging calls go, so that the token can be closed.
func settle(t *testing.T, token *Token, control *hsmtest.Control) {
	t.Helper()
	control.Clear()
	require.Eventually(t, func() bool { return token.Stats().Hanging == 0 }, recoveryLimit, tick)
}

// A call past its hang limit is written off with its session; its caller is answered, and another worker stands in.
func TestAHangingCallIsWrittenOff(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	for i, key := range keys[:2] {
		function := []string{"C_DeriveKey", "C_Encrypt"}[i]
		contractComputes(t, suite.TDES, key)
		begin := time.Now()
		require.ErrorIs(t, hangOne(t, control, key, function), ErrUnavailable)
		assert.Greater(t, time.Since(begin), testHang)
		assert.Less(t, time.Since(begin), 10*testHang)
		for range 10 {
			contractComputes(t, suite.TDES, key)
		}
		assert.Equal(t, i+1, token.Stats().Hanging)
		assert.Equal(t, uint64(i+1), token.Stats().WrittenOff)
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	assert.False(t, closed(token.Done()))
	require.NoError(t, token.Ready(context.Background()))
	settle(t, token, control)
	contractComputes(t, suite.TDES, keys[0])
	rulesKept(t, control)
}

// When as many calls hang as may be in flight, the process is to restart.
func TestHangingCallsUpToTheCap(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	contractComputes(t, suite.TDES, keys[0])
	for range 3 {
		require.False(t, closed(token.Done()))
		require.NoError(t, token.Err())
		require.ErrorIs(t, hangOne(t, control, keys[0], "C_Encrypt"), ErrUnavailable)
	}
	restarts(t, token)
	settle(t, token, control)
	rulesKept(t, control)
}

func restarts(t *testing.T, token *Token) {
	t.Helper()
	select {
	case <-token.Done():
	case <-time.After(recoveryLimit):
		t.Fatal("Done is not closed")
	}
	require.ErrorIs(t, token.Err(), ErrRestart)
	assert.Equal(t, StateRestart, token.State())
	assert.ErrorIs(t, token.Ready(context.Background()), ErrUnavailable)
}

// A reload that is needed while a call hangs cannot be made: the library would crash.
func TestReloadWhileACallHangs(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	contractComputes(t, suite.TDES, keys[0])
	require.ErrorIs(t, hangOne(t, control, keys[0], "C_Encrypt"), ErrUnavailable)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_DEVICE_ERROR})
	_, err := loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrUnavailable)
	restarts(t, token)
	assert.Zero(t, control.Calls("C_Finalize"))
	settle(t, token, control)
	rulesKept(t, control)
}

// Lost sessions while a call hangs need no reload: a new generation begins beside it.
func TestNewGenerationWhileACallHangs(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	contractComputes(t, suite.TDES, keys[0])
	require.ErrorIs(t, hangOne(t, control, keys[0], "C_Encrypt"), ErrUnavailable)
	control.LoseSessions()
	_, _ = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
	assert.Equal(t, uint64(2), token.Stats().Generation)
	contractComputes(t, suite.TDES, keys[0])
	settle(t, token, control)
	rulesKept(t, control)
}

// A login that hangs in a recovery ends the process too.
func TestRecoveryThatHangs(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { config.Hang = testHang / 2 })
	control.Set(hsmtest.Fault{Function: "C_Login", Hang: hsmtest.HangForever})
	control.LoseSessions()
	_, _ = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	restarts(t, token)
	settle(t, token, control)
}

// A caller's deadline abandons the wait, and the call goes on.
func TestADeadlineAbandonsTheWait(t *testing.T) {
	token, control, keys := faulty(t, nil)
	for _, key := range keys {
		contractComputes(t, suite.TDES, key)
	}
	control.Set(hsmtest.Fault{Function: hsmtest.EveryFunction, Latency: 300 * time.Millisecond})
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		begin := time.Now()
		_, err := loadMAC2(ctx, t, key, demoPath, "7E1722D0")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Less(t, time.Since(begin), 200*time.Millisecond)
	}
	control.Clear()
	for _, key := range keys {
		contractComputes(t, suite.TDES, key)
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	assert.Zero(t, token.Stats().WrittenOff)
	rulesKept(t, control)
}

// Beyond the bound on waiters a caller is refused at once.
func TestTheQueueIsBounded(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { config.InFlight, config.Queue = 1, 4 })
	// Those that wait when one goes in may go in with it: at TOKEN four at most, and four more wait then, so that eleven at least are
	// refused; at CARD they may do so more than once.
	for i, refused := range []int64{11, 1} {
		key := keys[i]
		contractComputes(t, suite.TDES, key)
		control.Set(hsmtest.Fault{Function: hsmtest.EveryFunction, Hang: hsmtest.HangForever})
		var busy, rest atomic.Int64
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				_, err := loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
				if err == nil {
					rest.Add(1)
				} else if assert.ErrorIs(t, err, ErrBusy) {
					busy.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return busy.Load() >= refused }, recoveryLimit, tick)
		control.Clear()
		group.Wait()
		assert.GreaterOrEqual(t, rest.Load(), int64(4))
		assert.Equal(t, int64(20), rest.Load()+busy.Load())
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	rulesKept(t, control)
}

// No more calls are inside the library than the sessions: the workers and the anchor.
func TestCallsInFlightAreCapped(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { config.InFlight = 2 })
	stop, good := traffic(t, keys, 16)
	require.Eventually(t, func() bool { return good.Load() > 200 }, recoveryLimit, tick)
	stop()
	assert.LessOrEqual(t, control.Stats().MaxInFlight, uint64(3))
	assert.NotZero(t, token.Stats().Generation)
	rulesKept(t, control)
}

// No search in the hot path (rule 6), no login but one (rule 2), no session closed (rule 9).
func TestSteadyState(t *testing.T) {
	token, control, keys := faulty(t, nil)
	for _, key := range keys {
		contractComputes(t, suite.TDES, key)
	}
	before := control.Stats()
	for range 20 {
		for _, key := range keys {
			contractComputes(t, suite.TDES, key)
		}
	}
	after := control.Stats()
	assert.Equal(t, before.Searches, after.Searches)
	assert.Equal(t, before.Opened, after.Opened)
	assert.Equal(t, uint64(1), after.Logins)
	assert.Zero(t, control.Calls("C_Logout"))
	assert.Equal(t, uint64(1), token.Stats().Generation)
	rulesKept(t, control)
}

// One C_Encrypt makes the card keys of many callers.
func TestCardKeysAreMadeInOneCall(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { config.InFlight = 1 })
	key := keys[1]
	contractComputes(t, suite.TDES, key)
	control.Set(hsmtest.Fault{Function: "C_Encrypt", Latency: 20 * time.Millisecond})
	before := control.Calls("C_Encrypt")
	contractConcurrent(t, suite.TDES, key) // 16 callers, 5 loads each
	assert.Less(t, control.Calls("C_Encrypt")-before, uint64(30))
	assert.Equal(t, uint64(1), token.Stats().Generation)
}

// Close lets those come to their end who wait or run.
func TestCloseDrains(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	token, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	contractComputes(t, suite.TDES, key)
	control.Set(hsmtest.Fault{Function: "C_Encrypt", Latency: 30 * time.Millisecond})
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			_, err := loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
			assert.NoError(t, err)
		})
	}
	require.Eventually(t, func() bool { return token.Stats().InFlight+token.Stats().Waiting == 6 }, recoveryLimit, time.Millisecond)
	require.NoError(t, token.Close())
	group.Wait()
	_, err = loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
	assert.ErrorIs(t, err, ErrClosed)
	assert.Equal(t, StateClosed, token.State())
	assert.NoError(t, token.Close(), "twice")
	rulesKept(t, control)
}

// Open whose wait ends leaves the module owned while the call is inside, and gives it back when it comes out.
func TestOpenThatIsAbandoned(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_OpenSession", Hang: hsmtest.HangForever})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, configOf(made))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = Open(context.Background(), configOf(made))
	require.ErrorIs(t, err, ErrOwned)
	control.Clear()
	var token *Token
	require.Eventually(t, func() bool {
		token, err = Open(context.Background(), configOf(made))
		return err == nil
	}, recoveryLimit, tick)
	require.NoError(t, token.Close())
}

// A secret that comes back to nobody is wiped: the caller of a PROCESS Lend left while the token opened the master.
func TestAbandonedMastersAreWiped(t *testing.T) {
	token, control, keys := faulty(t, nil)
	key := keys[2]
	contractComputes(t, suite.TDES, key)
	control.Set(hsmtest.Fault{Function: "C_Decrypt", Latency: 100 * time.Millisecond})
	g, err := token.generation()
	require.NoError(t, err)
	e, err := g.entry(key.Spec().Label)
	require.NoError(t, err)
	var master secret.Bytes
	wiped := make(chan struct{})
	j := newJob(func(s *session) (_, fault error) {
		master, fault = e.sealed.open(s)
		return nil, fault
	})
	j.discard = func() { master.Wipe(); close(wiped) }
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, g.do(ctx, g.jobs, j), context.DeadlineExceeded)
	<-wiped
	assert.Zero(t, master.Len())
}
