package hsmtest

import (
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoseSessionsIsLikeARestartOfTheToken(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, slot := loggedIn(t, token)
	other := open(t, ctx, slot)
	_, err := newKey(ctx, session, "session key", false)
	require.NoError(t, err)
	_, err = newKey(ctx, session, "token key", true)
	require.NoError(t, err)
	require.Equal(t, 1, count(t, ctx, session, "session key"))

	control.LoseSessions()
	for range 2 {
		for _, lost := range []pkcs11.SessionHandle{session, other} {
			_, err := ctx.GenerateRandom(lost, 8)
			codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, err)
			codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, ctx.CloseSession(lost))
		}
	}

	again := open(t, ctx, slot)
	assert.NotContains(t, []pkcs11.SessionHandle{session, other}, again, "no handle comes back")
	info, err := ctx.GetSessionInfo(again)
	require.NoError(t, err)
	assert.EqualValues(t, pkcs11.CKS_RW_PUBLIC_SESSION, info.State, "the login is lost")
	require.NoError(t, ctx.Login(again, pkcs11.CKU_USER, token.PIN))
	assert.Zero(t, count(t, ctx, again, "session key"))
	assert.Equal(t, 1, count(t, ctx, again, "token key"))
	assert.EqualValues(t, 1, control.Stats().Losses)
	assert.Zero(t, control.Stats().CloseWhileBusy, "the module closed them, not its caller")
}

// Sessions are lost under load, again and again: no crash, and no call ends otherwise than well or with a lost session.
func TestLoseSessionsUnderLoad(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, _, slot := loggedIn(t, token)
	var group sync.WaitGroup
	var mu sync.Mutex
	ends := map[error]int{}
	stop := make(chan struct{})
	for range 4 {
		group.Go(func() {
			session := pkcs11.SessionHandle(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := ctx.GenerateRandom(session, 8)
				mu.Lock()
				ends[err]++
				mu.Unlock()
				if err != nil {
					session, err = ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
					if !assert.NoError(t, err) {
						return
					}
				}
			}
		})
	}
	for n := range uint64(20) {
		control.LoseSessions()
		require.Eventually(t, func() bool { return control.Stats().Losses == n+1 }, 10*time.Second, time.Millisecond)
	}
	close(stop)
	group.Wait()
	assert.Len(t, ends, 2)
	assert.NotZero(t, ends[nil])
	assert.Greater(t, ends[pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID)], 4)
}

// A call that hangs while the sessions are lost finds its own lost.
func TestLoseSessionsMeetsACallThatHangs(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)
	control.Set(Fault{Function: "C_GenerateRandom", To: 1, Hang: HangForever})
	end := random(ctx, session)
	hangs(t, control, 1)
	control.LoseSessions()
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, ctx.SeedRandom(session, []byte{1}))
	control.ReleaseHangs()
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, ended(t, end))
}

func TestRemoveToken(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, slot := loggedIn(t, token)

	control.RemoveToken(0)
	_, err := ctx.GenerateRandom(session, 8)
	codeIs(t, pkcs11.CKR_DEVICE_REMOVED, err)
	_, err = ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	codeIs(t, pkcs11.CKR_TOKEN_NOT_PRESENT, err)
	_, err = ctx.GetTokenInfo(slot)
	codeIs(t, pkcs11.CKR_TOKEN_NOT_PRESENT, err)
	_, err = ctx.GetInfo()
	require.NoError(t, err, "the library itself is there")
	present, err := ctx.GetSlotList(true)
	require.NoError(t, err)
	assert.Empty(t, present)
	all, err := ctx.GetSlotList(false)
	require.NoError(t, err)
	assert.Contains(t, all, slot)
	info, err := ctx.GetSlotInfo(slot)
	require.NoError(t, err)
	assert.Zero(t, info.Flags&pkcs11.CKF_TOKEN_PRESENT)

	control.RestoreToken()
	info, err = ctx.GetSlotInfo(slot)
	require.NoError(t, err)
	assert.NotZero(t, info.Flags&pkcs11.CKF_TOKEN_PRESENT)
	_, err = ctx.GenerateRandom(session, 8)
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, err, "its sessions are lost")
	require.NoError(t, ctx.Login(open(t, ctx, slotOf(t, ctx, token)), pkcs11.CKU_USER, token.PIN))
}

func TestRemoveTokenForATime(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, slot := loggedIn(t, token)
	start := time.Now()
	control.RemoveToken(100 * time.Millisecond)
	_, err := ctx.GenerateRandom(session, 8)
	codeIs(t, pkcs11.CKR_DEVICE_REMOVED, err)
	require.Eventually(t, func() bool {
		_, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	assert.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
}

// A call that hangs over the end of its test's library belongs to no later one, which has a control of its own.
func TestCallThatHangsOutlivesItsToken(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, _, slot := loggedIn(t, token)
	control.Set(Fault{Function: "C_GetTokenInfo", Hang: HangForever})
	end := make(chan error, 1)
	go func() { _, err := ctx.GetTokenInfo(slot); end <- err }()
	hangs(t, control, 1)
	require.NoError(t, ctx.Finalize())

	later, laterControl := NewFaultToken(t)
	_, session, _ := loggedIn(t, later)
	control.ReleaseHangs()
	codeIs(t, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, ended(t, end))
	require.NoError(t, ctx.SeedRandom(session, []byte{1}))
	assert.Zero(t, laterControl.Stats().Losses)
}
