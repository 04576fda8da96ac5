#include "exchange.h"

#include <string.h>
#include <time.h>

/* A session's line while it is here: what Go does around each call with enter and leave. */
typedef struct {
	int64_t *inside;
	int64_t start;  /* what inside holds, unless the watcher wrote the call off */
	int64_t offset; /* of Go's clock from this one */
} line;

static int64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* next leaves a call and enters another. It is 0 when the former was written off: no other may be made. */
static int next(line *l)
{
	int64_t was = l->start, now = monotonic() + l->offset;
	if (!__atomic_compare_exchange_n(l->inside, &was, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return 0;
	l->start = now;
	return 1;
}

/* failed notes the first fault alone. */
static int failed(pk_exchange *x, int at, pk_ulong fault)
{
	if (x->at == PK_AT_NONE) {
		x->at = at;
		x->fault = fault;
	}
	return 0;
}

static int derive(pk_list *list, line *l, pk_ulong session, pk_exchange *x, pk_ulong base, const unsigned char *input, int rights,
	pk_ulong *key)
{
	if (!next(l))
		return failed(x, PK_AT_WRITTEN_OFF, 0);
	pk_ulong rv = pk_derive(list, session, x->derive, base, input, x->input_len, x->key_type, 0, rights, key);
	return rv ? failed(x, PK_AT_DERIVE, rv) : 1;
}

/* wipe overwrites what no later line reads, and is not left out for that. */
static void wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
}

static int mac_of(pk_list *list, line *l, pk_ulong session, pk_exchange *x, pk_ulong key, const unsigned char *text, pk_ulong len,
	unsigned char *mac)
{
	static const unsigned char zeros[16];
	unsigned char chain[PK_TEXT];
	pk_ulong wrote = len;
	if (!next(l))
		return failed(x, PK_AT_WRITTEN_OFF, 0);
	pk_ulong rv = pk_encrypt(list, session, x->cbc, key, zeros, x->block, text, len, chain, &wrote);
	if (!rv && wrote == len)
		memcpy(mac, chain + len - x->block, PK_MAC);
	wipe(chain, sizeof chain);
	if (rv)
		return failed(x, PK_AT_ENCRYPT, rv);
	return wrote == len ? 1 : failed(x, PK_AT_LENGTH, wrote);
}

static void destroy(pk_list *list, line *l, pk_ulong session, pk_exchange *x, pk_ulong key)
{
	if (!next(l)) {
		failed(x, PK_AT_WRITTEN_OFF, 0);
		return;
	}
	pk_ulong rv = pk_destroy(list, session, key);
	if (rv)
		failed(x, PK_AT_DESTROY, rv);
}

/* different compares in time that does not depend on the bytes. */
static int different(const unsigned char *a, const unsigned char *b)
{
	volatile unsigned char bits = 0;
	for (int i = 0; i < PK_MAC; i++)
		bits |= a[i] ^ b[i];
	return bits != 0;
}

/* compute is what the session key does: the card's MAC first, and only when it is right the other. A wrong one costs as much, over zeros,
 * so that an answer which is the same for both does not come sooner for one. */
static void compute(pk_list *list, line *l, pk_ulong session, pk_exchange *x, pk_ulong key)
{
	unsigned char want[PK_MAC];
	if (!mac_of(list, l, session, x, key, x->proof, x->proof_len, want))
		return;
	int wrong = different(want, x->got);
	wipe(want, sizeof want);
	if (wrong) {
		static const unsigned char nothing[PK_TEXT];
		x->state = PK_DIFFERENT; /* whatever becomes of the rest: that was found */
		if (mac_of(list, l, session, x, key, nothing, x->issue_len, want))
			wipe(want, sizeof want);
	} else if (mac_of(list, l, session, x, key, x->issue, x->issue_len, x->issued))
		x->state = PK_ISSUED;
}

/* answer destroys what it derives before it returns, the youngest first, whatever else failed. */
static void answer(pk_list *list, line *l, pk_ulong session, pk_exchange *x)
{
	pk_ulong card, key;
	x->state = PK_FAILED;
	if (!derive(list, l, session, x, x->base, x->card, PK_DERIVE, &card))
		return;
	if (derive(list, l, session, x, card, x->session, PK_ENCRYPT, &key)) {
		compute(list, l, session, x, key);
		destroy(list, l, session, x, key);
	}
	destroy(list, l, session, x, card);
	if (x->at != PK_AT_NONE && x->state == PK_ISSUED) {
		memset(x->issued, 0, sizeof x->issued);
		x->state = PK_FAILED;
	}
}

pk_ulong pk_exchange_all(pk_list *list, pk_ulong session, int64_t *inside, int64_t *start, int64_t most, pk_exchange *x,
	pk_ulong n)
{
	line l = {inside, *start, *start - monotonic()};
	pk_ulong i = 0;
	while (i < n) {
		answer(list, &l, session, &x[i]);
		if (x[i++].at != PK_AT_NONE || l.start - *start > most)
			break;
	}
	*start = l.start;
	return i;
}
