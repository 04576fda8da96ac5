/* control.h: the file by which a test and the module talk, mapped shared by both, so that it works within one process and
 * between two. It is an array of 64-bit words in the machine's byte order, each read and written atomically; the Go side has
 * the same numbers in control.go.
 *
 *	word  0      magic, "PKFAULT1"
 *	word  1      the number of words
 *	word  2      losses asked for: when it rises, every session is lost
 *	word  3      the token is away until this time, in nanoseconds of CLOCK_MONOTONIC; all ones: until it is set back
 *	word  4      releases: when it rises, the calls that hang go on
 *	word  5      calls that hang now
 *	word  6      C_Finalize met another call inside the library
 *	word  7      C_CloseSession or C_CloseAllSessions met another call inside the library
 *	word  8      a session was used by two calls at once
 *	word  9      C_Login was answered by a code that refuses the PIN
 *	word 10      the most calls that were inside the library at once, of one process
 *	word 11      losses carried out by a module
 *	word 12..15  free
 *	word 16..87  calls, by function number
 *	word 88..    rules, by function number, 8 words each
 *
 * A rule:
 *
 *	word 0  sequence: odd while the test writes the rule; the module reads again until it found one even number
 *	word 1  the function's calls when the rule was set: call n of the rule is call base+n of the function
 *	word 2  first call that it is for, from 1
 *	word 3  last call that it is for; 0: no last
 *	word 4  flags, below
 *	word 5  the CKR code to answer
 *	word 6  latency in nanoseconds
 *	word 7  hang in nanoseconds; all ones: until released
 */
#ifndef PK_CONTROL_H
#define PK_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "functions.h"

#define CONTROL_MAGIC 0x31544c5541464b50ULL
#define CONTROL_FUNCTIONS 72
#define CONTROL_FOREVER UINT64_MAX

enum {
	RULE_SET = 1 << 0,        /* the rule is in force */
	RULE_ANSWER = 1 << 1,     /* answer the code */
	RULE_AFTER = 1 << 2,      /* forward first: the token does the work, and its answer or its sessions are lost after */
	RULE_LOSE = 1 << 3,       /* lose every session */
};

struct rule {
	_Atomic uint64_t sequence, base, from, to, flags, code, latency, hang;
};

struct control {
	_Atomic uint64_t magic, words;
	_Atomic uint64_t losses_asked, away_until, releases, hanging;
	_Atomic uint64_t finalize_busy, close_busy, session_shared, pin_refused, max_in_flight, losses_done;
	_Atomic uint64_t spare[4];
	_Atomic uint64_t calls[CONTROL_FUNCTIONS];
	struct rule rules[CONTROL_FUNCTIONS];
};

_Static_assert(sizeof(_Atomic uint64_t) == 8, "a word is eight bytes");
_Static_assert(offsetof(struct control, calls) == 16 * 8, "calls are at word 16");
_Static_assert(offsetof(struct control, rules) == 88 * 8, "rules are at word 88");
_Static_assert(sizeof(struct rule) == 8 * 8, "a rule has eight words");
_Static_assert(FN_COUNT <= CONTROL_FUNCTIONS, "every function has a row");

/* effect is what the rules want of one call. */
struct effect {
	uint64_t latency;        /* nanoseconds */
	uint64_t hang;           /* nanoseconds, or CONTROL_FOREVER */
	bool answer;             /* answer code */
	bool answer_after;       /* once the call has been forwarded */
	CK_RV code;
	bool lose_before, lose_after;
};

/* control_open maps the file that PURSEKEEPER_FAULT_CONTROL names; NULL and a line on stderr when it cannot. A mapping is
 * never taken back: a call that hangs may still look at it. The caller holds the module's set-up lock. */
struct control *control_open(void);

/* control_count counts a call of fn and returns what the rules want of it. */
struct effect control_count(struct control *c, unsigned fn);

/* control_away tells whether the token is away now. */
bool control_away(struct control *c);

/* control_sleep and control_hang spend the time of a rule. seen is c->releases from before the rule was read. */
void control_sleep(uint64_t nanoseconds);
void control_hang(struct control *c, uint64_t nanoseconds, uint64_t seen);

/* control_raise lifts a maximum. */
void control_raise(_Atomic uint64_t *maximum, uint64_t value);

#endif
