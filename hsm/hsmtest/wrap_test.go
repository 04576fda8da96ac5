package hsmtest

import (
	"encoding/binary"
	"maps"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Keys that are generated, wrapped and unwrapped keep what was asked of them too.
func TestVendorKeysAreGeneratedAndUnwrapped(t *testing.T) {
	c, _, _ := newVendorCase(t, AllMechanisms())
	mechanism := func(number uint) []*pkcs11.Mechanism { return []*pkcs11.Mechanism{pkcs11.NewMechanism(number, nil)} }
	wrapping, err := c.ctx.GenerateKey(c.session, mechanism(pkcs11.CKM_AES_KEY_GEN), sensitive(map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES,
		pkcs11.CKA_VALUE_LEN: 32, pkcs11.CKA_WRAP: true, pkcs11.CKA_UNWRAP: true, pkcs11.CKA_DERIVE: nil}))
	require.NoError(t, err)
	generate := func(change map[uint]any) (pkcs11.ObjectHandle, error) {
		all := map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_GENERIC_SECRET, pkcs11.CKA_VALUE_LEN: 16}
		maps.Copy(all, change)
		return c.ctx.GenerateKey(c.session, mechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN), sensitive(all))
	}
	kept, err := generate(nil)
	require.NoError(t, err)
	_, err = c.attribute(kept, pkcs11.CKA_VALUE)
	assert.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE))
	for _, kind := range []uint{pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE} {
		value, err := c.attribute(kept, kind)
		require.NoError(t, err)
		assert.Equal(t, []byte{1}, value)
	}
	_, err = c.ctx.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP), wrapping, kept)
	assert.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_KEY_UNEXTRACTABLE))
	_, err = c.ctx.GenerateKey(c.session, mechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN), sensitive(nil))
	assert.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_TEMPLATE_INCONSISTENT), "no mechanism generates SM4")

	once, err := generate(map[uint]any{pkcs11.CKA_EXTRACTABLE: true})
	require.NoError(t, err)
	wrapped, err := c.ctx.WrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP), wrapping, once)
	require.NoError(t, err)
	master, err := c.ctx.UnwrapKey(c.session, mechanism(pkcs11.CKM_AES_KEY_WRAP), wrapping, wrapped, sensitive(nil))
	require.NoError(t, err)
	value, err := c.attribute(master, pkcs11.CKA_KEY_TYPE)
	require.NoError(t, err)
	assert.Equal(t, c.m.SM4KeyType, uint(binary.NativeEndian.Uint64(value)))
	for _, kind := range []uint{pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE} {
		value, err := c.attribute(master, kind)
		require.NoError(t, err)
		assert.Equal(t, []byte{0}, value, "it came from outside")
	}
	_, err = c.attribute(master, pkcs11.CKA_VALUE)
	assert.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE))
	_, err = c.encrypt(c.m.SM4ECB, nil, master, make([]byte, 16))
	assert.NoError(t, err)
}
