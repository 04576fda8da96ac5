package hsmtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The example of GB/T 32907-2016: key and plaintext are the same.
const (
	sm4Example = "0123456789ABCDEFFEDCBA9876543210"
	sm4Answer  = "681EDF34D206965E86B3E94F536E4246"
)

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	require.NoError(t, err)
	return b
}

// sensitive is the template of a key that is not to be read, with changes.
func sensitive(change map[uint]any) []*pkcs11.Attribute {
	attributes := map[uint]any{
		pkcs11.CKA_CLASS: pkcs11.CKO_SECRET_KEY, pkcs11.CKA_KEY_TYPE: AllMechanisms().SM4KeyType, pkcs11.CKA_TOKEN: false,
		pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DERIVE: true,
	}
	maps.Copy(attributes, change)
	var template []*pkcs11.Attribute
	for kind, value := range attributes {
		if value != nil {
			template = append(template, pkcs11.NewAttribute(kind, value))
		}
	}
	return template
}

type vendorCase struct {
	t       *testing.T
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
	m       Mechanisms
}

func newVendorCase(t *testing.T, m Mechanisms) (vendorCase, *Token, *Control) {
	token, control := NewVendorToken(t, m)
	ctx, session, _ := loggedIn(t, token)
	return vendorCase{t, ctx, session, m}, token, control
}

func (c vendorCase) create(change map[uint]any) (pkcs11.ObjectHandle, error) {
	return c.ctx.CreateObject(c.session, sensitive(change))
}

func (c vendorCase) key(value string, change map[uint]any) pkcs11.ObjectHandle {
	c.t.Helper()
	all := map[uint]any{pkcs11.CKA_VALUE: unhex(c.t, value)}
	maps.Copy(all, change)
	key, err := c.create(all)
	require.NoError(c.t, err)
	return key
}

func (c vendorCase) encrypt(mechanism uint, iv []byte, key pkcs11.ObjectHandle, in []byte) ([]byte, error) {
	if err := c.ctx.EncryptInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, iv)}, key); err != nil {
		return nil, err
	}
	return c.ctx.Encrypt(c.session, in)
}

// derive derives by ECB encryption of data: the binding has no helper for the parameter, which is laid out as in C.
func (c vendorCase) derive(mechanism uint, base pkcs11.ObjectHandle, data []byte, change map[uint]any) (pkcs11.ObjectHandle, error) {
	return c.ctx.DeriveKey(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, stringData(c.t, data))}, base, sensitive(change))
}

func (c vendorCase) combine(base, other pkcs11.ObjectHandle, change map[uint]any) (pkcs11.ObjectHandle, error) {
	return c.ctx.DeriveKey(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(c.m.XORKeys, handleBytes(other))}, base, sensitive(change))
}

