/* special.c: the functions that do more than forward. */
#include <string.h>

#include "call.h"
#include "real.h"

CK_RV wrap_C_GetFunctionList(void *list)
{
	if (list == NULL)
		return CKR_ARGUMENTS_BAD;
	const CK_FUNCTION_LIST *own = &real_own;
	memcpy(list, &own, sizeof own);
	return CKR_OK;
}

CK_RV wrap_C_Initialize(void *args)
{
	CK_RV rv = call_setup();
	if (rv != CKR_OK)
		return rv;
	struct call call;
	rv = call_begin(&call, FN_C_Initialize, KIND_GLOBAL, NULL);
	if (rv == CKR_OK) {
		rv = call.real->C_Initialize(args);
		if (rv == CKR_OK)
			call_initialized(true);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_Finalize(void *reserved)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_Finalize, KIND_GLOBAL, NULL);
	if (rv == CKR_OK) {
		rv = call.real->C_Finalize(reserved);
		if (rv == CKR_OK)
			call_initialized(false);
	}
	return call_end(&call, rv);
}

/* While the token is away its slot is there, and empty. The control file knows one token, the only one behind a test's
 * module: every slot is empty. */
CK_RV wrap_C_GetSlotList(CK_BBOOL present, void *slots, void *count)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_GetSlotList, KIND_GLOBAL, NULL);
	if (rv == CKR_OK) {
		if (present && count != NULL && control_away(call.control))
			*(CK_ULONG *)count = 0;
		else
			rv = call.real->C_GetSlotList(present, slots, count);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_GetSlotInfo(CK_SLOT_ID slot, void *info)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_GetSlotInfo, KIND_GLOBAL, NULL);
	if (rv == CKR_OK) {
		rv = call.real->C_GetSlotInfo(slot, info);
		if (rv == CKR_OK && control_away(call.control))
			((CK_SLOT_INFO *)info)->flags &= ~CKF_TOKEN_PRESENT;
	}
	return call_end(&call, rv);
}

/* The caller's notification is not passed on: it would be called with the real module's handle. */
CK_RV wrap_C_OpenSession(CK_SLOT_ID slot, CK_ULONG flags, void *application, void *notify, void *opened)
{
	(void)application;
	(void)notify;
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_OpenSession, KIND_SLOT, NULL);
	if (rv == CKR_OK) {
		CK_SESSION_HANDLE real = 0;
		rv = call.real->C_OpenSession(slot, flags, NULL, NULL, opened != NULL ? &real : NULL);
		if (rv == CKR_OK)
			*(CK_SESSION_HANDLE *)opened = call_opened(slot, real);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_CloseSession(CK_SESSION_HANDLE session)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_CloseSession, KIND_SESSION, &session);
	if (rv == CKR_OK) {
		rv = call.real->C_CloseSession(session);
		if (rv == CKR_OK)
			call_closed(&call);
	}
	return call_end(&call, rv);
}

CK_RV wrap_C_CloseAllSessions(CK_SLOT_ID slot)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_CloseAllSessions, KIND_SLOT, NULL);
	if (rv == CKR_OK) {
		rv = call.real->C_CloseAllSessions(slot);
		if (rv == CKR_OK)
			call_closed_slot(slot);
	}
	return call_end(&call, rv);
}

/* A refusal counts whether the token or a rule gave it: the caller cannot tell, and must not try again in either case. */
CK_RV wrap_C_Login(CK_SESSION_HANDLE session, CK_ULONG user, void *pin, CK_ULONG pin_len)
{
	struct call call;
	CK_RV rv = call_begin(&call, FN_C_Login, KIND_SESSION, &session);
	if (rv == CKR_OK)
		rv = call.real->C_Login(session, user, pin, pin_len);
	rv = call_end(&call, rv);
	if (call.control != NULL && (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE || rv == CKR_PIN_LOCKED))
		call.control->pin_refused++;
	return rv;
}
