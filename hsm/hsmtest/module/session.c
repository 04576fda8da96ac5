/* session.c: a hash table of sessions. */
#include "session.h"

#include <stdlib.h>

#define BUCKETS 64

static struct session *table[BUCKETS];

/* The first handle is far from the small numbers that a real module deals out: a handle that was not translated shows. */
static CK_SESSION_HANDLE last = 0x5e550000;

CK_SESSION_HANDLE session_add(CK_SLOT_ID slot, CK_SESSION_HANDLE real)
{
	struct session *s = calloc(1, sizeof *s);
	if (s == NULL)
		return 0;
	s->handle = ++last;
	s->real = real;
	s->slot = slot;
	s->next = table[s->handle % BUCKETS];
	table[s->handle % BUCKETS] = s;
	return s->handle;
}

struct session *session_find(CK_SESSION_HANDLE handle)
{
	struct session *s = table[handle % BUCKETS];
	while (s != NULL && s->handle != handle)
		s = s->next;
	return s;
}

static void unlink_at(struct session **at)
{
	struct session *s = *at;
	*at = s->next;
	free(s);
}

void session_remove(CK_SESSION_HANDLE handle)
{
	for (struct session **at = &table[handle % BUCKETS]; *at != NULL; at = &(*at)->next) {
		if ((*at)->handle == handle) {
			unlink_at(at);
			return;
		}
	}
}

void session_remove_slot(CK_SLOT_ID slot)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct session **at = &table[i];
		while (*at != NULL) {
			if ((*at)->slot == slot)
				unlink_at(at);
			else
				at = &(*at)->next;
		}
	}
}

struct session *session_any(void)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		if (table[i] != NULL)
			return table[i];
	return NULL;
}