func (c vendorCase) attribute(key pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	got, err := c.ctx.GetAttributeValue(c.session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

func TestSM4Computes(t *testing.T) {
	c, _, _ := newVendorCase(t, AllMechanisms())
	key := c.key(sm4Example, nil)
	example, answer := unhex(t, sm4Example), unhex(t, sm4Answer)
	got, err := c.encrypt(c.m.SM4ECB, nil, key, append(bytes.Clone(example), example...))
	require.NoError(t, err)
	assert.Equal(t, append(bytes.Clone(answer), answer...), got)

	iv := bytes.Repeat([]byte{0x5A}, 16)
	chained := bytes.Clone(example)
	for i := range chained {
		chained[i] ^= iv[i]
	}
	got, err = c.encrypt(c.m.SM4CBC, iv, key, chained)
	require.NoError(t, err)
	assert.Equal(t, answer, got)

	derived, err := c.derive(c.m.SM4Derive, key, example, map[uint]any{pkcs11.CKA_SENSITIVE: false, pkcs11.CKA_EXTRACTABLE: true})
	require.NoError(t, err)
	value, err := c.attribute(derived, pkcs11.CKA_VALUE)
	require.NoError(t, err)
	assert.Equal(t, answer, value)
	check, err := c.attribute(key, pkcs11.CKA_CHECK_VALUE)
	require.NoError(t, err)
	zeros, err := c.encrypt(c.m.SM4ECB, nil, key, make([]byte, 16))
	require.NoError(t, err)
	assert.Equal(t, zeros[:3], check)
}

func TestXORComputes(t *testing.T) {
	c, _, _ := newVendorCase(t, AllMechanisms())
	for _, keyType := range []uint{c.m.SM4KeyType, pkcs11.CKK_DES2, pkcs11.CKK_GENERIC_SECRET} {
		one := c.key("0123456789ABCDEF0123456789ABCDEF", map[uint]any{pkcs11.CKA_KEY_TYPE: keyType})
		other := c.key("10204080102040801122334455667788", map[uint]any{pkcs11.CKA_KEY_TYPE: keyType})
		key, err := c.combine(one, other, map[uint]any{pkcs11.CKA_KEY_TYPE: keyType, pkcs11.CKA_SENSITIVE: false, pkcs11.CKA_EXTRACTABLE: true})
		require.NoError(t, err)
		value, err := c.attribute(key, pkcs11.CKA_VALUE)
		require.NoError(t, err)
		assert.Equal(t, unhex(t, "110305E7998B8D6F10017623DCCDBA67"), value)
	}
}

// What a key was made with is what the token says of it and holds it to, in this process and the next.
func TestVendorKeysAreObjectsOfTheToken(t *testing.T) {
	c, token, _ := newVendorCase(t, AllMechanisms())
	c.key(sm4Example, map[uint]any{pkcs11.CKA_TOKEN: true, pkcs11.CKA_LABEL: "master", pkcs11.CKA_ID: []byte("own"), pkcs11.CKA_ENCRYPT: false})
	c.key(sm4Example, map[uint]any{pkcs11.CKA_LABEL: "of the session"})
	require.NoError(t, c.ctx.Finalize())

	require.NoError(t, c.ctx.Initialize())
	c.session = open(t, c.ctx, slotOf(t, c.ctx, token))
	require.NoError(t, c.ctx.Login(c.session, pkcs11.CKU_USER, token.PIN))
	assert.Zero(t, count(t, c.ctx, c.session, "of the session"))
	require.NoError(t, c.ctx.FindObjectsInit(c.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "master")}))
	found, _, err := c.ctx.FindObjects(c.session, 10)
	require.NoError(t, err)
	require.NoError(t, c.ctx.FindObjectsFinal(c.session))
	require.Len(t, found, 1)
	master := found[0]
	for kind, want := range map[uint][]byte{
		pkcs11.CKA_KEY_TYPE: pkcs11.NewAttribute(0, c.m.SM4KeyType).Value, pkcs11.CKA_ID: []byte("own"), pkcs11.CKA_SENSITIVE: {1},
		pkcs11.CKA_EXTRACTABLE: {0}, pkcs11.CKA_ALWAYS_SENSITIVE: {0}, pkcs11.CKA_NEVER_EXTRACTABLE: {0}, pkcs11.CKA_DERIVE: {1},
		pkcs11.CKA_ENCRYPT: {0}, pkcs11.CKA_TOKEN: {1}, pkcs11.CKA_VALUE_LEN: pkcs11.NewAttribute(0, uint(16)).Value,
	} {
		got, err := c.attribute(master, kind)
		require.NoError(t, err, "%#x", kind)
		assert.Equal(t, want, got, "%#x", kind)
	}
	_, err = c.encrypt(c.m.SM4ECB, nil, master, make([]byte, 16))
	codeIs(t, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, err)
	derived, err := c.derive(c.m.SM4Derive, master, unhex(t, sm4Example), map[uint]any{pkcs11.CKA_DERIVE: false})
	require.NoError(t, err)
	_, err = c.derive(c.m.SM4Derive, derived, unhex(t, sm4Example), nil)
	codeIs(t, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, err)
	require.NoError(t, c.ctx.DestroyObject(c.session, master))
	assert.Zero(t, count(t, c.ctx, c.session, "master"))
	_, err = c.derive(c.m.SM4Derive, master, unhex(t, sm4Example), nil)
	codeIs(t, pkcs11.CKR_KEY_HANDLE_INVALID, err)
	_, err = c.encrypt(c.m.SM4ECB, nil, master, make([]byte, 16))
	codeIs(t, pkcs11.CKR_KEY_HANDLE_INVALID, err)
}

// A sensitive key does not leave, by no way that the interface has.
func TestVendorKeysThatAreSensitiveStay(t *testing.T) {
	c, _, _ := newVendorCase(t, AllMechanisms())
	wrapping, err := newKey(c.ctx, c.session, "wrapping", false)
	require.NoError(t, err)
	for _, keyType := range []uint{c.m.SM4KeyType, pkcs11.CKK_DES2} {
		key := c.key(sm4Example, map[uint]any{pkcs11.CKA_KEY_TYPE: keyType, pkcs11.CKA_LABEL: "key"})
		_, err := c.attribute(key, pkcs11.CKA_VALUE)
		codeIs(t, pkcs11.CKR_ATTRIBUTE_SENSITIVE, err)
		for _, kind := range []uint{pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_ID, pkcs11.CKA_VALUE} {
			err = c.ctx.SetAttributeValue(c.session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, []byte{0})})
			codeIs(t, pkcs11.CKR_ATTRIBUTE_READ_ONLY, err, kind)
		}
		require.NoError(t, c.ctx.SetAttributeValue(c.session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "renamed")}))
		_, err = c.ctx.CopyObject(c.session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false)})
		codeIs(t, pkcs11.CKR_ACTION_PROHIBITED, err)
		_, err = c.ctx.WrapKey(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}, wrapping, key)
		codeIs(t, pkcs11.CKR_KEY_UNEXTRACTABLE, err)
	}
	codeIs(t, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID,
		c.ctx.FindObjectsInit(c.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, unhex(t, sm4Example))}), "no oracle of values either")
}

