// Package shamir splits a secret key into n shares, of which any m make it again and any m-1 say nothing of it (A. Shamir, "How to share a
// secret", 1979), byte for byte over GF(2⁸).
//
//	Split: secret ─▶ n shares ─Encode▶ n texts, one for each custodian
//	Parse: text ─▶ share;   m shares ─Combine▶ secret
//
// A share says which split it is of, and a checksum in it tells a mistyped one from a right one. Before it is split, the secret gets
// a tag, which is split with it: shares that make something else than the secret, because one was forged, are found out.
//
// The arithmetic takes the same time for every value. Secrets, shares and what is computed on the way lie in locked memory, but for the one
// block that SHA-256 is working on, which is in ordinary Go memory until it is overwritten.
package shamir

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Bounds. A secret that is shorter than a key could be guessed, one that is longer is no key.
const (
	minSecret, maxSecret = 16, 64
	minThreshold         = 2
	maxCount             = 255

	// tagSize is that of the tag: the first bytes of SHA-256 over "pursekeeper secret 1", a zero byte, set | threshold | count, and the secret.
	tagSize   = 8
	tagDomain = "pursekeeper secret 1\x00"
)

// What callers tell apart with errors.Is.
var (
	// ErrForm: the text is no share, or one of a form that this package does not know.
	ErrForm = errors.New("share: not a share")
	// ErrChecksum: the text is not as it was written; it was mistyped, or something of it is missing.
	ErrChecksum = errors.New("share: the checksum is wrong: it was not typed as it was written")
	// ErrTooFew: there are fewer shares than the threshold.
	ErrTooFew = errors.New("shares: too few")
	// ErrDuplicate: one share is there twice.
	ErrDuplicate = errors.New("shares: one of them is there twice")
	// ErrOtherSet: a share is of another split.
	ErrOtherSet = errors.New("shares: one of them is of another split")
	// ErrForged: the shares are of one split by their word, and make no secret that was split: one of them is forged.
	ErrForged = errors.New("shares: they make no secret that was split: one of them is forged")
)

func checkNumbers(threshold, count, size int) error {
	switch {
	case count > maxCount:
		return fmt.Errorf("%d shares, expected at most %d", count, maxCount)
	case threshold < minThreshold || threshold > count:
		return fmt.Errorf("threshold %d of %d shares, expected %d to the number of shares", threshold, count, minThreshold)
	case size < minSecret || size > maxSecret:
		return fmt.Errorf("secret of %d bytes, expected %d to %d", size, minSecret, maxSecret)
	}
	return nil
}

// Split makes count shares of a secret of 16 to 64 bytes, any threshold of which make it again: 2 ≤ threshold ≤ count ≤ 255. random gives
// the coefficients, all of the secrecy there is; one that gives a single value all along is refused. key stays the caller's, who wipes it,
// and wipes the shares.
func Split(random io.Reader, key secret.Bytes, threshold, count int) ([]Share, error) {
	if err := checkNumbers(threshold, count, key.Len()); err != nil {
		return nil, fmt.Errorf("split: %w", err)
	}
	var id SetID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return nil, fmt.Errorf("split: random bytes: %w", err)
	}
	width := key.Len() + tagSize
	polynomials := secret.New(threshold * width) // rows of coefficients, to the end of this function
	defer polynomials.Wipe()
	rows := polynomials.Reveal("to make the shares of them")
	n := copy(rows, key.Reveal("to split it"))
	tag := tagOf(id, threshold, count, rows[:n])
	copy(rows[n:], tag[:])
	if _, err := io.ReadFull(random, rows[width:]); err != nil {
		return nil, fmt.Errorf("split: random bytes: %w", err)
	}
	if constant(rows[width:]) {
		return nil, errors.New("split: random bytes: they are all the same")
	}
	shares := make([]Share, count)
	for i := range shares {
		shares[i] = Share{Set: id, Threshold: threshold, Count: count, Index: i + 1, value: secret.New(width)}
		evaluate(byte(i+1), rows, shares[i].value.Reveal("to compute the share"))
	}
	return shares, nil
}

// Combine makes the secret of at least the threshold of its shares, in any order. It looks at their words first: ErrOtherSet,
// ErrDuplicate, ErrTooFew; what they make is compared with its tag: ErrForged. shares stay the caller's; who wipes them and the secret.
func Combine(shares []Share) (secret.Bytes, error) {
	if len(shares) == 0 {
		return secret.Bytes{}, fmt.Errorf("%w: none", ErrTooFew)
	}
	first := &shares[0]
	points := make([]byte, len(shares))
	seen := map[int]bool{}
	for i := range shares {
		s := &shares[i]
		if err := checkNumbers(s.Threshold, s.Count, s.value.Len()-tagSize); err != nil || s.Index < 1 || s.Index > s.Count {
			return secret.Bytes{}, fmt.Errorf("%w: %v", ErrForm, s)
		}
		if s.Set != first.Set || s.Threshold != first.Threshold || s.Count != first.Count || s.value.Len() != first.value.Len() {
			return secret.Bytes{}, fmt.Errorf("%w: %v, and %v", ErrOtherSet, first, s)
		}
		if seen[s.Index] {
			return secret.Bytes{}, fmt.Errorf("%w: %v", ErrDuplicate, s)
		}
		seen[s.Index] = true
		points[i] = byte(s.Index)
	}
	if len(shares) < first.Threshold {
		return secret.Bytes{}, fmt.Errorf("%w: %d of set %v, expected %d", ErrTooFew, len(shares), first.Set, first.Threshold)
	}
	whole := secret.New(first.value.Len()) // secret | tag, to the end of this function
	defer whole.Wipe()
	interpolate(points, shares, whole.Reveal("to combine shares into it"))
	made := whole.Reveal("to compare the tag")
	key, tag := made[:len(made)-tagSize], made[len(made)-tagSize:]
	if want := tagOf(first.Set, first.Threshold, first.Count, key); subtle.ConstantTimeCompare(want[:], tag) != 1 {
		return secret.Bytes{}, fmt.Errorf("%w: set %v", ErrForged, first.Set)
	}
	return secret.Copy(key), nil
}

// interpolate writes p(0) for every byte.
func interpolate(points []byte, shares []Share, out []byte) {
	clear(out)
	for i := range shares {
		w := weight(points, i)
		for at, y := range shares[i].value.Reveal("to combine it") {
			out[at] ^= mul(w, y)
		}
	}
}

func tagOf(id SetID, threshold, count int, key []byte) (tag [tagSize]byte) {
	h := sha256.New()
	h.Write([]byte(tagDomain))
	h.Write(append(id[:], byte(threshold), byte(count)))
	h.Write(key)
	copy(tag[:], h.Sum(nil))
	return tag
}

// constant says whether all bytes are one: of a broken source, never of a right one.
func constant(b []byte) bool {
	difference := byte(0)
	for _, c := range b {
		difference |= c ^ b[0]
	}
	return difference == 0
}
