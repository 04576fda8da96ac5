package purse

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// PIN is a personal identification number of 2 to 12 digits, packed two digits a byte. An odd number of digits is filled
// with F at the right; EPURSE.md gives an even one only, so the filling is by analogy with ISO 9564 [L].
//
// A PIN prints as "[redacted]" under every verb, in JSON and in slog, inside other values too; it leaves by Reveal. The
// zero value is no PIN.
type PIN struct{ memory *pinMemory }

// pinMemory is two pointers away from any value that holds a PIN, because fmt follows one when it dumps a field whose methods
// it may not call.
type pinMemory struct{ packed *packedPIN }

// packedPIN is the length in bytes, then the bytes.
type packedPIN [1 + pinMaxBytes]byte

func newPIN() PIN { return PIN{&pinMemory{new(packedPIN)}} }

const (
	pinField    = "pin"
	pinMinDigit = 2
	pinMaxDigit = 12
	pinMaxBytes = pinMaxDigit / 2
)

// ParsePIN reads 2 to 12 decimal digits. Its errors quote none of them.
func ParsePIN(digits string) (PIN, error) {
	if len(digits) < pinMinDigit || len(digits) > pinMaxDigit {
		return PIN{}, fieldErrorf(pinField, "wrong length, expected %d to %d digits", pinMinDigit, pinMaxDigit)
	}
	p := newPIN()
	packed := p.memory.packed
	packed[0] = byte((len(digits) + 1) / 2)
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			p.Wipe()
			return PIN{}, fieldErrorf(pinField, "a character is not a digit")
		}
		packed[1+i/2] |= (digits[i] - '0') << (4 * (1 - i%2))
	}
	if len(digits)%2 != 0 {
		packed[packed[0]] |= 0x0F
	}
	return p, nil
}

// ParsePackedPIN reads a PIN as a card receives it: 1 to 6 bytes of two digits each, F only as the last half byte.
func ParsePackedPIN(packed []byte) (PIN, error) {
	if len(packed) < 1 || len(packed) > pinMaxBytes {
		return PIN{}, fieldErrorf(pinField, "wrong length, expected 1 to %d bytes", pinMaxBytes)
	}
	for i, b := range packed {
		high, low := b>>4, b&0x0F
		filled := low == 0x0F && i == len(packed)-1 && i > 0
		if high > 9 || low > 9 && !filled {
			return PIN{}, fieldErrorf(pinField, "not packed digits")
		}
	}
	p := newPIN()
	p.memory.packed[0] = byte(copy(p.memory.packed[1:], packed))
	return p, nil
}

// Reveal returns the packed digits themselves, not a copy: they are gone after Wipe. why names the use, for the reader of
// the call.
func (p PIN) Reveal(why string) []byte {
	if why == "" {
		panic("purse: PIN revealed without a reason")
	}
	if p.memory == nil {
		return nil
	}
	return p.memory.packed[1 : 1+p.memory.packed[0]]
}

// Equal compares in constant time for PINs of one length.
func (p PIN) Equal(other PIN) bool {
	return subtle.ConstantTimeCompare(p.Reveal("to compare it"), other.Reveal("to compare it")) == 1
}

// Wipe zeroes the digits in every copy of p and makes p the empty PIN.
func (p *PIN) Wipe() {
	if p.memory != nil {
		clear(p.memory.packed[:])
		p.memory = nil
	}
}

// check refuses the zero PIN where a command is built.
func (p PIN) check() error {
	if len(p.Reveal("to see that there is one")) == 0 {
		return fieldErrorf(pinField, "missing")
	}
	return nil
}

// Format prints "[redacted]" under every verb and flag.
func (PIN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String is "[redacted]".
func (PIN) String() string { return redacted }

// MarshalText is "[redacted]".
func (PIN) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is "[redacted]".
func (PIN) LogValue() slog.Value { return slog.StringValue(redacted) }
