package hsmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of functions has the order of CK_FUNCTION_LIST as the binding's header has it: the module and its caller agree on
// what is where.
func TestFunctionsAreInTheOrderOfTheStandard(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	require.NoError(t, err)
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pkcs11f.h"))
	require.NoError(t, err)
	numbers, err := functionNumbers()
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^CK_PKCS11_FUNCTION_INFO\((C_\w+)\)`).FindAllSubmatch(header, -1)
	require.Len(t, rows, 68)
	for i, row := range rows {
		assert.Equal(t, i+1, numbers[string(row[1])], string(row[1]))
	}
	assert.Len(t, numbers, 69)
	assert.Zero(t, numbers[EveryFunction])
	assert.Less(t, len(numbers), functionRows)
}

// The functions that the service uses, and their neighbours, reach SoftHSM with their arguments in place, and each is counted
// under its own name.
func TestFunctionsAreForwarded(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx, session, slot := loggedIn(t, token)
	key, err := newKey(ctx, session, "key", false)
	require.NoError(t, err)
	one := func(mechanism uint, parameter any) []*pkcs11.Mechanism {
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, parameter)}
	}
	message := []byte("sixteen bytes...sixteen bytes...")

	iv := make([]byte, 16)
	require.NoError(t, ctx.EncryptInit(session, one(pkcs11.CKM_AES_CBC, iv), key))
	sealed, err := ctx.Encrypt(session, message)
	require.NoError(t, err)
	require.NoError(t, ctx.DecryptInit(session, one(pkcs11.CKM_AES_CBC, iv), key))
	opened, err := ctx.Decrypt(session, sealed)
	require.NoError(t, err)
	assert.Equal(t, message, opened)

	require.NoError(t, ctx.EncryptInit(session, one(pkcs11.CKM_AES_CBC, iv), key))
	part, err := ctx.EncryptUpdate(session, message[:16])
	require.NoError(t, err)
	assert.Equal(t, sealed[:16], part)
	_, err = ctx.EncryptFinal(session)
	require.NoError(t, err)

	require.NoError(t, ctx.SignInit(session, one(pkcs11.CKM_AES_CMAC, nil), key))
	mac, err := ctx.Sign(session, message)
	require.NoError(t, err)
	require.NoError(t, ctx.VerifyInit(session, one(pkcs11.CKM_AES_CMAC, nil), key))
	require.NoError(t, ctx.Verify(session, message, mac))
	require.NoError(t, ctx.VerifyInit(session, one(pkcs11.CKM_AES_CMAC, nil), key))
	codeIs(t, pkcs11.CKR_SIGNATURE_INVALID, ctx.Verify(session, message, make([]byte, 16)))

	require.NoError(t, ctx.DigestInit(session, one(pkcs11.CKM_SHA256, nil)))
	digest, err := ctx.Digest(session, nil)
	require.NoError(t, err)
	assert.Equal(t, byte(0xe3), digest[0])

	wrapped, err := ctx.WrapKey(session, one(pkcs11.CKM_AES_KEY_WRAP, nil), key, key)
	require.NoError(t, err)
	assert.Len(t, wrapped, 24)

	value, err := ctx.GetAttributeValue(session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	require.NoError(t, err)
	assert.Equal(t, "key", string(value[0].Value))
	require.NoError(t, ctx.SetAttributeValue(session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "renamed")}))
	assert.Equal(t, 1, count(t, ctx, session, "renamed"))
	require.NoError(t, ctx.DestroyObject(session, key))
	assert.Zero(t, count(t, ctx, session, "renamed"))

	mechanisms, err := ctx.GetMechanismList(slot)
	require.NoError(t, err)
	assert.NotEmpty(t, mechanisms)
	mechanism, err := ctx.GetMechanismInfo(slot, one(pkcs11.CKM_AES_KEY_GEN, nil))
	require.NoError(t, err)
	assert.EqualValues(t, 32, mechanism.MaxKeySize)
	info, err := ctx.GetInfo()
	require.NoError(t, err)
	assert.Equal(t, "SoftHSM", info.ManufacturerID)
	require.NoError(t, ctx.SetPIN(session, token.PIN, "test-pin-new"))
	require.NoError(t, ctx.Logout(session))
	require.NoError(t, ctx.Login(session, pkcs11.CKU_USER, "test-pin-new"))
	require.NoError(t, ctx.CloseAllSessions(slot))
	_, err = ctx.GetSessionInfo(session)
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, err)

	total := uint64(0)
	for name := range control.numbers {
		if name != EveryFunction {
			total += control.Calls(name)
		}
	}
	assert.Equal(t, control.Calls(EveryFunction), total)
	for name, want := range map[string]uint64{
		"C_Initialize": 1, "C_GetInfo": 1, "C_OpenSession": 1, "C_CloseAllSessions": 1, "C_Login": 2, "C_Logout": 1, "C_SetPIN": 1,
		"C_EncryptInit": 2, "C_Encrypt": 2, "C_EncryptUpdate": 2, "C_EncryptFinal": 2, "C_DecryptInit": 1, "C_Decrypt": 2, "C_SignInit": 1, "C_Sign": 2,
		"C_VerifyInit": 2, "C_Verify": 2, "C_DigestInit": 1, "C_Digest": 2, "C_WrapKey": 2, "C_GetAttributeValue": 2,
		"C_SetAttributeValue": 1, "C_DestroyObject": 1, "C_GetMechanismList": 2, "C_GetMechanismInfo": 1, "C_GenerateKey": 1,
		"C_DeriveKey": 0, "C_Finalize": 0,
	} {
		assert.Equal(t, want, control.Calls(name), name)
	}
}

// The module keeps to the standard where it answers by itself.
func TestFunctionsBeforeAndAfterInitialize(t *testing.T) {
	token, control := NewFaultToken(t)
	ctx := load(t, token)
	codeIs(t, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED, ctx.Initialize())
	slot := slotOf(t, ctx, token)
	session := open(t, ctx, slot)
	require.NoError(t, ctx.Finalize())
	codeIs(t, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, ctx.SeedRandom(session, []byte{1}))
	_, err := ctx.GetInfo()
	codeIs(t, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, err)
	codeIs(t, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, ctx.Finalize())

	control.Set(Fault{Function: "C_Initialize", To: 1, Code: deviceError})
	codeIs(t, deviceError, ctx.Initialize())
	require.NoError(t, ctx.Initialize())
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, ctx.SeedRandom(session, []byte{1}), "a session of the time before")
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, ctx.CloseSession(1), "a handle of the module behind")
	open(t, ctx, slot)
}

// Without its two variables the module does not start, rather than run without faults.
func TestModuleWantsItsVariables(t *testing.T) {
	for _, name := range []string{forwardVariable, controlVariable} {
		for _, value := range []string{"", "/none", "/dev/null"} {
			t.Run(name+"="+value, func(t *testing.T) {
				token, _ := NewFaultToken(t)
				t.Setenv(name, value)
				ctx := pkcs11.New(token.Module)
				require.NotNil(t, ctx)
				defer ctx.Destroy()
				codeIs(t, pkcs11.CKR_GENERAL_ERROR, ctx.Initialize())
			})
		}
	}
}
