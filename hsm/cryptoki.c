#include "cryptoki.h"

#include <dlfcn.h>
#include <stddef.h>

/* Places in the function list, counted from 0 (PKCS#11 v2.40, pkcs11f.h). */
enum {
	F_LOGIN = 18,
	F_CREATE_OBJECT = 20,
	F_DESTROY_OBJECT = 22,
	F_GET_ATTRIBUTE_VALUE = 24,
	F_ENCRYPT_INIT = 29,
	F_ENCRYPT = 30,
	F_DECRYPT_INIT = 33,
	F_DECRYPT = 34,
	F_SIGN_INIT = 42,
	F_SIGN = 43,
	F_GENERATE_KEY = 58,
	F_WRAP_KEY = 60,
	F_UNWRAP_KEY = 61,
	F_DERIVE_KEY = 62,
	F_GENERATE_RANDOM = 64
};

/* Numbers of PKCS#11 v2.40, pkcs11t.h. */
#define CKU_USER 1UL
#define CKO_SECRET_KEY 4UL
#define CKM_AES_GCM 0x1087UL
#define CKR_ATTRIBUTE_TYPE_INVALID 0x12UL
#define CKR_LIBRARY_LOAD_FAILED 0x1B7UL
#define CKA_CLASS 0x0UL
#define CKA_TOKEN 0x1UL
#define CKA_PRIVATE 0x2UL
#define CKA_LABEL 0x3UL
#define CKA_VALUE 0x11UL
#define CKA_KEY_TYPE 0x100UL
#define CKA_ID 0x102UL
#define CKA_SENSITIVE 0x103UL
#define CKA_ENCRYPT 0x104UL
#define CKA_DECRYPT 0x105UL
#define CKA_WRAP 0x106UL
#define CKA_UNWRAP 0x107UL
#define CKA_SIGN 0x108UL
#define CKA_VERIFY 0x10AUL
#define CKA_DERIVE 0x10CUL
#define CKA_VALUE_LEN 0x161UL
#define CKA_EXTRACTABLE 0x162UL
#define CKA_MODIFIABLE 0x170UL
#define CKA_COPYABLE 0x171UL

typedef struct {
	pk_ulong type;
	void *value;
	pk_ulong len;
} attribute;

typedef struct {
	pk_ulong mechanism;
	void *parameter;
	pk_ulong len;
} mechanism;

/* CK_KEY_DERIVATION_STRING_DATA */
typedef struct {
	const void *data;
	pk_ulong len;
} string_data;

/* CK_GCM_PARAMS */
typedef struct {
	const void *iv;
	pk_ulong iv_len;
	pk_ulong iv_bits;
	const void *aad;
	pk_ulong aad_len;
	pk_ulong tag_bits;
} gcm_params;

typedef pk_ulong (*get_list_f)(pk_list **);
typedef pk_ulong (*login_f)(pk_ulong, pk_ulong, void *, pk_ulong);
typedef pk_ulong (*create_f)(pk_ulong, attribute *, pk_ulong, pk_ulong *);
typedef pk_ulong (*destroy_f)(pk_ulong, pk_ulong);
typedef pk_ulong (*attributes_f)(pk_ulong, pk_ulong, attribute *, pk_ulong);
typedef pk_ulong (*init_f)(pk_ulong, mechanism *, pk_ulong);
typedef pk_ulong (*crypt_f)(pk_ulong, const void *, pk_ulong, void *, pk_ulong *);
typedef pk_ulong (*generate_f)(pk_ulong, mechanism *, attribute *, pk_ulong, pk_ulong *);
typedef pk_ulong (*wrap_f)(pk_ulong, mechanism *, pk_ulong, pk_ulong, void *, pk_ulong *);
typedef pk_ulong (*unwrap_f)(pk_ulong, mechanism *, pk_ulong, const void *, pk_ulong, attribute *, pk_ulong, pk_ulong *);
typedef pk_ulong (*random_f)(pk_ulong, void *, pk_ulong);
typedef pk_ulong (*derive_f)(pk_ulong, mechanism *, pk_ulong, attribute *, pk_ulong, pk_ulong *);

static unsigned char yes = 1, no = 0; /* read only: attributes take a pointer that is not const */
static pk_ulong secret_key = CKO_SECRET_KEY;

enum { TEMPLATE = 22 };

