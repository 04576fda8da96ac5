package hsmtest

import (
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const deviceError = pkcs11.CKR_DEVICE_ERROR

func TestFaultAnswersACodeOnTheCallsItIsFor(t *testing.T) {
	const ok = pkcs11.CKR_OK
	for _, c := range []struct {
		name     string
		from, to uint64
		want     []uint
	}{
		{"every call", 0, 0, []uint{deviceError, deviceError, deviceError, deviceError}},
		{"the first", 1, 1, []uint{deviceError, ok, ok, ok}},
		{"the third", 3, 3, []uint{ok, ok, deviceError, ok}},
		{"the second and third", 2, 3, []uint{ok, deviceError, deviceError, ok}},
		{"from the third on", 3, 0, []uint{ok, ok, deviceError, deviceError}},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, control := NewFaultToken(t)
			ctx, session, _ := loggedIn(t, token)
			for range 5 { // calls before the rule do not count for it
				_, err := ctx.GenerateRandom(session, 8)
				require.NoError(t, err)
			}
			control.Set(Fault{Function: "C_GenerateRandom", From: c.from, To: c.to, Code: deviceError})
			for i, want := range c.want {
				_, err := ctx.GenerateRandom(session, 8)
				codeIs(t, want, err, "call %d", i+1)
			}
			assert.EqualValues(t, 9, control.Calls("C_GenerateRandom"))
			assert.NoError(t, ctx.SeedRandom(session, []byte{1}), "another function has no fault")

			control.Clear()
			_, err := ctx.GenerateRandom(session, 8)
			require.NoError(t, err)
		})
	}
}

func TestFaultCodeKeepsTheCallFromTheToken(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)

	control.Set(Fault{Function: "C_GenerateKey", To: 1, Code: deviceError})
	_, err := newKey(ctx, session, "before", true)
	codeIs(t, deviceError, err)
	assert.Zero(t, count(t, ctx, session, "before"))

	control.Set(Fault{Function: "C_GenerateKey", To: 1, Code: deviceError, AfterCall: true})
	_, err = newKey(ctx, session, "after", true)
	codeIs(t, deviceError, err)
	assert.Equal(t, 1, count(t, ctx, session, "after"), "the token did the work, only the answer was lost")
}

func TestFaultOfEveryFunction(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)

	control.Set(Fault{Function: EveryFunction, From: 2, To: 2, Code: deviceError})
	require.NoError(t, ctx.SeedRandom(session, []byte{1}))
	_, err := ctx.GenerateRandom(session, 8)
	codeIs(t, deviceError, err)
	require.NoError(t, ctx.SeedRandom(session, []byte{1}))

	control.Set(Fault{Function: EveryFunction, Code: deviceError})
	control.Set(Fault{Function: "C_GenerateRandom", Code: pkcs11.CKR_DEVICE_MEMORY})
	_, err = ctx.GenerateRandom(session, 8)
	codeIs(t, pkcs11.CKR_DEVICE_MEMORY, err, "the function's own code comes first")
	codeIs(t, deviceError, ctx.SeedRandom(session, []byte{1}))
	control.Clear()
	require.NoError(t, ctx.SeedRandom(session, []byte{1}))
}

func TestFaultAddsLatency(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)
	took := func() time.Duration {
		start := time.Now()
		_, err := ctx.GenerateRandom(session, 8)
		require.NoError(t, err)
		return time.Since(start)
	}
	control.Set(Fault{Function: "C_GenerateRandom", From: 2, To: 3, Latency: 150 * time.Millisecond})
	assert.Less(t, took(), 140*time.Millisecond)
	assert.GreaterOrEqual(t, took(), 150*time.Millisecond)
	control.Set(Fault{Function: EveryFunction, Latency: 40 * time.Millisecond})
	assert.GreaterOrEqual(t, took(), 190*time.Millisecond, "latencies add up")
	assert.GreaterOrEqual(t, took(), 40*time.Millisecond)
}

