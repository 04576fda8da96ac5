/* functions.h: the 68 functions of PKCS#11 v2.40, in the order of CK_FUNCTION_LIST. This table is the only list of them: the
 * module's function list, its wrappers and its numbers are made of it, and the Go side reads the numbers from it (the first
 * row is 1; 0 stands for every function).
 *
 * A row is X(kind, name, parameters, arguments). SESSION: the first parameter is a session. SLOT: it is a slot. GLOBAL:
 * neither. The wrappers of these three are generated in forward.c; a SPECIAL function has a hand-written one, in special.c, or in
 * object.c and key.c where it takes part in the mechanisms that a vendor adds, and that is where a function goes that learns to
 * do more than forward. */
#ifndef PK_FUNCTIONS_H
#define PK_FUNCTIONS_H

#include "cryptoki.h"

#define PK_FUNCTIONS(X) \
	X(SPECIAL, C_Initialize, (void *args), (args)) \
	X(SPECIAL, C_Finalize, (void *reserved), (reserved)) \
	X(GLOBAL, C_GetInfo, (void *info), (info)) \
	X(SPECIAL, C_GetFunctionList, (void *list), (list)) \
	X(SPECIAL, C_GetSlotList, (CK_BBOOL present, void *slots, void *count), (present, slots, count)) \
	X(SPECIAL, C_GetSlotInfo, (CK_SLOT_ID slot, void *info), (slot, info)) \
	X(SLOT, C_GetTokenInfo, (CK_SLOT_ID slot, void *info), (slot, info)) \
	X(SLOT, C_GetMechanismList, (CK_SLOT_ID slot, void *list, void *count), (slot, list, count)) \
	X(SLOT, C_GetMechanismInfo, (CK_SLOT_ID slot, CK_ULONG type, void *info), (slot, type, info)) \
	X(SLOT, C_InitToken, (CK_SLOT_ID slot, void *pin, CK_ULONG pin_len, void *label), (slot, pin, pin_len, label)) \
	X(SESSION, C_InitPIN, (CK_SESSION_HANDLE session, void *pin, CK_ULONG pin_len), (session, pin, pin_len)) \
	X(SESSION, C_SetPIN, (CK_SESSION_HANDLE session, void *old, CK_ULONG old_len, void *new, CK_ULONG new_len), \
		(session, old, old_len, new, new_len)) \
	X(SPECIAL, C_OpenSession, (CK_SLOT_ID slot, CK_ULONG flags, void *application, void *notify, void *opened), \
		(slot, flags, application, notify, opened)) \
	X(SPECIAL, C_CloseSession, (CK_SESSION_HANDLE session), (session)) \
	X(SPECIAL, C_CloseAllSessions, (CK_SLOT_ID slot), (slot)) \
	X(SESSION, C_GetSessionInfo, (CK_SESSION_HANDLE session, void *info), (session, info)) \
	X(SESSION, C_GetOperationState, (CK_SESSION_HANDLE session, void *state, void *state_len), (session, state, state_len)) \
	X(SESSION, C_SetOperationState, (CK_SESSION_HANDLE session, void *state, CK_ULONG state_len, \
		CK_ULONG encryption_key, CK_ULONG authentication_key), \
		(session, state, state_len, encryption_key, authentication_key)) \
	X(SPECIAL, C_Login, (CK_SESSION_HANDLE session, CK_ULONG user, void *pin, CK_ULONG pin_len), (session, user, \
		pin, pin_len)) \
	X(SESSION, C_Logout, (CK_SESSION_HANDLE session), (session)) \
	X(SPECIAL, C_CreateObject, (CK_SESSION_HANDLE session, void *template, CK_ULONG count, void *object), \
		(session, template, count, object)) \
	X(SPECIAL, C_CopyObject, (CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count, void *copy), \
		(session, object, template, count, copy)) \
	X(SESSION, C_DestroyObject, (CK_SESSION_HANDLE session, CK_ULONG object), (session, object)) \
	X(SESSION, C_GetObjectSize, (CK_SESSION_HANDLE session, CK_ULONG object, void *size), (session, object, size)) \
	X(SPECIAL, C_GetAttributeValue, (CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count), \
		(session, object, template, count)) \
	X(SPECIAL, C_SetAttributeValue, (CK_SESSION_HANDLE session, CK_ULONG object, void *template, CK_ULONG count), \
		(session, object, template, count)) \
	X(SPECIAL, C_FindObjectsInit, (CK_SESSION_HANDLE session, void *template, CK_ULONG count), (session, template, count)) \
	X(SESSION, C_FindObjects, (CK_SESSION_HANDLE session, void *objects, CK_ULONG max, void *count), \
		(session, objects, max, count)) \
	X(SESSION, C_FindObjectsFinal, (CK_SESSION_HANDLE session), (session)) \
	X(SPECIAL, C_EncryptInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SPECIAL, C_Encrypt, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_EncryptUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_EncryptFinal, (CK_SESSION_HANDLE session, void *out, void *out_len), (session, out, out_len)) \
	X(SESSION, C_DecryptInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SESSION, C_Decrypt, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DecryptUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DecryptFinal, (CK_SESSION_HANDLE session, void *out, void *out_len), (session, out, out_len)) \
	X(SESSION, C_DigestInit, (CK_SESSION_HANDLE session, void *mechanism), (session, mechanism)) \
	X(SESSION, C_Digest, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DigestUpdate, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len), (session, data, data_len)) \
	X(SESSION, C_DigestKey, (CK_SESSION_HANDLE session, CK_ULONG key), (session, key)) \
	X(SESSION, C_DigestFinal, (CK_SESSION_HANDLE session, void *out, void *out_len), (session, out, out_len)) \
	X(SESSION, C_SignInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SESSION, C_Sign, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_SignUpdate, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len), (session, data, data_len)) \
	X(SESSION, C_SignFinal, (CK_SESSION_HANDLE session, void *out, void *out_len), (session, out, out_len)) \
	X(SESSION, C_SignRecoverInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SESSION, C_SignRecover, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_VerifyInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SESSION, C_Verify, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len, void *signature, CK_ULONG signature_len), \
		(session, data, data_len, signature, signature_len)) \
	X(SESSION, C_VerifyUpdate, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len), (session, data, data_len)) \
	X(SESSION, C_VerifyFinal, (CK_SESSION_HANDLE session, void *signature, CK_ULONG signature_len), \
		(session, signature, signature_len)) \
	X(SESSION, C_VerifyRecoverInit, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG key), (session, mechanism, key)) \
	X(SESSION, C_VerifyRecover, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DigestEncryptUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DecryptDigestUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_SignEncryptUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SESSION, C_DecryptVerifyUpdate, (CK_SESSION_HANDLE session, void *in, CK_ULONG in_len, void *out, void *out_len), \
		(session, in, in_len, out, out_len)) \
	X(SPECIAL, C_GenerateKey, (CK_SESSION_HANDLE session, void *mechanism, void *template, CK_ULONG count, void *key), \
		(session, mechanism, template, count, key)) \
	X(SESSION, C_GenerateKeyPair, (CK_SESSION_HANDLE session, void *mechanism, void *public, \
		CK_ULONG public_count, void *private, CK_ULONG private_count, void *public_key, void *private_key), \
		(session, mechanism, public, public_count, private, private_count, public_key, private_key)) \
	X(SPECIAL, C_WrapKey, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG wrapping, CK_ULONG key, void *out, \
		void *out_len), \
		(session, mechanism, wrapping, key, out, out_len)) \
	X(SPECIAL, C_UnwrapKey, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG unwrapping, void *wrapped, \
		CK_ULONG wrapped_len, void *template, CK_ULONG count, void *key), \
		(session, mechanism, unwrapping, wrapped, wrapped_len, template, count, key)) \
	X(SPECIAL, C_DeriveKey, (CK_SESSION_HANDLE session, void *mechanism, CK_ULONG base, void *template, \
		CK_ULONG count, void *key), \
		(session, mechanism, base, template, count, key)) \
	X(SESSION, C_SeedRandom, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len), (session, data, data_len)) \
	X(SESSION, C_GenerateRandom, (CK_SESSION_HANDLE session, void *data, CK_ULONG data_len), (session, data, data_len)) \
	X(SESSION, C_GetFunctionStatus, (CK_SESSION_HANDLE session), (session)) \
	X(SESSION, C_CancelFunction, (CK_SESSION_HANDLE session), (session)) \
	X(GLOBAL, C_WaitForSlotEvent, (CK_ULONG flags, void *slot, void *reserved), (flags, slot, reserved))

/* FN_C_Sign and its like: the number of each function. */
enum {
	FN_EVERY = 0,
#define PK_NUMBER(kind, name, params, args) FN_##name,
	PK_FUNCTIONS(PK_NUMBER)
#undef PK_NUMBER
	FN_COUNT
};

/* CK_FUNCTION_LIST of version 2.40. */
typedef struct {
	CK_VERSION version;
#define PK_MEMBER(kind, name, params, args) CK_RV(*name) params;
	PK_FUNCTIONS(PK_MEMBER)
#undef PK_MEMBER
} CK_FUNCTION_LIST;

#endif