/* template_of writes the attributes of a secret key with exactly these rights, and returns how many. */
static pk_ulong template_of(attribute *t, pk_ulong *key_type, int rights, pk_ulong *value_len, const void *label,
	pk_ulong label_len, const void *id, pk_ulong id_len)
{
	pk_ulong n = 0;
#define FLAG(a, on) t[n++] = (attribute){(a), (on) ? &yes : &no, 1}
	t[n++] = (attribute){CKA_CLASS, &secret_key, sizeof secret_key};
	t[n++] = (attribute){CKA_KEY_TYPE, key_type, sizeof *key_type};
	FLAG(CKA_TOKEN, rights & PK_TOKEN);
	FLAG(CKA_PRIVATE, !(rights & PK_OPEN) || rights & PK_PRIVATE);
	FLAG(CKA_SENSITIVE, !(rights & PK_OPEN));
	FLAG(CKA_EXTRACTABLE, rights & (PK_OPEN | PK_ONCE));
	FLAG(CKA_ENCRYPT, rights & PK_ENCRYPT);
	FLAG(CKA_DECRYPT, rights & PK_DECRYPT);
	FLAG(CKA_DERIVE, rights & PK_DERIVE);
	FLAG(CKA_SIGN, rights & PK_SIGN);
	FLAG(CKA_VERIFY, 0);
	FLAG(CKA_WRAP, rights & PK_WRAP);
	FLAG(CKA_UNWRAP, rights & PK_UNWRAP);
	if (rights & PK_TOKEN && !(rights & PK_V220))
		FLAG(CKA_COPYABLE, 0);
	if (*value_len)
		t[n++] = (attribute){CKA_VALUE_LEN, value_len, sizeof *value_len};
	if (label_len)
		t[n++] = (attribute){CKA_LABEL, (void *)label, label_len};
	if (id_len)
		t[n++] = (attribute){CKA_ID, (void *)id, id_len};
	/* The last: SoftHSM takes no attribute after it when it unwraps. */
	if (rights & PK_TOKEN)
		FLAG(CKA_MODIFIABLE, 0);
#undef FLAG
	return n;
}

/* older says whether a token object was refused for an attribute that PKCS#11 v2.20 does not have: it is then made without. */
static int older(pk_ulong rv, int rights)
{
	return rv == CKR_ATTRIBUTE_TYPE_INVALID && rights & PK_TOKEN && !(rights & PK_V220);
}

/* pk_load finds the function list of a module that the binding has loaded already; it adds a reference, no second copy. */
pk_ulong pk_load(const char *path, pk_list **list)
{
	void *module = dlopen(path, RTLD_LAZY);
	if (!module)
		return CKR_LIBRARY_LOAD_FAILED;
	get_list_f get = (get_list_f)dlsym(module, "C_GetFunctionList");
	if (!get) {
		dlclose(module);
		return CKR_LIBRARY_LOAD_FAILED;
	}
	return get(list);
}

pk_ulong pk_login(pk_list *list, pk_ulong session, void *pin, pk_ulong pin_len)
{
	return ((login_f)list->function[F_LOGIN])(session, CKU_USER, pin, pin_len);
}

pk_ulong pk_derive(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong base, const void *data,
	pk_ulong data_len, pk_ulong key_type, pk_ulong value_len, int rights, pk_ulong *key)
{
	string_data input = {data, data_len}; /* on this stack: the token reads it during the call alone */
	mechanism m = {mechanism_type, &input, sizeof input};
	attribute t[TEMPLATE];
	pk_ulong n = template_of(t, &key_type, rights, &value_len, NULL, 0, NULL, 0);
	return ((derive_f)list->function[F_DERIVE_KEY])(session, &m, base, t, n, key);
}

pk_ulong pk_combine(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong base, pk_ulong other,
	pk_ulong key_type, int rights, pk_ulong *key)
{
	mechanism m = {mechanism_type, &other, sizeof other};
	attribute t[TEMPLATE];
	pk_ulong none = 0, n = template_of(t, &key_type, rights, &none, NULL, 0, NULL, 0);
	return ((derive_f)list->function[F_DERIVE_KEY])(session, &m, base, t, n, key);
}

pk_ulong pk_destroy(pk_list *list, pk_ulong session, pk_ulong object)
{
	return ((destroy_f)list->function[F_DESTROY_OBJECT])(session, object);
}

pk_ulong pk_encrypt(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong key, const void *iv,
	pk_ulong iv_len, const void *in, pk_ulong in_len, void *out, pk_ulong *out_len)
{
	mechanism m = {mechanism_type, (void *)iv, iv_len};
	pk_ulong rv = ((init_f)list->function[F_ENCRYPT_INIT])(session, &m, key);
	if (rv)
		return rv;
	return ((crypt_f)list->function[F_ENCRYPT])(session, in, in_len, out, out_len);
}

