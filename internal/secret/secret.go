// Package secret holds bytes that must not be seen: keys, PINs, passwords.
//
// A [Bytes] prints as "[redacted]" under every verb, in JSON and in slog; it compares in constant time; it lies outside the
// Go heap, in pages that are locked against swapping and left out of core dumps; and it is zeroed by Wipe. The bytes leave
// by one method, [Bytes.Reveal], whose every call says why.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"unsafe"
)

const redacted = "[redacted]"

// Bytes is a secret. The zero value is the empty secret. Copies share one memory: wipe it once, when the last is done with.
// A Bytes may be read by several goroutines, but Wipe must not race with a read.
//
// It holds an address, not a slice: in an unexported field of another struct fmt cannot call Format, and prints what it finds.
type Bytes struct {
	at   unsafe.Pointer // in locked memory outside the Go heap; nil for the empty secret
	n    int
	room int // of the slot or the mapping that n is in
}

// mem is the bytes.
func (b Bytes) mem() []byte { return unsafe.Slice((*byte)(b.at), b.n) }

// New returns n zero bytes of locked memory, for a caller that fills them through Reveal. It panics when the operating
// system refuses to lock memory: a process must learn that from Available at its start, not in the middle of a payment.
func New(n int) Bytes {
	if n == 0 {
		return Bytes{}
	}
	mem, err := take(n)
	if err != nil {
		panic("secret: " + err.Error())
	}
	return Bytes{at: unsafe.Pointer(unsafe.SliceData(mem)), n: len(mem), room: cap(mem)}
}

// Take moves src into a new secret and zeroes src.
func Take(src []byte) Bytes {
	b := New(len(src))
	copy(b.mem(), src)
	clear(src)
	return b
}

// Copy makes a secret of bytes that the caller goes on owning.
func Copy(src []byte) Bytes {
	b := New(len(src))
	copy(b.mem(), src)
	return b
}

// Reveal returns the bytes themselves, not a copy: they are gone after Wipe. why names the use, for the reader of the call.
func (b Bytes) Reveal(why string) []byte {
	if why == "" {
		panic("secret: revealed without a reason")
	}
	return b.mem()
}

// Len is the length in bytes.
func (b Bytes) Len() int { return b.n }

// Equal compares in constant time for secrets of one length.
func (b Bytes) Equal(other Bytes) bool { return subtle.ConstantTimeCompare(b.mem(), other.mem()) == 1 }

// Wipe zeroes the bytes and gives their memory back. Every copy of b is invalid afterwards; b itself becomes empty, so a
// second Wipe of the same variable does nothing.
func (b *Bytes) Wipe() {
	if b.at == nil {
		return
	}
	give(unsafe.Slice((*byte)(b.at), b.room))
	*b = Bytes{}
}

// Format prints "[redacted]" under every verb and flag.
func (Bytes) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String is "[redacted]".
func (Bytes) String() string { return redacted }

// MarshalText is "[redacted]", for JSON, YAML and XML alike.
func (Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is "[redacted]".
func (Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }
