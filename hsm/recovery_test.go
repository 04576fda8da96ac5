package hsm

import (
	"context"
	"errors"
	"fmt"
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

const (
	recoveryLimit = 5 * time.Second // DESIGN §10
	tick          = 5 * time.Millisecond
)

// faulty opens a token behind the fault module, with the load master at the TOKEN boundary and the same at CARD.
func faulty(t *testing.T, change func(*Config)) (*Token, *hsmtest.Control, []*Key) {
	t.Helper()
	made, control := hsmtest.NewFaultToken(t)
	config := configOf(made)
	if change != nil {
		change(&config)
	}
	token := openToken(t, config)
	token.steady = 0 // faults follow each other as they would not for days: every recovery begins at once
	var keys []*Key
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		spec := specOf(t, boundary.String(), keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
		keys = append(keys, importKey(t, token, spec, loadMaster))
	}
	return token, control, keys
}

// traffic loads on all keys until stop; each answer is right or ErrUnavailable.
func traffic(t *testing.T, keys []*Key, callers int) (stop func(), good *atomic.Int64) {
	t.Helper()
	good = &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for i := range callers {
		key := keys[i%len(keys)]
		load := loadMACs[key.Algorithm()]
		want := keyderive.MAC(bytesOf(t, load.mac2))
		group.Go(func() {
			for ctx.Err() == nil {
				mac2, err := loadMAC2(context.Background(), t, key, demoPath, load.mac1)
				switch {
				case err == nil:
					assert.Equal(t, want, mac2)
					good.Add(1)
				case assert.ErrorIs(t, err, ErrUnavailable, "an error of the token under traffic"):
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	return func() { cancel(); group.Wait() }, good
}

// rulesKept holds the fault module's count of broken rules at zero.
func rulesKept(t *testing.T, control *hsmtest.Control) {
	t.Helper()
	stats := control.Stats()
	assert.Zero(t, stats.FinalizeWhileBusy, "rule 4")
	assert.Zero(t, stats.CloseWhileBusy, "rule 9")
	assert.Zero(t, stats.SessionShared, "rule 3")
	assert.Zero(t, stats.Closed, "rule 9: finalize frees sessions")
}

// Every code of the session, stale and device classes, from the calls of the hot path, in the midst of traffic.
func TestRecoveryFromEveryCode(t *testing.T) {
	token, control, keys := faulty(t, nil)
	stop, good := traffic(t, keys, 6)
	defer stop()
	for code, class := range returnCodes {
		if class != classSession && class != classStale && class != classDevice {
			continue
		}
		for _, function := range []string{"C_DeriveKey", "C_Encrypt"} {
			control.Set(hsmtest.Fault{Function: function, From: 2, To: 3, Code: uint(code)})
			seen := control.Calls(function)
			require.Eventually(t, func() bool { return control.Calls(function) > seen+3 }, recoveryLimit, tick, "%v %s", code, function)
			before := good.Load()
			require.Eventually(t, func() bool { return good.Load() > before+10 && token.State() == StateReady }, recoveryLimit, tick, "%v", code)
		}
	}
	stop()
	require.NoError(t, token.Ready(context.Background()))
	assert.NotZero(t, token.Stats().Recoveries)
	assert.Zero(t, control.Stats().PINRefused)
	rulesKept(t, control)
}

// An unknown code is the device's.
func TestUnknownCodeIsTheDevices(t *testing.T) {
	token, control, keys := faulty(t, nil)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: 0x80000042})
	_, err := loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrUnavailable)
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
	assert.Equal(t, uint64(2), token.Stats().Generation)
	rulesKept(t, control)
}

// One lost session costs one answer and no generation.
func TestALostSessionIsReplaced(t *testing.T) {
	token, control, keys := faulty(t, nil)
	contractComputes(t, suite.TDES, keys[0])
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_SESSION_HANDLE_INVALID})
	_, err := loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrUnavailable)
	contractComputes(t, suite.TDES, keys[0])
	stats := token.Stats()
	assert.Equal(t, uint64(1), stats.Generation)
	assert.Equal(t, uint64(1), stats.Discarded)
	assert.Equal(t, uint64(1), control.Stats().Logins)
	rulesKept(t, control)
}

// Discarded sessions are not closed; when enough wait, one finalize frees them all.
func TestDiscardedSessionsAreBounded(t *testing.T) {
	token, control, keys := faulty(t, nil)
	contractComputes(t, suite.TDES, keys[0])
	for range maxDiscarded + 1 {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_SESSION_CLOSED})
		_, _ = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
		require.Eventually(t, func() bool { return token.State() == StateReady }, recoveryLimit, tick)
	}
	// The last discard may be a moment before the recovery that it asks for.
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	assert.Less(t, token.discarded.Load(), int64(maxDiscarded))
	assert.Equal(t, uint64(1), control.Calls("C_Finalize"))
	rulesKept(t, control)
}

func TestLostSessionsUnderTraffic(t *testing.T) {
	token, control, keys := faulty(t, nil)
	stop, good := traffic(t, keys, 8)
	defer stop()
	for range 5 {
		before := good.Load()
		control.LoseSessions()
		require.Eventually(t, func() bool { return good.Load() > before+50 && token.State() == StateReady }, recoveryLimit, tick)
	}
	stop()
	require.NoError(t, token.Ready(context.Background()))
	assert.Zero(t, control.Stats().PINRefused)
	rulesKept(t, control)
}

// A token that was away is in service within five seconds of its return, and no PIN try is wasted meanwhile.
func TestTokenAwayAndBack(t *testing.T) {
	token, control, keys := faulty(t, nil)
	stop, good := traffic(t, keys, 8)
	defer stop()
	control.RemoveToken(0)
	require.Eventually(t, func() bool { return token.State() == StateRecovering }, recoveryLimit, tick)
	begin := time.Now()
	_, err := loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrUnavailable)
	assert.Less(t, time.Since(begin), 100*time.Millisecond, "refused at once")
	require.ErrorIs(t, token.Ready(context.Background()), ErrUnavailable)
	time.Sleep(2 * time.Second) // backoff at its longest
	control.RestoreToken()
	begin = time.Now()
	before := good.Load()
	require.Eventually(t, func() bool { return good.Load() > before && token.State() == StateReady }, recoveryLimit, tick)
	t.Logf("in service after %v", time.Since(begin))
	stop()
	assert.Zero(t, control.Stats().PINRefused)
	rulesKept(t, control)
}

// A key that is another after the recovery fails closed, with its name; readiness with it.
func TestAnotherKeyAfterRecovery(t *testing.T) {
	token, control, keys := faulty(t, nil)
	onAnchor(t, token, func(s *session) error {
		object, err := s.find(pkcs11.CKO_SECRET_KEY, keys[0].Spec().Label)
		require.NoError(t, err)
		return s.destroy(object)
	})
	createRaw(t, token, rawKey(keys[0].Spec().Label, bytesOf(t, tacMaster), nil))
	control.LoseSessions()
	_, _ = loadMAC2(context.Background(), t, keys[1], demoPath, "7E1722D0")
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 }, recoveryLimit, tick)
	_, err := loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrKCVMismatch)
	assert.ErrorContains(t, err, keys[0].Spec().Label)
	assert.ErrorIs(t, token.Ready(context.Background()), ErrKCVMismatch)
	contractComputes(t, suite.TDES, keys[1])
}

// A wrong PIN is tried exactly once, at Open or in a recovery, until an operator acts (rule 5).
func TestPINLatch(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	config := configOf(made)
	var pin atomic.Value
	pin.Store("not the PIN")
	config.PIN = func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(pin.Load().(string))), nil }
	token, err := Open(context.Background(), config)
	require.ErrorIs(t, err, ErrPINLatched)
	require.ErrorIs(t, err, ErrUnavailable)
	require.NotNil(t, token)
	defer func() { require.NoError(t, token.Close()) }()
	assert.NotContains(t, err.Error(), "not the PIN")

	latched := func(logins uint64) {
		t.Helper()
		require.Eventually(t, func() bool { return token.State() == StateLatched }, recoveryLimit, tick)
		for range 20 {
			assert.ErrorIs(t, token.Ready(context.Background()), ErrPINLatched)
			_, err := token.Key("load")
			assert.Error(t, err)
			time.Sleep(tick)
		}
		assert.Equal(t, logins, control.Stats().Logins)
		assert.True(t, token.Stats().PINLatched)
	}
	latched(1)
	assert.True(t, token.Unlatch())
	require.Eventually(t, func() bool { return control.Stats().Logins == 2 }, recoveryLimit, tick)
	latched(2)

	pin.Store(made.PIN)
	assert.True(t, token.Unlatch())
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
	assert.Equal(t, uint64(3), control.Stats().Logins)
	assert.False(t, token.Unlatch())
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)

	pin.Store("wrong again")
	control.LoseSessions()
	_, _ = loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
	latched(4)
	_, err = loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
	assert.ErrorIs(t, err, ErrPINLatched)
	rulesKept(t, control)
}

// Each code of the PIN class latches.
func TestEveryPINCodeLatches(t *testing.T) {
	for code, class := range returnCodes {
		if class != classPIN {
			continue
		}
		t.Run(fmt.Sprintf("%#x", uint(code)), func(t *testing.T) {
			made, control := hsmtest.NewFaultToken(t)
			control.Set(hsmtest.Fault{Function: "C_Login", Code: uint(code)})
			token, err := Open(context.Background(), configOf(made))
			require.ErrorIs(t, err, ErrPINLatched)
			time.Sleep(100 * time.Millisecond)
			assert.Equal(t, uint64(1), control.Stats().Logins)
			require.NoError(t, token.Close())
		})
	}
}

// A PIN source that fails is no wrong PIN.
func TestPINSourceAway(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	config := configOf(made)
	away := errors.New("vault is away")
	config.PIN = func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, away }
	_, err := Open(context.Background(), config)
	require.ErrorIs(t, err, away)
	require.NotErrorIs(t, err, ErrPINLatched)
	assert.Zero(t, control.Stats().Logins)
}
