/*
 * The PKCS#11 calls that touch key bytes, the PIN, or the hot path, made through the module's own function list.
 *
 * The binding copies every buffer that it passes into C heap memory, which it frees without zeroing. That is right for
 * labels and wrong for keys. Here the caller's locked memory is passed as it is, and the structures that PKCS#11 wants
 * around it live on the C stack, so that nothing of a key is left behind. One crossing does C_EncryptInit and C_Encrypt.
 */
#ifndef PURSEKEEPER_CRYPTOKI_H
#define PURSEKEEPER_CRYPTOKI_H

#include <stdint.h>

typedef unsigned long pk_ulong; /* CK_ULONG */

/* CK_FUNCTION_LIST of PKCS#11 v2.40: a version, then 68 functions in the order of the standard. */
typedef struct {
	unsigned char major, minor;
	void *function[68];
} pk_list;

/* What a secret-key object may do. Every right that is not named is refused in the template. */
enum {
	PK_ENCRYPT = 1,
	PK_DECRYPT = 2,
	PK_DERIVE = 4,
	PK_SIGN = 1024, /* CMAC */
	PK_TOKEN = 8, /* a token object, not modifiable and not copyable; without it, an object of the session */
	PK_OPEN = 16, /* not sensitive, extractable, not private: check values and the extraction that Exposure tries, nothing else */
	PK_PRIVATE = 32, /* with PK_OPEN: private all the same */
	PK_WRAP = 128,
	PK_UNWRAP = 256,
	PK_ONCE = 512, /* extractable, though sensitive and private: the first object of a master, which lives for one job */
	PK_V220 = 64 /* of cryptoki.c alone: a token object on a token of PKCS#11 v2.20, which does not know CKA_COPYABLE */
};

pk_ulong pk_load(const char *path, pk_list **list);
pk_ulong pk_login(pk_list *list, pk_ulong session, void *pin, pk_ulong pin_len);
pk_ulong pk_derive(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong base, const void *data,
	pk_ulong data_len, pk_ulong key_type, pk_ulong value_len, int rights, pk_ulong *key);
pk_ulong pk_combine(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong base, pk_ulong other,
	pk_ulong key_type, int rights, pk_ulong *key);
pk_ulong pk_destroy(pk_list *list, pk_ulong session, pk_ulong object);
pk_ulong pk_encrypt(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong key, const void *iv, pk_ulong iv_len,
	const void *in, pk_ulong in_len, void *out, pk_ulong *out_len);
pk_ulong pk_sign(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong key, const void *in, pk_ulong in_len,
	void *out, pk_ulong *out_len);
pk_ulong pk_gcm(pk_list *list, pk_ulong session, int decrypt, pk_ulong key, const void *iv, pk_ulong iv_len,
	const void *aad, pk_ulong aad_len, const void *in, pk_ulong in_len, void *out, pk_ulong *out_len);
pk_ulong pk_create(pk_list *list, pk_ulong session, pk_ulong key_type, int rights, const void *label,
	pk_ulong label_len, const void *id, pk_ulong id_len, const void *value, pk_ulong value_len, pk_ulong *key);
pk_ulong pk_generate(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong value_len, pk_ulong key_type,
	int rights, const void *label, pk_ulong label_len, pk_ulong *key);
pk_ulong pk_decrypt(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong key, const void *in, pk_ulong in_len,
	void *out, pk_ulong *out_len);
pk_ulong pk_wrap(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong wrapping, pk_ulong key, void *out,
	pk_ulong *out_len);
pk_ulong pk_unwrap(pk_list *list, pk_ulong session, pk_ulong mechanism, pk_ulong unwrapping, const void *wrapped,
	pk_ulong wrapped_len, pk_ulong key_type, int rights, const void *label, pk_ulong label_len, const void *id,
	pk_ulong id_len, pk_ulong *key);
pk_ulong pk_random(pk_list *list, pk_ulong session, void *out, pk_ulong out_len);
pk_ulong pk_value(pk_list *list, pk_ulong session, pk_ulong object, void *out, pk_ulong *out_len);

#endif