// Calls that wait for a rule's latency do not wait for each other, as behind a network.
func TestLatenciesRunSideBySide(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, _, slot := loggedIn(t, token)
	control.Set(Fault{Function: "C_GenerateRandom", Latency: 200 * time.Millisecond})
	start := time.Now()
	var ends []<-chan error
	for range 8 {
		ends = append(ends, random(ctx, open(t, ctx, slot)))
	}
	for _, end := range ends {
		require.NoError(t, ended(t, end))
	}
	assert.Less(t, time.Since(start), time.Second)
	assert.EqualValues(t, 8, control.Stats().MaxInFlight)
}

func TestFaultHangsUntilReleased(t *testing.T) {
	for _, c := range []struct {
		name    string
		release func(*Control)
	}{{"release", (*Control).ReleaseHangs}, {"clear", (*Control).Clear}} {
		t.Run(c.name, func(t *testing.T) {
			token, control := NewFaultToken(t)
			ctx, session, slot := loggedIn(t, token)
			other := open(t, ctx, slot)
			control.Set(Fault{Function: "C_GenerateRandom", To: 2, Hang: HangForever})
			first, second := random(ctx, session), random(ctx, other)
			hangs(t, control, 2)
			require.NoError(t, ctx.SeedRandom(open(t, ctx, slot), []byte{1}), "others run meanwhile")
			select {
			case err := <-first:
				require.Fail(t, "came back", "%v", err)
			case err := <-second:
				require.Fail(t, "came back", "%v", err)
			case <-time.After(50 * time.Millisecond):
			}
			c.release(control)
			require.NoError(t, ended(t, first))
			require.NoError(t, ended(t, second))
			assert.Zero(t, control.Stats().Hanging)
		})
	}
}

func TestFaultHangsForATime(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)
	control.Set(Fault{Function: "C_GenerateRandom", Hang: 80 * time.Millisecond, Code: deviceError})
	start := time.Now()
	_, err := ctx.GenerateRandom(session, 8)
	codeIs(t, deviceError, err, "the code comes after the hang")
	assert.GreaterOrEqual(t, time.Since(start), 80*time.Millisecond)
}

func TestFaultLosesSessions(t *testing.T) {
	for _, c := range []struct {
		name        string
		fault       Fault
		first, next uint
	}{
		{"before the call", Fault{LoseSessions: true}, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_HANDLE_INVALID},
		{"with a code", Fault{LoseSessions: true, Code: deviceError}, deviceError, pkcs11.CKR_SESSION_HANDLE_INVALID},
		{"after the call", Fault{LoseSessions: true, AfterCall: true}, pkcs11.CKR_OK, pkcs11.CKR_SESSION_HANDLE_INVALID},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, control := NewFaultToken(t)
			ctx, session, slot := loggedIn(t, token)
			c.fault.Function, c.fault.From, c.fault.To = "C_GenerateRandom", 1, 1
			control.Set(c.fault)
			_, err := ctx.GenerateRandom(session, 8)
			codeIs(t, c.first, err)
			_, err = ctx.GenerateRandom(session, 8)
			codeIs(t, c.next, err)
			_, err = ctx.GenerateRandom(open(t, ctx, slot), 8)
			require.NoError(t, err)
			assert.EqualValues(t, 1, control.Stats().Losses)
		})
	}
}

func TestFaultValidation(t *testing.T) {
	good := Fault{Function: "C_Sign", From: 1, To: 2, Code: deviceError}
	require.NoError(t, good.validate())
	for _, c := range []struct {
		name    string
		change  func(*Fault)
		message string
	}{
		{"function list", func(f *Fault) { f.Function = "C_GetFunctionList" }, "function"},
		{"range", func(f *Fault) { f.From = 3 }, "to:"},
		{"latency", func(f *Fault) { f.Latency = -1 }, "latency"},
		{"hang", func(f *Fault) { f.Hang = -2 }, "hang"},
		{"nothing", func(f *Fault) { f.Code = 0 }, "nothing"},
		{"after nothing", func(f *Fault) { f.Code, f.Latency, f.AfterCall = 0, 1, true }, "after call"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault := good
			c.change(&fault)
			require.ErrorContains(t, fault.validate(), c.message)
		})
	}
}
