package hsmtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewTokenWorks(t *testing.T) {
	token := NewToken(t)
	assert.True(t, strings.HasPrefix(token.PIN, "test-pin-"))
	assert.True(t, strings.HasPrefix(token.SOPIN, "test-so-pin-"))
	assert.Equal(t, token.ConfPath, os.Getenv("SOFTHSM2_CONF"))
	assert.Equal(t, []string{"SOFTHSM2_CONF=" + token.ConfPath}, token.Env())

	ctx, session, slot := loggedIn(t, token)
	_, err := newKey(ctx, session, "key", true)
	require.NoError(t, err)
	require.NoError(t, ctx.Logout(session))
	require.NoError(t, ctx.Login(session, pkcs11.CKU_SO, token.SOPIN))
	info, err := ctx.GetTokenInfo(slot)
	require.NoError(t, err)
	assert.Equal(t, "SoftHSM v2", info.Model)
}

func TestNewTokenOptions(t *testing.T) {
	token := NewToken(t, WithLabel("payments"), WithPIN("test-pin-chosen"))
	assert.Equal(t, "payments", token.Label)
	assert.Equal(t, "test-pin-chosen", token.PIN)
	loggedIn(t, token)
}

// Tokens are fresh, also in one process, one after the other: the configuration is read anew at each C_Initialize.
func TestTokensAreSeparate(t *testing.T) {
	seen := map[string]bool{}
	for _, make := range []func(testing.TB) *Token{
		func(tb testing.TB) *Token { return NewToken(tb) },
		func(tb testing.TB) *Token { token, _ := NewFaultToken(tb); return token },
		func(tb testing.TB) *Token { return NewToken(tb) },
		func(tb testing.TB) *Token { token, _ := NewFaultToken(tb); return token },
	} {
		t.Run("", func(t *testing.T) {
			token := make(t)
			for _, value := range []string{token.Label, token.PIN, token.SOPIN, token.ConfPath} {
				assert.False(t, seen[value], value)
				seen[value] = true
			}
			ctx, session, _ := loggedIn(t, token)
			assert.Zero(t, count(t, ctx, session, "mark"))
			_, err := newKey(ctx, session, "mark", true)
			require.NoError(t, err)
			assert.Equal(t, 1, count(t, ctx, session, "mark"))
		})
	}
}

// failure runs part of a test and returns what it failed with; the test proper goes on.
func failure(t *testing.T, part func(testing.TB)) string {
	t.Helper()
	double := &double{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		part(double)
	}()
	<-done
	return double.message
}

func TestNewTokenFailsWithoutSoftHSM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	message := failure(t, func(tb testing.TB) { NewToken(tb) })
	assert.Contains(t, message, "softhsm2 is not installed: apt-get install softhsm2")
}

func TestNewFaultTokenFailsWithoutACompiler(t *testing.T) {
	t.Setenv("CC", filepath.Join(t.TempDir(), "none"))
	message := failure(t, func(tb testing.TB) { NewFaultToken(tb) })
	assert.Contains(t, message, "C compiler")
	assert.Contains(t, message, "apt-get install gcc")
}

func TestSetFailsTheTestForAFaultThatIsNone(t *testing.T) {
	control := newControl(t)
	for _, c := range []struct {
		fault   Fault
		message string
	}{
		{Fault{Function: "C_Sing", Code: 1}, `"C_Sing" is no function`},
		{Fault{Function: "", Code: 1}, `"" is no function`},
		{Fault{Function: "C_Sign"}, "does nothing"},
	} {
		message := failure(t, func(tb testing.TB) {
			control := &Control{tb: tb, numbers: control.numbers, words: control.words}
			control.Set(c.fault)
		})
		assert.Contains(t, message, c.message)
	}
}