// The hardened token derives nothing readable from what is sensitive; the other does, as SoftHSM.
func TestHardenedTokenDerivesNothingReadable(t *testing.T) {
	for _, hardened := range []bool{false, true} {
		m := AllMechanisms()
		m.Hardened = hardened
		c, _, _ := newVendorCase(t, m)
		key := c.key(sm4Example, nil)
		des := c.key(sm4Example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2})
		want := uint(pkcs11.CKR_OK)
		if hardened {
			want = pkcs11.CKR_TEMPLATE_INCONSISTENT
		}
		for _, readable := range []map[uint]any{
			{pkcs11.CKA_SENSITIVE: false, pkcs11.CKA_EXTRACTABLE: true},
			{pkcs11.CKA_SENSITIVE: false},
			{pkcs11.CKA_EXTRACTABLE: true},
		} {
			_, err := c.derive(m.SM4Derive, key, unhex(t, sm4Example), readable)
			codeIs(t, want, err)
			_, err = c.combine(key, key, readable)
			codeIs(t, want, err)
			readable[pkcs11.CKA_KEY_TYPE] = pkcs11.CKK_DES2
			_, err = c.derive(pkcs11.CKM_DES3_ECB_ENCRYPT_DATA, des, unhex(t, sm4Example), readable)
			codeIs(t, want, err)
		}
		_, err := c.derive(m.SM4Derive, key, unhex(t, sm4Example), nil)
		require.NoError(t, err)
		require.NoError(t, c.ctx.Finalize())
	}
}

func TestVendorCallsAreRefused(t *testing.T) {
	c, _, _ := newVendorCase(t, AllMechanisms())
	example := unhex(t, sm4Example)
	key := c.key(sm4Example, nil)
	des := c.key(sm4Example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2})
	encrypt := func(mechanism uint, iv []byte, key pkcs11.ObjectHandle, n int) func() error {
		return func() error { _, err := c.encrypt(mechanism, iv, key, make([]byte, n)); return err }
	}
	derive := func(mechanism uint, base pkcs11.ObjectHandle, data []byte, change map[uint]any) func() error {
		return func() error { _, err := c.derive(mechanism, base, data, change); return err }
	}
	create := func(change map[uint]any) func() error {
		return func() error { _, err := c.create(change); return err }
	}
	for name, test := range map[string]struct {
		call func() error
		want uint
	}{
		"half a block":             {encrypt(c.m.SM4ECB, nil, key, 24), pkcs11.CKR_DATA_LEN_RANGE},
		"an iv of half a block":    {encrypt(c.m.SM4CBC, example[:8], key, 16), pkcs11.CKR_MECHANISM_PARAM_INVALID},
		"ecb with an iv":           {encrypt(c.m.SM4ECB, example, key, 16), pkcs11.CKR_MECHANISM_PARAM_INVALID},
		"sm4 with a des key":       {encrypt(c.m.SM4ECB, nil, des, 16), pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"des with an sm4 key":      {encrypt(pkcs11.CKM_DES3_ECB, nil, key, 16), pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"sm4 derive of a des key":  {derive(c.m.SM4Derive, des, example, nil), pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"des derive of an sm4 key": {derive(pkcs11.CKM_DES3_ECB_ENCRYPT_DATA, key, example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2}), pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"half a block to derive":   {derive(c.m.SM4Derive, key, example[:8], nil), pkcs11.CKR_MECHANISM_PARAM_INVALID},
		"a longer key than data":   {derive(c.m.SM4Derive, key, example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES3}), pkcs11.CKR_KEY_SIZE_RANGE},
		"a key of another class":   {derive(c.m.SM4Derive, key, example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES}), pkcs11.CKR_TEMPLATE_INCONSISTENT},
		"a value of fifteen bytes": {create(map[uint]any{pkcs11.CKA_VALUE: example[:15]}), pkcs11.CKR_ATTRIBUTE_VALUE_INVALID},
		"no value":                 {create(nil), pkcs11.CKR_TEMPLATE_INCOMPLETE},
		"xor with no key":          {func() error { _, err := c.combine(key, 0xDEAD, nil); return err }, pkcs11.CKR_KEY_HANDLE_INVALID},
		"xor of what may not": {func() error {
			_, err := c.combine(key, c.key(sm4Example, map[uint]any{pkcs11.CKA_DERIVE: false}), nil)
			return err
		}, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED},
		"an encryption in progress": {func() error {
			_ = c.ctx.EncryptInit(c.session, sm4ECB(c.m), key)
			return c.ctx.EncryptInit(c.session, sm4ECB(c.m), key)
		}, pkcs11.CKR_OPERATION_ACTIVE},
	} {
		t.Run(name, func(t *testing.T) {
			codeIs(t, test.want, test.call())
			if name == "an encryption in progress" {
				_, err := c.ctx.Encrypt(c.session, example)
				require.NoError(t, err)
			}
			got, err := c.encrypt(c.m.SM4ECB, nil, key, example)
			require.NoError(t, err, "the session is as good as before")
			assert.Equal(t, unhex(t, sm4Answer), got)
		})
	}
}

