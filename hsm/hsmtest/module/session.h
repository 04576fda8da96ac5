/* session.h: the sessions of this process. The caller gets handles of the module's own, never used twice, so that a lost
 * session's handle stays invalid whatever handles the real module deals out next. Every function wants the lock of call.c. */
#ifndef PK_SESSION_H
#define PK_SESSION_H

#include <stdbool.h>

#include "functions.h"

/* operation is an SM4 encryption between C_EncryptInit and C_Encrypt. It holds a test key in the clear, as all here does. */
struct operation {
	bool active;
	bool cbc;
	CK_BYTE key[16];
	CK_BYTE iv[16];
};

struct session {
	CK_SESSION_HANDLE handle;        /* what the caller has */
	CK_SESSION_HANDLE real;          /* what the real module gave */
	CK_SLOT_ID slot;
	unsigned busy;                   /* calls on it now */
	struct operation operation;
	struct session *next;
};

/* session_add returns the new session's handle, 0 when there is no memory. */
CK_SESSION_HANDLE session_add(CK_SLOT_ID slot, CK_SESSION_HANDLE real);

/* session_find returns NULL for a handle that is none, or none any more. */
struct session *session_find(CK_SESSION_HANDLE handle);

void session_remove(CK_SESSION_HANDLE handle);
void session_remove_slot(CK_SLOT_ID slot);

/* session_any returns some session, NULL when there is none. */
struct session *session_any(void);

#endif
