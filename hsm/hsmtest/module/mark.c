/* mark.c: writing and reading marks. */
#include "mark.h"

#include <string.h>

static const CK_BYTE magic[8] = "PKMARK01";

static const CK_ATTRIBUTE *attribute(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type)
{
	for (CK_ULONG i = 0; i < count; i++)
		if (template[i].type == type)
			return &template[i];
	return NULL;
}

static bool ulong_of(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type, CK_ULONG *value)
{
	const CK_ATTRIBUTE *a = attribute(template, count, type);
	if (a == NULL || a->value == NULL || a->len != sizeof *value)
		return false;
	memcpy(value, a->value, sizeof *value);
	return true;
}

static CK_BBOOL flag_of(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type, CK_BBOOL absent)
{
	const CK_ATTRIBUTE *a = attribute(template, count, type);
	return a != NULL && a->value != NULL && a->len == 1 ? *(const CK_BBOOL *)a->value != 0 : absent;
}

bool marks(const CK_ATTRIBUTE *template, CK_ULONG count)
{
	CK_ULONG class, type;
	return vendor()->on && template != NULL && ulong_of(template, count, CKA_CLASS, &class) && class == CKO_SECRET_KEY &&
		ulong_of(template, count, CKA_KEY_TYPE, &type) &&
		(type == CKK_DES2 || type == CKK_DES3 || type == CKK_GENERIC_SECRET || vendor_is(vendor()->sm4_key_type, type));
}

bool translated(CK_ULONG attribute)
{
	switch (attribute) {
	case CKA_VALUE:
	case CKA_CHECK_VALUE:
	case CKA_KEY_TYPE:
	case CKA_ID:
	case CKA_SENSITIVE:
	case CKA_EXTRACTABLE:
	case CKA_ALWAYS_SENSITIVE:
	case CKA_NEVER_EXTRACTABLE:
		return true;
	}
	return false;
}

static void add(struct translation *t, CK_ULONG type, const void *value, CK_ULONG len)
{
	t->attributes[t->count++] = (CK_ATTRIBUTE){type, (void *)value, len};
}

CK_RV translate(struct translation *t, const CK_ATTRIBUTE *template, CK_ULONG count)
{
	static const CK_BBOOL yes = 1, no = 0;
	const CK_ATTRIBUTE *id = attribute(template, count, CKA_ID);
	CK_ULONG id_len = id != NULL && id->value != NULL ? id->len : 0;
	if (count > TEMPLATE_MAX - 8 || id_len > ID_MAX - MARK_SIZE)
		return CKR_TEMPLATE_INCONSISTENT;
	memset(t, 0, sizeof *t);
	memcpy(t->mark.magic, magic, sizeof magic);
	ulong_of(template, count, CKA_KEY_TYPE, &t->mark.type);
	t->mark.sensitive = flag_of(template, count, CKA_SENSITIVE, 1); /* SoftHSM's own defaults */
	t->mark.extractable = flag_of(template, count, CKA_EXTRACTABLE, 0);
	bool is_sm4 = vendor_is(vendor()->sm4_key_type, t->mark.type);
	t->type = is_sm4 ? CKK_GENERIC_SECRET : t->mark.type;
	bool has_len = ulong_of(template, count, CKA_VALUE_LEN, &t->value_len);
	CK_ULONG own = is_sm4 || t->type == CKK_DES2 ? 16 : t->type == CKK_DES3 ? 24 : 0;
	if (own != 0 && has_len && t->value_len != own)
		return CKR_TEMPLATE_INCONSISTENT;
	if (own != 0)
		t->value_len = own;
	add(t, CKA_KEY_TYPE, &t->type, sizeof t->type);
	add(t, CKA_SENSITIVE, &no, 1);
	add(t, CKA_EXTRACTABLE, &yes, 1);
	if (id_len > 0)
		memcpy(t->id + MARK_SIZE, id->value, id_len);
	add(t, CKA_ID, t->id, MARK_SIZE + id_len);
	/* The maker's own, in his order: SoftHSM takes nothing after CKA_MODIFIABLE when it unwraps. */
	for (CK_ULONG i = 0; i < count; i++)
		if (!translated(template[i].type) && template[i].type != CKA_VALUE_LEN)
			t->attributes[t->count++] = template[i];
	if (t->type == CKK_GENERIC_SECRET && t->value_len != 0)
		add(t, CKA_VALUE_LEN, &t->value_len, sizeof t->value_len);
	return CKR_OK;
}

CK_RV translate_value(struct translation *t, const CK_BYTE *value, CK_ULONG len)
{
	if (value == NULL || len == 0 || len > VALUE_MAX || (t->value_len != 0 && len != t->value_len))
		return CKR_ATTRIBUTE_VALUE_INVALID;
	if (t->attributes[t->count - 1].type == CKA_VALUE_LEN)
		t->count--;
	add(t, CKA_VALUE, value, len);
	return CKR_OK;
}

void translate_done(struct translation *t)
{
	CK_BYTE *at = t->id;
	memcpy(at, t->mark.magic, sizeof t->mark.magic);
	memcpy(at + 8, &t->mark.type, sizeof t->mark.type);
	at[16] = t->mark.sensitive;
	at[17] = t->mark.extractable;
	at[18] = t->mark.always_sensitive;
	at[19] = t->mark.never_extractable;
}

CK_RV is_marked(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, struct mark *mark, bool *found)
{
	CK_BYTE id[ID_MAX];
	CK_ATTRIBUTE a = {CKA_ID, id, sizeof id};
	*found = false;
	if (!vendor()->on)
		return CKR_OK;
	CK_RV rv = real->C_GetAttributeValue(session, object, &a, 1);
	if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_BUFFER_TOO_SMALL)
		return CKR_OK; /* no key, or none of this module's */
	if (rv != CKR_OK || a.len < MARK_SIZE || a.len > sizeof id || memcmp(id, magic, sizeof magic) != 0)
		return rv;
	memcpy(mark->magic, id, sizeof mark->magic);
	memcpy(&mark->type, id + 8, sizeof mark->type);
	mark->sensitive = id[16];
	mark->extractable = id[17];
	mark->always_sensitive = id[18];
	mark->never_extractable = id[19];
	*found = true;
	return CKR_OK;
}

CK_RV key_value(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, struct key *key)
{
	CK_ATTRIBUTE a = {CKA_VALUE, key->value, sizeof key->value};
	CK_RV rv = real->C_GetAttributeValue(session, object, &a, 1);
	key->len = a.len;
	return rv;
}

CK_RV key_read(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, CK_ULONG right, struct key *key)
{
	bool found;
	CK_BBOOL may = 0;
	CK_ATTRIBUTE a = {right, &may, sizeof may};
	CK_RV rv = is_marked(real, session, object, &key->mark, &found);
	if (rv == CKR_OBJECT_HANDLE_INVALID)
		return CKR_KEY_HANDLE_INVALID;
	if (rv != CKR_OK)
		return rv;
	if (!found)
		return CKR_KEY_TYPE_INCONSISTENT;
	rv = real->C_GetAttributeValue(session, object, &a, 1);
	if (rv != CKR_OK)
		return rv;
	if (!may)
		return CKR_KEY_FUNCTION_NOT_PERMITTED;
	return key_value(real, session, object, key);
}