/* pk_sign computes a MAC of which nothing is a parameter. */
pk_ulong pk_sign(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong key, const void *in, pk_ulong in_len,
	void *out, pk_ulong *out_len)
{
	mechanism m = {mechanism_type, NULL, 0};
	pk_ulong rv = ((init_f)list->function[F_SIGN_INIT])(session, &m, key);
	if (rv)
		return rv;
	return ((crypt_f)list->function[F_SIGN])(session, in, in_len, out, out_len);
}

pk_ulong pk_gcm(pk_list *list, pk_ulong session, int decrypt, pk_ulong key, const void *iv, pk_ulong iv_len,
	const void *aad, pk_ulong aad_len, const void *in, pk_ulong in_len, void *out, pk_ulong *out_len)
{
	gcm_params p = {iv, iv_len, iv_len * 8, aad, aad_len, 128};
	mechanism m = {CKM_AES_GCM, &p, sizeof p};
	pk_ulong rv = ((init_f)list->function[decrypt ? F_DECRYPT_INIT : F_ENCRYPT_INIT])(session, &m, key);
	if (rv)
		return rv;
	return ((crypt_f)list->function[decrypt ? F_DECRYPT : F_ENCRYPT])(session, in, in_len, out, out_len);
}

pk_ulong pk_create(pk_list *list, pk_ulong session, pk_ulong key_type, int rights, const void *label,
	pk_ulong label_len, const void *id, pk_ulong id_len, const void *value, pk_ulong value_len, pk_ulong *key)
{
	attribute t[TEMPLATE];
	pk_ulong none = 0, n = template_of(t, &key_type, rights, &none, label, label_len, id, id_len);
	t[n++] = (attribute){CKA_VALUE, (void *)value, value_len};
	pk_ulong rv = ((create_f)list->function[F_CREATE_OBJECT])(session, t, n, key);
	if (older(rv, rights))
		return pk_create(list, session, key_type, rights | PK_V220, label, label_len, id, id_len, value, value_len, key);
	return rv;
}

pk_ulong pk_generate(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong value_len, pk_ulong key_type,
	int rights, const void *label, pk_ulong label_len, pk_ulong *key)
{
	mechanism m = {mechanism_type, NULL, 0};
	attribute t[TEMPLATE];
	pk_ulong n = template_of(t, &key_type, rights, &value_len, label, label_len, NULL, 0);
	pk_ulong rv = ((generate_f)list->function[F_GENERATE_KEY])(session, &m, t, n, key);
	if (older(rv, rights))
		return pk_generate(list, session, mechanism_type, value_len, key_type, rights | PK_V220, label, label_len, key);
	return rv;
}

pk_ulong pk_decrypt(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong key, const void *in, pk_ulong in_len,
	void *out, pk_ulong *out_len)
{
	mechanism m = {mechanism_type, NULL, 0};
	pk_ulong rv = ((init_f)list->function[F_DECRYPT_INIT])(session, &m, key);
	if (rv)
		return rv;
	return ((crypt_f)list->function[F_DECRYPT])(session, in, in_len, out, out_len);
}

pk_ulong pk_wrap(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong wrapping, pk_ulong key, void *out,
	pk_ulong *out_len)
{
	mechanism m = {mechanism_type, NULL, 0};
	return ((wrap_f)list->function[F_WRAP_KEY])(session, &m, wrapping, key, out, out_len);
}

pk_ulong pk_unwrap(pk_list *list, pk_ulong session, pk_ulong mechanism_type, pk_ulong unwrapping, const void *wrapped,
	pk_ulong wrapped_len, pk_ulong key_type, int rights, const void *label, pk_ulong label_len, const void *id,
	pk_ulong id_len, pk_ulong *key)
{
	mechanism m = {mechanism_type, NULL, 0};
	attribute t[TEMPLATE];
	pk_ulong none = 0, n = template_of(t, &key_type, rights, &none, label, label_len, id, id_len);
	pk_ulong rv = ((unwrap_f)list->function[F_UNWRAP_KEY])(session, &m, unwrapping, wrapped, wrapped_len, t, n, key);
	if (older(rv, rights))
		return pk_unwrap(list, session, mechanism_type, unwrapping, wrapped, wrapped_len, key_type, rights | PK_V220, label,
			label_len, id, id_len, key);
	return rv;
}

pk_ulong pk_random(pk_list *list, pk_ulong session, void *out, pk_ulong out_len)
{
	return ((random_f)list->function[F_GENERATE_RANDOM])(session, out, out_len);
}

pk_ulong pk_value(pk_list *list, pk_ulong session, pk_ulong object, void *out, pk_ulong *out_len)
{
	attribute t = {CKA_VALUE, out, *out_len};
	pk_ulong rv = ((attributes_f)list->function[F_GET_ATTRIBUTE_VALUE])(session, object, &t, 1);
	*out_len = t.len;
	return rv;
}
