/* vendor.c: which mechanisms there are, and their cryptography. */
#include "vendor.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vendor current; /* written while the module is not initialized, and no call reads it */

bool vendor_read(void)
{
	struct vendor v = {0};
	CK_ULONG hardened = 0;
	char end = 0;
	const char *text = getenv("PURSEKEEPER_TEST_VENDOR");
	v.on = text != NULL && *text != 0;
	if (v.on && (sscanf(text, "%lx,%lx,%lx,%lx,%lx,%lx%c", &v.sm4_key_type, &v.sm4_ecb, &v.sm4_cbc, &v.sm4_derive, &v.xor_keys,
			&hardened, &end) != 6 || hardened > 1)) {
		fprintf(stderr, "pkcs11-fault: PURSEKEEPER_TEST_VENDOR=%s: expected six numbers in hex\n", text);
		return false;
	}
	v.hardened = hardened;
	current = v;
	return true;
}

const struct vendor *vendor(void)
{
	return &current;
}

bool vendor_is(CK_ULONG number, CK_ULONG asked)
{
	return current.on && number != 0 && number == asked;
}

static bool encrypt(const EVP_CIPHER *cipher, const CK_BYTE *key, const CK_BYTE *iv, const CK_BYTE *in, CK_ULONG len, CK_BYTE *out)
{
	int n = 0;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool ok = ctx != NULL && EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) == 1 && EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
		EVP_EncryptUpdate(ctx, out, &n, in, (int)len) == 1 && (CK_ULONG)n == len;
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

bool sm4(const CK_BYTE key[SM4_BLOCK], const CK_BYTE *iv, const CK_BYTE *in, CK_ULONG len, CK_BYTE *out)
{
	return encrypt(iv != NULL ? EVP_sm4_cbc() : EVP_sm4_ecb(), key, iv, in, len, out);
}

bool check_value(CK_ULONG type, const CK_BYTE *value, CK_ULONG len, CK_BYTE out[3])
{
	static const CK_BYTE zeros[SM4_BLOCK];
	CK_BYTE block[SM4_BLOCK];
	bool ok = false;
	if (vendor_is(current.sm4_key_type, type) && len == 16)
		ok = sm4(value, NULL, zeros, SM4_BLOCK, block);
	else if (type == CKK_DES2 && len == 16)
		ok = encrypt(EVP_des_ede_ecb(), value, NULL, zeros, 8, block);
	else if (type == CKK_DES3 && len == 24)
		ok = encrypt(EVP_des_ede3_ecb(), value, NULL, zeros, 8, block);
	if (ok)
		memcpy(out, block, 3);
	return ok;
}
