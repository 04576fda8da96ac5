package hsmtest

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newOverlapToken is a fault token whose real module is testdata/overlap.c: it notices calls that meet.
func newOverlapToken(t *testing.T) (*Token, *Control) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overlap.so")
	out, err := exec.Command("cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", "module",
		"-o", path, "testdata/overlap.c").CombinedOutput()
	require.NoError(t, err, string(out))
	token, control := NewFaultToken(t)
	t.Setenv(forwardVariable, path)
	return token, control
}

// Whatever breaks the rules, nothing that ends sessions runs in the real module beside another call: it waits for that.
func TestModuleKeepsCallsApartThatWouldCrash(t *testing.T) {
	type caller struct {
		ctx     *pkcs11.Ctx
		other   pkcs11.SessionHandle
		control *Control
	}
	for _, c := range []struct {
		name string
		act  func(caller) error
	}{
		{"finalize", func(c caller) error { return c.ctx.Finalize() }},
		{"close", func(c caller) error { return c.ctx.CloseSession(c.other) }},
		{"close all", func(c caller) error { return c.ctx.CloseAllSessions(0) }},
		{"loss", func(c caller) error {
			c.control.LoseSessions()
			_, err := c.ctx.OpenSession(0, pkcs11.CKF_SERIAL_SESSION)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, control := newOverlapToken(t)
			ctx := load(t, token)
			session := open(t, ctx, 0)
			end := random(ctx, session)
			require.Eventually(t, func() bool { return control.Calls("C_GenerateRandom") == 1 }, 10*time.Second, time.Millisecond)
			time.Sleep(20 * time.Millisecond) // into the real module, where the call stays for 100 ms
			require.NoError(t, c.act(caller{ctx: ctx, other: open(t, ctx, 0), control: control}))
			require.NoError(t, ended(t, end))
		})
	}
}

// Calls that may run side by side do.
func TestModuleKeepsOtherCallsTogether(t *testing.T) {
	token, control := newOverlapToken(t)
	ctx := load(t, token)
	start := time.Now()
	var ends []<-chan error
	for range 16 {
		ends = append(ends, random(ctx, open(t, ctx, 0)))
	}
	for _, end := range ends {
		require.NoError(t, ended(t, end))
	}
	assert.Less(t, time.Since(start), 1400*time.Millisecond)
	assert.Greater(t, control.Stats().MaxInFlight, uint64(1))
}
