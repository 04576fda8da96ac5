/* call.h: what happens around every forwarded call. A wrapper is
 *
 *	struct call call;
 *	CK_RV rv = call_begin(&call, FN_C_Sign, KIND_SESSION, &session);
 *	if (rv == CKR_OK)
 *		rv = call.real->C_Sign(session, ...);
 *	return call_end(&call, rv);
 *
 * Two locks, of this process. The book is held for moments, and guards the count of calls inside, and the sessions. The
 * library lock is held while the real module runs: shared by most calls; alone by those that SoftHSM does not survive beside
 * others, which are C_Initialize, C_Finalize, the closing of sessions, and the loss of them. So a rule of the house that is
 * broken is counted, and the process lives to read the count. A call that waits for a rule's latency or hang is inside as
 * far as the counts go, but holds no lock. */
#ifndef PK_CALL_H
#define PK_CALL_H

#include "control.h"
#include "session.h"

enum kind {
	KIND_GLOBAL,
	KIND_SLOT,        /* of the token in a slot: CKR_TOKEN_NOT_PRESENT while it is away */
	KIND_SESSION,     /* CKR_DEVICE_REMOVED while it is away */
};

struct call {
	const CK_FUNCTION_LIST *real;
	struct control *control;
	unsigned fn;
	CK_SESSION_HANDLE handle;        /* the session as the caller knows it, or 0 */
	bool forwarded;                  /* the library lock is held */
	struct effect effect;
};

/* call_begin counts the call, spends its latency, and lets it through with CKR_OK and the library lock held; any other code
 * is the answer. *session, if not NULL, becomes the real module's handle. */
CK_RV call_begin(struct call *call, unsigned fn, enum kind kind, CK_SESSION_HANDLE *session);

/* call_end gives up what call_begin took, and returns the code to answer. */
CK_RV call_end(struct call *call, CK_RV rv);

/* call_setup maps the control file and loads the real module, unless the module is initialized already. */
CK_RV call_setup(void);

/* call_initialized notes, in the course of a C_Initialize or C_Finalize that succeeded, what the module is now. */
void call_initialized(bool initialized);

/* call_opened and call_closed note sessions, in the course of the call that opens or closes them. call_closed_slot notes that
 * the slot has none. */
CK_SESSION_HANDLE call_opened(CK_SLOT_ID slot, CK_SESSION_HANDLE real);
void call_closed(const struct call *call);
void call_closed_slot(CK_SLOT_ID slot);

/* call_operation reads the operation of the call's session, call_operate replaces it. A session that is gone has none. */
struct operation call_operation(const struct call *call);
void call_operate(const struct call *call, const struct operation *operation);

#endif
