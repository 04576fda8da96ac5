package hsm

import (
	"context"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// "Not extractable" is said only when every form of a readable key was refused by policy.
func TestExposureNeedsEveryRefusal(t *testing.T) {
	token, control, _ := faulty(t, nil)
	exposure := func() (Exposure, error) { return token.Exposure(context.Background(), "TOKEN") }
	for refused := uint64(1); refused < 4; refused++ {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: refused, Code: pkcs11.CKR_TEMPLATE_INCONSISTENT})
		report, err := exposure()
		require.NoError(t, err)
		assert.True(t, report.Extractable, "%d forms of 4 refused", refused)
	}
	for code := range policy {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", Code: uint(code)})
		report, err := exposure()
		require.NoError(t, err)
		assert.False(t, report.Extractable, code)
		assert.Contains(t, report.Detail, "refuses")
	}
	control.Clear()
	control.Set(hsmtest.Fault{Function: "C_GetAttributeValue", Code: pkcs11.CKR_ATTRIBUTE_SENSITIVE}) // derived, but not given
	report, err := exposure()
	require.NoError(t, err)
	assert.False(t, report.Extractable)
	control.Clear()
	for _, code := range []uint{pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_ARGUMENTS_BAD} {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", Code: code})
		_, err := exposure()
		require.ErrorIs(t, err, errNotTold)
		require.NotErrorIs(t, err, ErrUnavailable)
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_DEVICE_ERROR})
	_, err = exposure()
	require.ErrorIs(t, err, ErrUnavailable)
}
