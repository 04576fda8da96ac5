/* object.c: the functions that make objects and tell of them. Where no vendor is asked for they only forward. */
#include <string.h>

#include "call.h"
#include "mark.h"
#include "real.h"

static CK_RV create(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, const CK_ATTRIBUTE *template, CK_ULONG count, void *object)
{
	struct translation t;
	CK_RV rv = translate(&t, template, count);
	if (rv != CKR_OK)
		return rv;
	rv = CKR_TEMPLATE_INCOMPLETE;
	for (CK_ULONG i = 0; i < count; i++)
		if (template[i].type == CKA_VALUE)
			rv = translate_value(&t, template[i].value, template[i].len);
	if (rv != CKR_OK)
		return rv;
	translate_done(&t); /* a key that came from outside is neither always sensitive nor never extractable */
	return real->C_CreateObject(session, t.attributes, t.count, object);
}

CK_RV wrap_C_CreateObject(CK_SESSION_HANDLE session, void *template, CK_ULONG count, void *object)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_CreateObject, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		if (marks(template, count))
			rv = create(call.real, session, template, count, object);
		else
			rv = call.real->C_CreateObject(session, template, count, object);
	}
	return call_end(&call, rv);
}

/* give answers one attribute, as C_GetAttributeValue does. */
static CK_RV give(CK_ATTRIBUTE *a, const void *value, CK_ULONG len)
{
	if (a->value != NULL && a->len < len) {
		a->len = CK_UNAVAILABLE_INFORMATION;
		return CKR_BUFFER_TOO_SMALL;
	}
	if (a->value != NULL)
		memcpy(a->value, value, len);
	a->len = len;
	return CKR_OK;
}

static CK_RV refuse(CK_ATTRIBUTE *a, CK_RV rv)
{
	a->len = CK_UNAVAILABLE_INFORMATION;
	return rv;
}

static CK_RV give_id(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, CK_ATTRIBUTE *a)
{
	CK_BYTE id[ID_MAX];
	CK_ATTRIBUTE whole = {CKA_ID, id, sizeof id};
	CK_RV rv = real->C_GetAttributeValue(session, object, &whole, 1);
	return rv == CKR_OK ? give(a, id + MARK_SIZE, whole.len - MARK_SIZE) : refuse(a, rv);
}

static CK_RV give_marked(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, const struct mark *mark, CK_ATTRIBUTE *a)
{
	struct key key;
	CK_BYTE check[3];
	CK_RV rv;
	switch (a->type) {
	case CKA_KEY_TYPE:
		return give(a, &mark->type, sizeof mark->type);
	case CKA_SENSITIVE:
		return give(a, &mark->sensitive, 1);
	case CKA_EXTRACTABLE:
		return give(a, &mark->extractable, 1);
	case CKA_ALWAYS_SENSITIVE:
		return give(a, &mark->always_sensitive, 1);
	case CKA_NEVER_EXTRACTABLE:
		return give(a, &mark->never_extractable, 1);
	case CKA_ID:
		return give_id(real, session, object, a);
	case CKA_VALUE:
		if (mark->sensitive || !mark->extractable)
			return refuse(a, CKR_ATTRIBUTE_SENSITIVE);
		rv = key_value(real, session, object, &key);
		return rv == CKR_OK ? give(a, key.value, key.len) : refuse(a, rv);
	case CKA_CHECK_VALUE:
		rv = key_value(real, session, object, &key);
		if (rv == CKR_OK && check_value(mark->type, key.value, key.len, check))
			return give(a, check, sizeof check);
		return rv == CKR_OK ? give(a, check, 0) : refuse(a, rv); /* a key of no cipher has none */
	}
	return real->C_GetAttributeValue(session, object, a, 1);
}

CK_RV wrap_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count)
{
	struct call call;
	CK_ATTRIBUTE *a = template;
	CK_RV rv = call_begin(&call, FN_C_GetAttributeValue, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		struct mark mark;
		bool marked;
		rv = is_marked(call.real, session, object, &mark, &marked);
		if (rv == CKR_OK && !marked)
			rv = call.real->C_GetAttributeValue(session, object, template, count);
		for (CK_ULONG i = 0; marked && a != NULL && i < count; i++) {
			CK_RV one = give_marked(call.real, session, object, &mark, &a[i]);
			rv = one != CKR_OK ? one : rv;
		}
	}
	return call_end(&call, rv);
}

/* What the mark keeps cannot be changed, nor copied with a change. */
CK_RV wrap_C_SetAttributeValue(CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count)
{
	struct call call;
	const CK_ATTRIBUTE *a = template;
	CK_RV rv = call_begin(&call, FN_C_SetAttributeValue, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		struct mark mark;
		bool marked;
		rv = is_marked(call.real, session, object, &mark, &marked);
		for (CK_ULONG i = 0; marked && a != NULL && i < count; i++)
			if (translated(a[i].type))
				rv = CKR_ATTRIBUTE_READ_ONLY;
		if (rv == CKR_OK)
			rv = call.real->C_SetAttributeValue(session, object, template, count);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_CopyObject(CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count, void *copy)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_CopyObject, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		struct mark mark;
		bool marked;
		rv = is_marked(call.real, session, object, &mark, &marked);
		if (rv == CKR_OK)
			rv = marked ? CKR_ACTION_PROHIBITED : call.real->C_CopyObject(session, object, template, count, copy);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_WrapKey(CK_SESSION_HANDLE session, void *mechanism, CK_ULONG wrapping, CK_ULONG key, void *out, void *out_len)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_WrapKey, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		struct mark mark;
		bool marked;
		rv = is_marked(call.real, session, key, &mark, &marked);
		if (rv == CKR_OBJECT_HANDLE_INVALID)
			rv = CKR_KEY_HANDLE_INVALID;
		if (rv == CKR_OK && marked && !mark.extractable)
			rv = CKR_KEY_UNEXTRACTABLE;
		if (rv == CKR_OK)
			rv = call.real->C_WrapKey(session, mechanism, wrapping, key, out, out_len);
	}
	return call_end(&call, rv);
}

/* SoftHSM would search its own attributes, which are not those that the keys are said to have. A search by class and label is all
 * that this project makes; one by what is translated is refused, rather than answered wrong. */
CK_RV wrap_C_FindObjectsInit(CK_SESSION_HANDLE session, void *template, CK_ULONG count)
{
	struct call call;
	const CK_ATTRIBUTE *a = template;
	CK_RV rv = call_begin(&call, FN_C_FindObjectsInit, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		for (CK_ULONG i = 0; vendor()->on && a != NULL && i < count; i++)
			if (translated(a[i].type))
				rv = CKR_ATTRIBUTE_TYPE_INVALID;
		if (rv == CKR_OK)
			rv = call.real->C_FindObjectsInit(session, template, count);
	}
	return call_end(&call, rv);
}
