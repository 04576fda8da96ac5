package hsmtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
)

// load loads and initializes the token's module, and finalizes it at the end of the test.
func load(t *testing.T, token *Token) *pkcs11.Ctx {
	t.Helper()
	ctx := pkcs11.New(token.Module)
	require.NotNil(t, ctx, token.Module)
	require.NoError(t, ctx.Initialize())
	t.Cleanup(func() {
		if err := ctx.Finalize(); err != nil && err != pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
			t.Errorf("finalize: %v", err)
		}
		ctx.Destroy()
	})
	return ctx
}

// slotOf returns the one slot that holds the token.
func slotOf(t *testing.T, ctx *pkcs11.Ctx, token *Token) uint {
	t.Helper()
	slots, err := ctx.GetSlotList(true)
	require.NoError(t, err)
	var found []uint
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		require.NoError(t, err)
		if info.Label == token.Label {
			found = append(found, slot)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

func open(t *testing.T, ctx *pkcs11.Ctx, slot uint) pkcs11.SessionHandle {
	t.Helper()
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	require.NoError(t, err)
	return session
}

// loggedIn loads the module and returns a session whose user is logged in, and its slot.
func loggedIn(t *testing.T, token *Token) (*pkcs11.Ctx, pkcs11.SessionHandle, uint) {
	t.Helper()
	ctx := load(t, token)
	slot := slotOf(t, ctx, token)
	session := open(t, ctx, slot)
	require.NoError(t, ctx.Login(session, pkcs11.CKU_USER, token.PIN))
	return ctx, session, slot
}

// newKey makes an AES key, of the token or of the session.
func newKey(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, label string, onToken bool) (pkcs11.ObjectHandle, error) {
	return ctx.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, onToken),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 16),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
	})
}

// count is how many objects have the label.
func count(t *testing.T, ctx *pkcs11.Ctx, session pkcs11.SessionHandle, label string) int {
	t.Helper()
	require.NoError(t, ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}))
	objects, _, err := ctx.FindObjects(session, 10)
	require.NoError(t, err)
	require.NoError(t, ctx.FindObjectsFinal(session))
	return len(objects)
}

// codeIs requires that err is that CKR code, and CKR_OK that there is none.
func codeIs(t *testing.T, want uint, err error, about ...any) {
	t.Helper()
	if want == pkcs11.CKR_OK {
		require.NoError(t, err, about...)
		return
	}
	require.Equal(t, pkcs11.Error(want), err, about...)
}

// hangs waits until that many calls hang.
func hangs(t *testing.T, control *Control, n uint64) {
	t.Helper()
	require.Eventually(t, func() bool { return control.Stats().Hanging == n }, 10*time.Second, time.Millisecond,
		fmt.Sprintf("%d calls should hang", n))
}

// random draws bytes in a goroutine of its own, the channel says with what end.
func random(ctx *pkcs11.Ctx, session pkcs11.SessionHandle) <-chan error {
	end := make(chan error, 1)
	go func() {
		_, err := ctx.GenerateRandom(session, 8)
		end <- err
	}()
	return end
}

// ended is what the channel says, soon.
func ended(t *testing.T, end <-chan error) error {
	t.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(t, "the call has not come back")
		return nil
	}
}
