/* call.c: counts, rules, sessions and locks around a call. */
#include "call.h"

#include <pthread.h>
#include <stdatomic.h>

#include "real.h"
#include "vendor.h"

static pthread_mutex_t book = PTHREAD_MUTEX_INITIALIZER;
static unsigned in_flight, finalizing, closing;

/* Writers first, or a busy signer would put off the loss of its sessions for ever. No call takes the lock twice. */
static pthread_rwlock_t library = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static uint64_t losses_seen;        /* guarded by library */

static pthread_mutex_t setup = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool initialized;
static struct control *_Atomic control;
static const CK_FUNCTION_LIST *_Atomic real;

static bool closes(unsigned fn)
{
	return fn == FN_C_CloseSession || fn == FN_C_CloseAllSessions;
}

static bool alone(unsigned fn)
{
	return fn == FN_C_Initialize || fn == FN_C_Finalize || closes(fn);
}

/* enter counts the call in, and what it meets: each pair of calls that should not meet is counted once, by the later. */
static void enter(struct call *call)
{
	struct control *c = call->control;
	pthread_mutex_lock(&book);
	if (call->fn == FN_C_Finalize ? in_flight > 0 : finalizing > 0)
		c->finalize_busy++;
	if (closes(call->fn) ? in_flight > 0 : closing > 0)
		c->close_busy++;
	in_flight++;
	finalizing += call->fn == FN_C_Finalize;
	closing += closes(call->fn);
	struct session *s = session_find(call->handle);
	if (s != NULL && s->busy++ > 0)
		c->session_shared++;
	control_raise(&c->max_in_flight, in_flight);
	pthread_mutex_unlock(&book);
}

static void leave(const struct call *call)
{
	pthread_mutex_lock(&book);
	in_flight--;
	finalizing -= call->fn == FN_C_Finalize;
	closing -= closes(call->fn);
	struct session *s = session_find(call->handle);
	if (s != NULL)
		s->busy--;
	pthread_mutex_unlock(&book);
}

/* lose carries out a loss that was asked for: the real module closes the sessions, and with them go the login and the session
 * objects, as when a token starts anew. The library lock is held alone. */
static void lose(uint64_t asked)
{
	losses_seen = asked;
	pthread_mutex_lock(&book);
	for (struct session *s = session_any(); s != NULL; s = session_any()) {
		CK_SLOT_ID slot = s->slot;
		real->C_CloseAllSessions(slot);
		session_remove_slot(slot);
	}
	pthread_mutex_unlock(&book);
	control->losses_done++;
}

/* lock_library takes the library lock, alone or shared, with every loss that was asked for carried out. */
static void lock_library(unsigned fn)
{
	for (;;) {
		if (alone(fn))
			pthread_rwlock_wrlock(&library);
		else
			pthread_rwlock_rdlock(&library);
		if (!initialized || control->losses_asked == losses_seen)
			return;
		pthread_rwlock_unlock(&library);

		pthread_rwlock_wrlock(&library);
		uint64_t asked = control->losses_asked;
		if (initialized && asked != losses_seen)
			lose(asked);
		pthread_rwlock_unlock(&library);
	}
}

static CK_RV translate(CK_SESSION_HANDLE *session)
{
	pthread_mutex_lock(&book);
	struct session *s = session_find(*session);
	if (s != NULL)
		*session = s->real;
	pthread_mutex_unlock(&book);
	return s != NULL ? CKR_OK : CKR_SESSION_HANDLE_INVALID;
}

/* admit decides, with the library lock held, whether the real module is to see the call. A call that hung while the module was
 * finalized, and initialized for another test, belongs to neither. */
static CK_RV admit(struct call *call, enum kind kind, CK_SESSION_HANDLE *session)
{
	if (call->control != control || (!initialized && call->fn != FN_C_Initialize))
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	call->real = real;
	if (kind != KIND_GLOBAL && control_away(call->control))
		return kind == KIND_SLOT ? CKR_TOKEN_NOT_PRESENT : CKR_DEVICE_REMOVED;
	return session != NULL ? translate(session) : CKR_OK;
}

CK_RV call_begin(struct call *call, unsigned fn, enum kind kind, CK_SESSION_HANDLE *session)
{
	*call = (struct call){.control = control, .fn = fn, .handle = session != NULL ? *session : 0};
	if (call->control == NULL)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	enter(call);
	uint64_t releases = call->control->releases;
	call->effect = control_count(call->control, fn);
	control_sleep(call->effect.latency);
	control_hang(call->control, call->effect.hang, releases);
	if (call->effect.lose_before)
		call->control->losses_asked++;
	if (call->effect.answer && !call->effect.answer_after)
		return call->effect.code;
	lock_library(fn);
	CK_RV rv = admit(call, kind, session);
	call->forwarded = rv == CKR_OK;
	if (!call->forwarded)
		pthread_rwlock_unlock(&library);
	return rv;
}

CK_RV call_end(struct call *call, CK_RV rv)
{
	if (call->control == NULL)
		return rv;
	if (call->forwarded) {
		pthread_rwlock_unlock(&library);
		if (call->effect.lose_after)
			call->control->losses_asked++;
		if (call->effect.answer)
			rv = call->effect.code;
	}
	leave(call);
	return rv;
}

CK_RV call_setup(void)
{
	CK_RV rv = CKR_OK;
	pthread_mutex_lock(&setup);
	if (!initialized) {
		struct control *c = control_open();
		const CK_FUNCTION_LIST *functions = real_load();
		if (c != NULL && functions != NULL && vendor_read()) {
			control = c;
			real = functions;
		} else {
			rv = CKR_GENERAL_ERROR;
		}
	}
	pthread_mutex_unlock(&setup);
	return rv;
}

void call_initialized(bool now)
{
	pthread_mutex_lock(&book);
	for (struct session *s = session_any(); s != NULL; s = session_any())
		session_remove_slot(s->slot);
	pthread_mutex_unlock(&book);
	losses_seen = control->losses_asked;
	initialized = now;
}

CK_SESSION_HANDLE call_opened(CK_SLOT_ID slot, CK_SESSION_HANDLE handle)
{
	pthread_mutex_lock(&book);
	CK_SESSION_HANDLE opened = session_add(slot, handle);
	pthread_mutex_unlock(&book);
	return opened;
}

void call_closed(const struct call *call)
{
	pthread_mutex_lock(&book);
	session_remove(call->handle);
	pthread_mutex_unlock(&book);
}

void call_closed_slot(CK_SLOT_ID slot)
{
	pthread_mutex_lock(&book);
	session_remove_slot(slot);
	pthread_mutex_unlock(&book);
}

struct operation call_operation(const struct call *call)
{
	struct operation operation = {0};
	pthread_mutex_lock(&book);
	struct session *s = session_find(call->handle);
	if (s != NULL)
		operation = s->operation;
	pthread_mutex_unlock(&book);
	return operation;
}

void call_operate(const struct call *call, const struct operation *operation)
{
	pthread_mutex_lock(&book);
	struct session *s = session_find(call->handle);
	if (s != NULL)
		s->operation = *operation;
	pthread_mutex_unlock(&book);
}
