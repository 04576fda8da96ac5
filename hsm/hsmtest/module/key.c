/* key.c: the functions that compute with keys. A mechanism that is the vendor's is computed here; the others are SoftHSM's, with
 * the key that they make marked. */
#include <string.h>

#include "call.h"
#include "mark.h"
#include "real.h"

/* inherit settles what a derived key is by its origin: always what every key before it was. The hardened token makes no readable
 * key of a sensitive one. */
static CK_RV inherit(struct translation *t, const struct mark *base)
{
	if (vendor()->hardened && base->sensitive && (!t->mark.sensitive || t->mark.extractable))
		return CKR_TEMPLATE_INCONSISTENT;
	t->mark.always_sensitive = base->always_sensitive && t->mark.sensitive;
	t->mark.never_extractable = base->never_extractable && !t->mark.extractable;
	translate_done(t);
	return CKR_OK;
}

/* make puts the leading bytes of value into the token as the key that the template asks for. */
static CK_RV make(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, const struct mark *base, const CK_BYTE *value, CK_ULONG len,
	const CK_ATTRIBUTE *template, CK_ULONG count, void *key)
{
	struct translation t;
	if (!marks(template, count))
		return CKR_TEMPLATE_INCONSISTENT;
	CK_RV rv = translate(&t, template, count);
	if (rv != CKR_OK)
		return rv;
	CK_ULONG wanted = t.value_len != 0 ? t.value_len : len;
	if (wanted > len)
		return CKR_KEY_SIZE_RANGE;
	rv = inherit(&t, base);
	if (rv == CKR_OK)
		rv = translate_value(&t, value, wanted);
	return rv == CKR_OK ? real->C_CreateObject(session, t.attributes, t.count, key) : rv;
}

static CK_RV derive_sm4(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, const CK_MECHANISM *m, CK_ULONG base,
	const CK_ATTRIBUTE *template, CK_ULONG count, void *key)
{
	struct key from;
	CK_BYTE value[VALUE_MAX];
	const CK_KEY_DERIVATION_STRING_DATA *data = m->parameter;
	if (data == NULL || m->len != sizeof *data || data->data == NULL || data->len == 0 || data->len % SM4_BLOCK != 0 ||
		data->len > sizeof value)
		return CKR_MECHANISM_PARAM_INVALID;
	CK_RV rv = key_read(real, session, base, CKA_DERIVE, &from);
	if (rv != CKR_OK)
		return rv;
	if (!vendor_is(vendor()->sm4_key_type, from.mark.type))
		return CKR_KEY_TYPE_INCONSISTENT;
	if (!sm4(from.value, NULL, data->data, data->len, value))
		return CKR_GENERAL_ERROR;
	return make(real, session, &from.mark, value, data->len, template, count, key);
}

static CK_RV derive_xor(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, const CK_MECHANISM *m, CK_ULONG base,
	const CK_ATTRIBUTE *template, CK_ULONG count, void *key)
{
	struct key one, other;
	CK_ULONG handle;
	if (m->parameter == NULL || m->len != sizeof handle)
		return CKR_MECHANISM_PARAM_INVALID;
	memcpy(&handle, m->parameter, sizeof handle);
	CK_RV rv = key_read(real, session, base, CKA_DERIVE, &one);
	if (rv == CKR_OK)
		rv = key_read(real, session, handle, CKA_DERIVE, &other);
	if (rv != CKR_OK)
		return rv;
	CK_ULONG len = one.len < other.len ? one.len : other.len;
	for (CK_ULONG i = 0; i < len; i++)
		one.value[i] ^= other.value[i];
	struct mark both = one.mark; /* as protected as either was */
	both.sensitive |= other.mark.sensitive;
	both.always_sensitive &= other.mark.always_sensitive;
	both.never_extractable &= other.mark.never_extractable;
	if (vendor()->soft_xor)
		both.sensitive = false; /* the hole that some tokens have: what comes out may be readable */
	return make(real, session, &both, one.value, len, template, count, key);
}

/* derive_real has SoftHSM derive, and marks the key. */
static CK_RV derive_real(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, void *mechanism, CK_ULONG base, void *template,
	CK_ULONG count, void *key)
{
	struct translation t;
	struct mark from;
	bool marked;
	if (!marks(template, count))
		return real->C_DeriveKey(session, mechanism, base, template, count, key);
	CK_RV rv = is_marked(real, session, base, &from, &marked);
	if (rv == CKR_OBJECT_HANDLE_INVALID)
		return CKR_KEY_HANDLE_INVALID;
	if (rv != CKR_OK)
		return rv;
	if (!marked || vendor_is(vendor()->sm4_key_type, from.type))
		return CKR_KEY_TYPE_INCONSISTENT;
	rv = translate(&t, template, count);
	if (rv == CKR_OK)
		rv = inherit(&t, &from);
	return rv == CKR_OK ? real->C_DeriveKey(session, mechanism, base, t.attributes, t.count, key) : rv;
}

