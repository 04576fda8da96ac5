/* vendor.h: the mechanisms that a vendor would add, and SoftHSM lacks: SM4, and the XOR of two keys. A test asks for them by
 * PURSEKEEPER_TEST_VENDOR, six numbers in hex with commas between:
 *
 *	SM4's key type, SM4_ECB, SM4_CBC, SM4_ECB_ENCRYPT_DATA, XOR_BASE_AND_KEY, hardened
 *
 * A number 0 leaves its mechanism out; hardened is 1 for a token that derives nothing readable from a sensitive key, else 0. Not
 * set, the module adds nothing, and every object is SoftHSM's own.
 *
 * The cryptography is OpenSSL's. The keys are objects of the SoftHSM token, and live and die with it; but what SoftHSM computes
 * with, this module must be able to read. So SoftHSM holds them readable, and this module says of them, and enforces, what was
 * asked for (mark.h). That protects nothing from whoever has SoftHSM's library: a token for tests, and test keys alone. */
#ifndef PK_VENDOR_H
#define PK_VENDOR_H

#include <stdbool.h>

#include "cryptoki.h"

struct vendor {
	bool on;
	bool hardened;
	CK_ULONG sm4_key_type;
	CK_ULONG sm4_ecb;
	CK_ULONG sm4_cbc;
	CK_ULONG sm4_derive;
	CK_ULONG xor_keys;
};

enum { SM4_BLOCK = 16, VALUE_MAX = 64 };

/* vendor_read reads the variable, in the course of a C_Initialize; false and a line on stderr when it is malformed. */
bool vendor_read(void);

const struct vendor *vendor(void);

/* vendor_is reports whether a number is that of a mechanism or type that the vendor has. */
bool vendor_is(CK_ULONG number, CK_ULONG asked);

/* sm4 encrypts a whole number of blocks; iv is NULL for ECB. It reports success. */
bool sm4(const CK_BYTE key[SM4_BLOCK], const CK_BYTE *iv, const CK_BYTE *in, CK_ULONG len, CK_BYTE *out);

/* check_value is the leftmost three bytes of the encryption of zeros under a key of the type: SM4, DES2 or DES3. It reports
 * whether the type has one. */
bool check_value(CK_ULONG type, const CK_BYTE *value, CK_ULONG len, CK_BYTE out[3]);

#endif
