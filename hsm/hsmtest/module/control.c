/* control.c: reading the control file. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ULL
#define HANG_POLL 1000000ULL

static struct control *complain(const char *path, const char *why)
{
	fprintf(stderr, "pkcs11-fault: PURSEKEEPER_FAULT_CONTROL=%s: %s\n", path ? path : "", why);
	return NULL;
}

static struct control *map(int fd, const char *path)
{
	static struct control *mapped;
	static dev_t device;
	static ino_t inode;
	struct stat info;
	if (fstat(fd, &info) != 0)
		return complain(path, strerror(errno));
	if (mapped != NULL && info.st_dev == device && info.st_ino == inode)
		return mapped;
	if ((size_t)info.st_size < sizeof(struct control))
		return complain(path, "too short");
	void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return complain(path, strerror(errno));
	struct control *c = memory;
	if (c->magic != CONTROL_MAGIC || c->words != sizeof(struct control) / 8) {
		munmap(memory, sizeof(struct control));
		return complain(path, "not a control file of this module");
	}
	mapped = c;
	device = info.st_dev;
	inode = info.st_ino;
	return c;
}

struct control *control_open(void)
{
	const char *path = getenv("PURSEKEEPER_FAULT_CONTROL");
	if (path == NULL)
		return complain(path, "not set");
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return complain(path, strerror(errno));
	struct control *c = map(fd, path);
	close(fd);
	return c;
}

/* read_rule adds what the rule wants of the function's call number n. An answer that is there already stays. */
static void read_rule(struct rule *r, uint64_t n, struct effect *e)
{
	uint64_t before, base, from, to, flags, code, latency, hang;
	for (;;) {
		before = r->sequence;
		base = r->base;
		from = r->from;
		to = r->to;
		flags = r->flags;
		code = r->code;
		latency = r->latency;
		hang = r->hang;
		if (before % 2 == 0 && r->sequence == before)
			break;
		sched_yield();
	}
	if (!(flags & RULE_SET) || n <= base || n - base < from || (to != 0 && n - base > to))
		return;
	bool after = flags & RULE_AFTER;
	e->latency += latency;
	if (hang > e->hang)
		e->hang = hang;
	if ((flags & RULE_ANSWER) && !e->answer) {
		e->answer = true;
		e->answer_after = after;
		e->code = code;
	}
	if (flags & RULE_LOSE) {
		e->lose_before |= !after;
		e->lose_after |= after;
	}
}

struct effect control_count(struct control *c, unsigned fn)
{
	struct effect e = {0};
	uint64_t of_function = atomic_fetch_add(&c->calls[fn], 1) + 1;
	uint64_t of_all = atomic_fetch_add(&c->calls[FN_EVERY], 1) + 1;
	read_rule(&c->rules[fn], of_function, &e);
	read_rule(&c->rules[FN_EVERY], of_all, &e);
	return e;
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

bool control_away(struct control *c)
{
	uint64_t until = c->away_until;
	return until != 0 && (until == CONTROL_FOREVER || now() < until);
}

/* The sleep is to a point in time: signals, of which the Go runtime sends many, do not make it longer or shorter. */
void control_sleep(uint64_t nanoseconds)
{
	if (nanoseconds == 0)
		return;
	uint64_t end = now() + nanoseconds;
	struct timespec until = {.tv_sec = (time_t)(end / SECOND), .tv_nsec = (long)(end % SECOND)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

void control_hang(struct control *c, uint64_t nanoseconds, uint64_t seen)
{
	if (nanoseconds == 0)
		return;
	uint64_t start = now();
	atomic_fetch_add(&c->hanging, 1);
	while (c->releases == seen && (nanoseconds == CONTROL_FOREVER || now() - start < nanoseconds))
		control_sleep(HANG_POLL);
	atomic_fetch_sub(&c->hanging, 1);
}

void control_raise(_Atomic uint64_t *maximum, uint64_t value)
{
	uint64_t old = *maximum;
	while (old < value && !atomic_compare_exchange_weak(maximum, &old, value))
		;
}