func sm4ECB(m Mechanisms) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.SM4ECB, nil)}
}

// A mechanism without a number is not there; a token without a vendor has none, and its objects are SoftHSM's own.
func TestMechanismsAreThoseThatWereAskedFor(t *testing.T) {
	m := AllMechanisms()
	without := m
	without.SM4Derive, without.XORKeys = 0, 0
	c, _, _ := newVendorCase(t, without)
	c.m = m
	key := c.key(sm4Example, nil)
	_, err := c.encrypt(m.SM4ECB, nil, key, make([]byte, 16))
	require.NoError(t, err)
	_, err = c.derive(m.SM4Derive, key, unhex(t, sm4Example), map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES})
	codeIs(t, pkcs11.CKR_MECHANISM_INVALID, err)
	_, err = c.combine(key, key, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES})
	codeIs(t, pkcs11.CKR_MECHANISM_INVALID, err)
	require.NoError(t, c.ctx.Finalize())

	token, _ := NewFaultToken(t)
	ctx, session, _ := loggedIn(t, token)
	plain := vendorCase{t, ctx, session, m}
	_, err = plain.create(map[uint]any{pkcs11.CKA_VALUE: unhex(t, sm4Example)})
	require.Error(t, err)
	des := plain.key(sm4Example, map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_DES2})
	id, err := plain.attribute(des, pkcs11.CKA_ID)
	require.NoError(t, err)
	assert.Empty(t, id)
}

func TestMalformedMechanismsStopTheModule(t *testing.T) {
	token, _ := NewFaultToken(t)
	for _, text := range []string{"1,2,3,4,5", "1,2,3,4,5,2", "1,2,3,4,5,1,", "x,2,3,4,5,0"} {
		t.Setenv(vendorVariable, text)
		ctx := pkcs11.New(token.Module)
		require.NotNil(t, ctx)
		codeIs(t, pkcs11.CKR_GENERAL_ERROR, ctx.Initialize(), text)
		ctx.Destroy()
	}
}

// Faults come before and after the added mechanisms as they do of SoftHSM's, and a lost session takes its keys along.
func TestFaultsReachTheAddedMechanisms(t *testing.T) {
	c, token, control := newVendorCase(t, AllMechanisms())
	key := c.key(sm4Example, nil)
	control.Set(Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
	_, err := c.derive(c.m.SM4Derive, key, unhex(t, sm4Example), nil)
	codeIs(t, deviceError, err)
	_, err = c.derive(c.m.SM4Derive, key, unhex(t, sm4Example), nil)
	require.NoError(t, err)
	require.NoError(t, c.ctx.EncryptInit(c.session, sm4ECB(c.m), key))
	control.LoseSessions()
	_, err = c.ctx.Encrypt(c.session, make([]byte, 16))
	codeIs(t, pkcs11.CKR_SESSION_HANDLE_INVALID, err)
	c.session = open(t, c.ctx, slotOf(t, c.ctx, token))
	require.NoError(t, c.ctx.Login(c.session, pkcs11.CKU_USER, token.PIN))
	_, err = c.ctx.Encrypt(c.session, make([]byte, 16))
	codeIs(t, pkcs11.CKR_OPERATION_NOT_INITIALIZED, err)
	_, err = c.encrypt(c.m.SM4ECB, nil, key, make([]byte, 16))
	codeIs(t, pkcs11.CKR_KEY_HANDLE_INVALID, err)
}

// stringData is CK_KEY_DERIVATION_STRING_DATA with its data in memory outside the Go heap, where a C structure may point.
func stringData(t *testing.T, data []byte) []byte {
	t.Helper()
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	copy(memory, data)
	parameter := binary.NativeEndian.AppendUint64(nil, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))))
	return binary.NativeEndian.AppendUint64(parameter, uint64(len(data)))
}

func handleBytes(object pkcs11.ObjectHandle) []byte {
	return binary.NativeEndian.AppendUint64(nil, uint64(object))
}
