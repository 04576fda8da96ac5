package hsm

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// An answer to a login that does not say that the PIN was left unjudged latches, whatever its code; one that may be another
// process's login has three tries in all. After an Unlatch each has one (rule 5).
func TestWhatIsNoAnswerAboutTheTokenLatches(t *testing.T) {
	for code, tries := range map[uint]uint64{
		0x80000042:                    1, // a vendor's
		pkcs11.CKR_FUNCTION_REJECTED:  1,
		pkcs11.CKR_ARGUMENTS_BAD:      1,
		pkcs11.CKR_USER_NOT_LOGGED_IN: 1,
		pkcs11.CKR_GENERAL_ERROR:      maxDoubtful,
		pkcs11.CKR_FUNCTION_FAILED:    maxDoubtful,
		pkcs11.CKR_DEVICE_MEMORY:      maxDoubtful,
		pkcs11.CKR_FUNCTION_CANCELED:  1,
		pkcs11.CKR_PIN_TOO_WEAK:       1,
	} {
		t.Run(fmt.Sprintf("%#x", code), func(t *testing.T) {
			made, control := hsmtest.NewFaultToken(t)
			control.Set(hsmtest.Fault{Function: "C_Login", Code: code})
			token, err := Open(context.Background(), configOf(made))
			require.ErrorIs(t, err, ErrPINLatched)
			assert.Equal(t, tries, control.Stats().Logins)
			assert.True(t, token.Unlatch())
			require.Eventually(t, func() bool { return token.State() == StateLatched && control.Stats().Logins > tries }, recoveryLimit, tick)
			time.Sleep(2 * firstPause)
			assert.Equal(t, tries+1, control.Stats().Logins)
			control.Clear()
			assert.True(t, token.Unlatch())
			require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, recoveryLimit, tick)
			require.NoError(t, token.Close())
		})
	}
}

// A doubtful answer that another try does not meet costs nothing, at Open and after.
func TestALoginBesideAnother(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_Login", To: maxDoubtful - 1, Code: pkcs11.CKR_GENERAL_ERROR})
	token := openToken(t, configOf(made))
	token.steady = 0
	assert.Equal(t, uint64(maxDoubtful), control.Stats().Logins)
	control.Set(hsmtest.Fault{Function: "C_Login", To: maxDoubtful - 1, Code: pkcs11.CKR_GENERAL_ERROR})
	next(t, token, classStale)
	assert.Equal(t, uint64(2*maxDoubtful), control.Stats().Logins, "a login that succeeds takes the doubt away")
	rulesKept(t, control)
}

// An answer that says that the token was not there is no refusal: the login is tried until it is.
func TestAnAbsentTokenDoesNotLatch(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	token := openToken(t, configOf(made))
	token.steady = 0
	for code := range unjudged {
		control.Set(hsmtest.Fault{Function: "C_Login", To: 2, Code: uint(code)})
		next(t, token, classStale)
	}
	assert.Equal(t, 1+3*uint64(len(unjudged)), control.Stats().Logins)
	rulesKept(t, control)
}

// A vendor's code latches in a recovery as well.
func TestAVendorsRefusalInARecovery(t *testing.T) {
	token, control, _ := faulty(t, nil)
	control.Set(hsmtest.Fault{Function: "C_Login", Code: 0x80000042})
	end(t, token, classStale)
	require.Eventually(t, func() bool { return token.State() == StateLatched }, recoveryLimit, tick)
	time.Sleep(2 * firstPause)
	assert.Equal(t, uint64(2), control.Stats().Logins)
}

// An order that is given twice is one: it does not open a latch to come.
func TestAnOrderIsObeyedOnce(t *testing.T) {
	token := newToken(Config{Log: slog.New(slog.DiscardHandler)})
	token.setState(StateLatched, errRefused)
	require.True(t, token.Unlatch())
	require.True(t, token.latch(errRefused))
	token.setState(StateLatched, errRefused)
	require.True(t, token.Unlatch(), "given again before the first is obeyed")
	token.obeyed(errRefused)
	assert.Empty(t, token.unlatch)
	assert.Equal(t, StateRecovering, token.State())
	assert.False(t, token.Unlatch())
}

// end ends the current generation, as a worker that met a fault does.
func end(t *testing.T, token *Token, c class) {
	t.Helper()
	g, err := token.generation()
	require.NoError(t, err)
	g.fail(c, errLoginLost)
}

// next waits for the generation after the current one.
func next(t *testing.T, token *Token, c class) {
	t.Helper()
	n := token.Stats().Generation
	end(t, token, c)
	require.Eventually(t, func() bool { return token.Stats().Generation == n+1 && token.State() == StateReady }, recoveryLimit, tick)
}
