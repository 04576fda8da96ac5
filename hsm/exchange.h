/*
 * An online transaction in one crossing: every PKCS#11 call of it, and of those that wait behind it, without a way back into Go between.
 *
 * Card and session keys exist in the token alone: here are their handles, on the C stack, until they are destroyed. What crosses is
 * public: card numbers, the padded texts of the two MACs, and the MACs themselves. The MAC that the card should have sent is on the
 * C stack for the comparison, and is overwritten after it.
 */
#ifndef PURSEKEEPER_EXCHANGE_H
#define PURSEKEEPER_EXCHANGE_H

#include "cryptoki.h"

enum {
	PK_INPUT = 24, /* the longest input of a derivation: L, R, L */
	PK_TEXT = 64,  /* the longest padded text of a MAC */
	PK_MAC = 4
};

/* How an exchange ended. */
enum {
	PK_WAITS,     /* nothing was computed */
	PK_ISSUED,    /* the card's MAC was right: issued has the other */
	PK_DIFFERENT, /* the card's MAC was compared and is wrong: no other was computed */
	PK_FAILED     /* a call of the token failed, or no more may be made */
};

/* The call that failed. */
enum { PK_AT_NONE, PK_AT_DERIVE, PK_AT_ENCRYPT, PK_AT_LENGTH, PK_AT_DESTROY, PK_AT_WRITTEN_OFF };

/* Flat, without a pointer: a slice of them is the caller's memory, written during the call alone. */
typedef struct {
	pk_ulong base, derive, cbc, key_type, block; /* key at the issuer levels; mechanisms; type of derived keys; bytes of a block */
	pk_ulong input_len, proof_len, issue_len;
	unsigned char card[PK_INPUT], session[PK_INPUT];
	unsigned char proof[PK_TEXT], issue[PK_TEXT];
	unsigned char got[PK_MAC], issued[PK_MAC];

	int state;      /* how it ended */
	int at;         /* the first call that failed, though the state may be PK_DIFFERENT */
	pk_ulong fault; /* what it returned; with PK_AT_LENGTH the bytes that it wrote */
} pk_exchange;

/*
 * pk_exchange_all answers the exchanges in order until one of them meets a fault, and returns how many it touched, at least the first.
 * After most nanoseconds it begins no other: between crossings alone is a session taken out of use.
 *
 * inside and start are the line of the session (session.go): start is what inside holds, and is kept up to date, so that the hang
 * limit is each call's own and a call that was written off is the last.
 */
pk_ulong pk_exchange_all(pk_list *list, pk_ulong session, int64_t *inside, int64_t *start, int64_t most, pk_exchange *x,
	pk_ulong n);

#endif
