package hsmtest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A caller that keeps the rules of DESIGN §5 breaks none by the counters, however many threads it has.
func TestStatsOfACallerThatKeepsTheRules(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, anchor, slot := loggedIn(t, token)
	key, err := newKey(ctx, anchor, "key", false)
	require.NoError(t, err)
	var sessions []pkcs11.SessionHandle
	for range 4 {
		sessions = append(sessions, open(t, ctx, slot))
	}
	var group sync.WaitGroup
	for _, session := range sessions {
		group.Go(func() {
			for range 50 {
				assert.NoError(t, ctx.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_CMAC, nil)}, key))
				mac, err := ctx.Sign(session, []byte("message"))
				assert.NoError(t, err)
				assert.Len(t, mac, 16)
			}
		})
	}
	group.Wait()
	for _, session := range sessions {
		require.NoError(t, ctx.CloseSession(session))
	}
	assert.Equal(t, 1, count(t, ctx, anchor, "key"))
	require.NoError(t, ctx.Finalize())

	stats := control.Stats()
	assert.Zero(t, stats.FinalizeWhileBusy)
	assert.Zero(t, stats.CloseWhileBusy)
	assert.Zero(t, stats.SessionShared)
	assert.EqualValues(t, 1, stats.Logins)
	assert.Zero(t, stats.PINRefused)
	assert.EqualValues(t, 5, stats.Opened)
	assert.EqualValues(t, 4, stats.Closed)
	assert.EqualValues(t, 1, stats.Searches)
	assert.Zero(t, stats.Losses)
	assert.Zero(t, stats.Hanging)
	assert.Positive(t, stats.MaxInFlight)
	assert.LessOrEqual(t, stats.MaxInFlight, uint64(4))
	assert.EqualValues(t, 200, control.Calls("C_SignInit"))
	assert.EqualValues(t, 400, control.Calls("C_Sign"), "the binding asks for the length first")
	assert.Greater(t, stats.Calls, uint64(600))
}

// Each breach of a rule is counted, in whichever order the two calls come, and the process lives.
func TestStatsCountBreaches(t *testing.T) {
	type caller struct {
		ctx            *pkcs11.Ctx
		session, other pkcs11.SessionHandle
		slot           uint
	}
	draw := func(c caller) error { _, err := c.ctx.GenerateRandom(c.session, 8); return err }
	drawOther := func(c caller) error { _, err := c.ctx.GenerateRandom(c.other, 8); return err }
	closeOther := func(c caller) error { return c.ctx.CloseSession(c.other) }
	closeAll := func(c caller) error { return c.ctx.CloseAllSessions(c.slot) }
	finalize := func(c caller) error { return c.ctx.Finalize() }
	for _, c := range []struct {
		name         string
		hung         string // function of the first call, which hangs while the second is made
		first        func(caller) error
		second       func(caller) error
		firstEnds    uint
		finalizeBusy uint64
		closeBusy    uint64
		shared       uint64
	}{
		{"finalize beside a call", "C_GenerateRandom", draw, finalize, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, 1, 0, 0},
		{"a call beside finalize", "C_Finalize", finalize, draw, pkcs11.CKR_OK, 1, 0, 0},
		{"close beside a call", "C_GenerateRandom", draw, closeOther, pkcs11.CKR_OK, 0, 1, 0},
		{"a call beside close", "C_CloseSession", closeOther, draw, pkcs11.CKR_OK, 0, 1, 0},
		{"close all beside a call", "C_GenerateRandom", draw, closeAll, pkcs11.CKR_SESSION_HANDLE_INVALID, 0, 1, 0},
		{"a call beside close all", "C_CloseAllSessions", closeAll, draw, pkcs11.CKR_OK, 0, 1, 0},
		{"finalize beside close", "C_CloseSession", closeOther, finalize, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, 1, 1, 0},
		{"two calls on a session", "C_GenerateRandom", draw, draw, pkcs11.CKR_OK, 0, 0, 1},
		{"two calls on two sessions", "C_GenerateRandom", draw, drawOther, pkcs11.CKR_OK, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, control := NewFaultToken(t)
			ctx, session, slot := loggedIn(t, token)
			who := caller{ctx: ctx, session: session, other: open(t, ctx, slot), slot: slot}
			control.Set(Fault{Function: c.hung, To: 1, Hang: HangForever})
			end := make(chan error, 1)
			go func() { end <- c.first(who) }()
			hangs(t, control, 1)
			require.NoError(t, c.second(who))
			control.ReleaseHangs()
			codeIs(t, c.firstEnds, ended(t, end))

			stats := control.Stats()
			assert.Equal(t, c.finalizeBusy, stats.FinalizeWhileBusy, "finalize while busy")
			assert.Equal(t, c.closeBusy, stats.CloseWhileBusy, "close while busy")
			assert.Equal(t, c.shared, stats.SessionShared, "session shared")
			assert.EqualValues(t, 2, stats.MaxInFlight)
		})
	}
}

// What would crash SoftHSM, sessions closed under running calls, is counted and survived.
func TestStatsCountBreachesUnderLoad(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, anchor, slot := loggedIn(t, token)
	key, err := newKey(ctx, anchor, "key", false)
	require.NoError(t, err)
	var group sync.WaitGroup
	var rounds atomic.Uint64
	deadline := time.Now().Add(20 * time.Second)
	for range 4 {
		group.Go(func() {
			for n := 0; n < 100 || control.Stats().CloseWhileBusy == 0 && time.Now().Before(deadline); n++ {
				rounds.Add(1)
				session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
				assert.NoError(t, err)
				assert.NoError(t, ctx.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_CMAC, nil)}, key))
				_, err = ctx.Sign(session, []byte("message"))
				assert.NoError(t, err)
				assert.NoError(t, ctx.CloseSession(session))
			}
		})
	}
	group.Wait()
	assert.Positive(t, control.Stats().CloseWhileBusy)
	assert.Equal(t, rounds.Load(), control.Stats().Closed)
}

func TestStatsCountRefusedPINs(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx := load(t, token)
	session := open(t, ctx, slotOf(t, ctx, token))
	codeIs(t, pkcs11.CKR_PIN_INCORRECT, ctx.Login(session, pkcs11.CKU_USER, token.PIN+"0"))
	codeIs(t, pkcs11.CKR_PIN_INCORRECT, ctx.Login(session, pkcs11.CKU_USER, token.SOPIN))
	assert.EqualValues(t, 2, control.Stats().PINRefused)

	for _, code := range []uint{pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE} {
		control.Set(Fault{Function: "C_Login", To: 1, Code: code})
		codeIs(t, code, ctx.Login(session, pkcs11.CKU_USER, token.PIN))
	}
	assert.EqualValues(t, 5, control.Stats().PINRefused)

	control.Set(Fault{Function: "C_Login", To: 1, Code: deviceError})
	codeIs(t, deviceError, ctx.Login(session, pkcs11.CKU_USER, token.PIN))
	require.NoError(t, ctx.Login(session, pkcs11.CKU_USER, token.PIN))
	codeIs(t, pkcs11.CKR_USER_ALREADY_LOGGED_IN, ctx.Login(session, pkcs11.CKU_USER, token.PIN))
	assert.EqualValues(t, 5, control.Stats().PINRefused)
	assert.EqualValues(t, 8, control.Stats().Logins)
}