CK_RV wrap_C_DeriveKey(CK_SESSION_HANDLE session, void *mechanism, CK_ULONG base, void *template, CK_ULONG count, void *key)
{
	struct call call;
	const CK_MECHANISM *m = mechanism;
	CK_RV rv = call_begin(&call, FN_C_DeriveKey, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		if (m != NULL && vendor_is(vendor()->sm4_derive, m->mechanism))
			rv = derive_sm4(call.real, session, m, base, template, count, key);
		else if (m != NULL && vendor_is(vendor()->xor_keys, m->mechanism))
			rv = derive_xor(call.real, session, m, base, template, count, key);
		else
			rv = derive_real(call.real, session, mechanism, base, template, count, key);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_GenerateKey(CK_SESSION_HANDLE session, void *mechanism, void *template, CK_ULONG count, void *key)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_GenerateKey, KIND_SESSION, &session);
	if (rv == CKR_OK && marks(template, count)) {
		struct translation t;
		rv = translate(&t, template, count);
		t.mark.always_sensitive = t.mark.sensitive;
		t.mark.never_extractable = !t.mark.extractable;
		translate_done(&t);
		if (rv == CKR_OK && vendor_is(vendor()->sm4_key_type, t.mark.type))
			rv = CKR_TEMPLATE_INCONSISTENT; /* no mechanism of the vendor generates */
		if (rv == CKR_OK)
			rv = call.real->C_GenerateKey(session, mechanism, t.attributes, t.count, key);
	} else if (rv == CKR_OK) {
		rv = call.real->C_GenerateKey(session, mechanism, template, count, key);
	}
	return call_end(&call, rv);
}

/* A key that is unwrapped came from outside. SoftHSM is told no length: it is the wrapped key's, which the next use finds out. */
CK_RV wrap_C_UnwrapKey(CK_SESSION_HANDLE session, void *mechanism, CK_ULONG unwrapping, void *wrapped, CK_ULONG wrapped_len,
	void *template, CK_ULONG count, void *key)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_UnwrapKey, KIND_SESSION, &session);
	if (rv == CKR_OK && marks(template, count)) {
		struct translation t;
		rv = translate(&t, template, count);
		translate_done(&t);
		if (rv == CKR_OK && t.attributes[t.count - 1].type == CKA_VALUE_LEN)
			t.count--;
		if (rv == CKR_OK)
			rv = call.real->C_UnwrapKey(session, mechanism, unwrapping, wrapped, wrapped_len, t.attributes, t.count, key);
	} else if (rv == CKR_OK) {
		rv = call.real->C_UnwrapKey(session, mechanism, unwrapping, wrapped, wrapped_len, template, count, key);
	}
	return call_end(&call, rv);
}

static CK_RV start_sm4(const struct call *call, CK_SESSION_HANDLE session, const CK_MECHANISM *m, CK_ULONG object)
{
	struct key key;
	struct operation operation = {.active = true, .cbc = m->mechanism == vendor()->sm4_cbc};
	if (m->len != (operation.cbc ? SM4_BLOCK : 0) || (operation.cbc && m->parameter == NULL))
		return CKR_MECHANISM_PARAM_INVALID;
	CK_RV rv = key_read(call->real, session, object, CKA_ENCRYPT, &key);
	if (rv != CKR_OK)
		return rv;
	if (!vendor_is(vendor()->sm4_key_type, key.mark.type))
		return CKR_KEY_TYPE_INCONSISTENT;
	memcpy(operation.key, key.value, sizeof operation.key);
	if (operation.cbc)
		memcpy(operation.iv, m->parameter, sizeof operation.iv);
	call_operate(call, &operation);
	return CKR_OK;
}

CK_RV wrap_C_EncryptInit(CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key)
{
	struct call call;
	const CK_MECHANISM *m = mechanism;
	CK_RV rv = call_begin(&call, FN_C_EncryptInit, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		if (call_operation(&call).active)
			rv = CKR_OPERATION_ACTIVE;
		else if (m != NULL && (vendor_is(vendor()->sm4_ecb, m->mechanism) || vendor_is(vendor()->sm4_cbc, m->mechanism)))
			rv = start_sm4(&call, session, m, key);
		else
			rv = call.real->C_EncryptInit(session, mechanism, key);
	}
	return call_end(&call, rv);
}

/* finish_sm4 is C_Encrypt of the operation: asked for the length, or given too little room, it stays open. */
static CK_RV finish_sm4(const struct call *call, const struct operation *operation, const CK_BYTE *in, CK_ULONG len, CK_BYTE *out, CK_ULONG *out_len)
{
	static const struct operation none;
	CK_RV rv = CKR_OK;
	if (out_len == NULL || in == NULL || len == 0 || len % SM4_BLOCK != 0) {
		call_operate(call, &none);
		return out_len == NULL || in == NULL ? CKR_ARGUMENTS_BAD : CKR_DATA_LEN_RANGE;
	}
	CK_ULONG room = *out_len;
	*out_len = len;
	if (out == NULL)
		return CKR_OK;
	if (room < len)
		return CKR_BUFFER_TOO_SMALL;
	if (!sm4(operation->key, operation->cbc ? operation->iv : NULL, in, len, out))
		rv = CKR_GENERAL_ERROR;
	call_operate(call, &none);
	return rv;
}

CK_RV wrap_C_Encrypt(CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_Encrypt, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		struct operation operation = call_operation(&call);
		if (operation.active)
			rv = finish_sm4(&call, &operation, in, in_len, out, out_len);
		else
			rv = call.real->C_Encrypt(session, in, in_len, out, out_len);
	}
	return call_end(&call, rv);
}
