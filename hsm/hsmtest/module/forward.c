/* forward.c: the function list, and the wrappers that only forward. */
#include "call.h"
#include "real.h"

#define WRAP_GLOBAL(name, params, args) WRAP(name, params, args, KIND_GLOBAL, NULL)
#define WRAP_SLOT(name, params, args) WRAP(name, params, args, KIND_SLOT, NULL)
#define WRAP_SESSION(name, params, args) WRAP(name, params, args, KIND_SESSION, &session)
#define WRAP_SPECIAL(name, params, args) CK_RV wrap_##name params;

#define WRAP(name, params, args, kind, session_at)                              \
	static CK_RV wrap_##name params                                      \
	{                                                                       \
		struct call call;                                               \
		CK_RV rv = call_begin(&call, FN_##name, kind, session_at);      \
		if (rv == CKR_OK)                                               \
			rv = call.real->name args;                              \
		return call_end(&call, rv);                                     \
	}

#define DEFINE(kind, name, params, args) WRAP_##kind(name, params, args)
PK_FUNCTIONS(DEFINE)

#define LIST(kind, name, params, args) .name = wrap_##name,
const CK_FUNCTION_LIST real_own = {.version = {2, 40}, PK_FUNCTIONS(LIST)};

/* The one symbol that the module exports. Loading code calls it before C_Initialize, so it knows no rules and is not counted. */
__attribute__((visibility("default"))) CK_RV C_GetFunctionList(void *list)
{
	return wrap_C_GetFunctionList(list);
}
