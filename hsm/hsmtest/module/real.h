/* real.h: the module that calls are forwarded to. */
#ifndef PK_REAL_H
#define PK_REAL_H

#include "functions.h"

/* real_load loads the module that PURSEKEEPER_FAULT_FORWARD names and returns its functions; NULL and a line on stderr when
 * it cannot. A module stays loaded to the end of the process: unloading a crypto library under a live process is a crash of
 * its own. The caller holds the set-up lock. */
const CK_FUNCTION_LIST *real_load(void);

/* real_own is this module's own list, made in forward.c. */
extern const CK_FUNCTION_LIST real_own;

#endif
