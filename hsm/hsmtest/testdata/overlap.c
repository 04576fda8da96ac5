/* overlap.c: a PKCS#11 module for the tests of the fault module, to be put behind it. It does no cryptography: C_GenerateRandom takes
 * a while, and it and the calls that SoftHSM does not survive beside it fail when they meet. */
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "functions.h"

#define CKR_FUNCTION_FAILED 0x00000006UL
#define WHILE_IN_MICROSECONDS 100000

static atomic_uint inside, disturbed;

static CK_RV disturb(void)
{
	disturbed++;
	return inside == 0 ? CKR_OK : CKR_FUNCTION_FAILED;
}

static CK_RV initialize(void *args)
{
	(void)args;
	return CKR_OK;
}

static CK_RV finalize(void *reserved)
{
	(void)reserved;
	return disturb();
}

static CK_RV open_session(CK_SLOT_ID slot, CK_ULONG flags, void *application, void *notify, void *opened)
{
	static CK_SESSION_HANDLE last;
	(void)slot, (void)flags, (void)application, (void)notify;
	*(CK_SESSION_HANDLE *)opened = ++last;
	return CKR_OK;
}

static CK_RV close_session(CK_SESSION_HANDLE session)
{
	(void)session;
	return disturb();
}

static CK_RV close_all_sessions(CK_SLOT_ID slot)
{
	(void)slot;
	return disturb();
}

static CK_RV generate_random(CK_SESSION_HANDLE session, void *data, CK_ULONG data_len)
{
	(void)session, (void)data, (void)data_len;
	unsigned before = disturbed;
	inside++;
	usleep(WHILE_IN_MICROSECONDS);
	inside--;
	return disturbed == before ? CKR_OK : CKR_FUNCTION_FAILED;
}

static const CK_FUNCTION_LIST list = {
	.version = {2, 40},
	.C_Initialize = initialize,
	.C_Finalize = finalize,
	.C_OpenSession = open_session,
	.C_CloseSession = close_session,
	.C_CloseAllSessions = close_all_sessions,
	.C_GenerateRandom = generate_random,
};

CK_RV C_GetFunctionList(const CK_FUNCTION_LIST **at);

CK_RV C_GetFunctionList(const CK_FUNCTION_LIST **at)
{
	*at = &list;
	return CKR_OK;
}
