/* real.c: loading the real module. */
#include "real.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const CK_FUNCTION_LIST *complain(const char *path, const char *why)
{
	fprintf(stderr, "pkcs11-fault: PURSEKEEPER_FAULT_FORWARD=%s: %s\n", path ? path : "", why);
	return NULL;
}

const CK_FUNCTION_LIST *real_load(void)
{
	const char *path = getenv("PURSEKEEPER_FAULT_FORWARD");
	if (path == NULL)
		return complain(path, "not set");
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (library == NULL)
		return complain(path, dlerror());
	void *symbol = dlsym(library, "C_GetFunctionList");
	if (symbol == NULL)
		return complain(path, dlerror());
	CK_RV (*list)(const CK_FUNCTION_LIST **);
	memcpy(&list, &symbol, sizeof list);        /* ISO C has no cast from an object pointer to a function */
	const CK_FUNCTION_LIST *functions = NULL;
	if (list(&functions) != CKR_OK || functions == NULL)
		return complain(path, "C_GetFunctionList fails");
	if (functions == &real_own)
		return complain(path, "is this module itself");
	if (functions->version.major != 2)
		return complain(path, "its function list is not of version 2");
	return functions;
}
