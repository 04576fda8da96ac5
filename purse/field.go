package purse

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// FieldError says which field of a request or an answer is malformed, where, and what was expected. It quotes single
// characters of public fields only; a PIN is never quoted.
type FieldError struct {
	Field   string // the name that the caller of the API knows, such as "initializeResponse"
	Offset  int    // the character at fault, counted from 1 with the spaces; 0 when it is the whole field
	Problem string
}

// Error is "field: problem" or "field: character 7: problem".
func (e *FieldError) Error() string {
	if e.Offset > 0 {
		return fmt.Sprintf("%s: character %d: %s", e.Field, e.Offset, e.Problem)
	}
	return e.Field + ": " + e.Problem
}

func fieldErrorf(field, format string, args ...any) *FieldError {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// ParseHex reads the size bytes of a field written as hex digits: either case, spaces allowed anywhere.
func ParseHex(field, text string, size int) ([]byte, error) {
	if len(text) == 2*size { // as it nearly always is: millions of TACs are read so
		b := make([]byte, size)
		if _, err := hex.Decode(b, []byte(text)); err == nil {
			return b, nil
		}
	}
	b, err := ParseHexRange(field, text, 0, -1)
	if err != nil {
		return nil, err
	}
	return b, wantLen(field, b, size)
}

// ParseHexRange is ParseHex for a field of least to most bytes; a negative most is no upper bound.
func ParseHexRange(field, text string, least, most int) ([]byte, error) {
	digits, err := hexDigits(field, text)
	if err != nil {
		return nil, err
	}
	if len(digits)%2 != 0 {
		return nil, fieldErrorf(field, "%d hex digits, expected an even number", len(digits))
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fieldErrorf(field, "not hex digits")
	}
	if len(b) < least || most >= 0 && len(b) > most {
		return nil, fieldErrorf(field, "%d bytes, expected %d to %d", len(b), least, most)
	}
	return b, nil
}

// hexDigits returns the digits of text without its spaces, or an error that names the first character that is neither.
func hexDigits(field, text string) (string, error) {
	digits := make([]byte, 0, len(text))
	position := 0
	for _, c := range text {
		position++
		switch {
		case c == ' ':
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			digits = append(digits, byte(c))
		default:
			return "", &FieldError{Field: field, Offset: position, Problem: fmt.Sprintf("%q is not a hex digit", c)}
		}
	}
	return string(digits), nil
}

// wantLen refuses a field that is not exactly size bytes.
func wantLen(field string, b []byte, size int) error {
	if len(b) != size {
		return fieldErrorf(field, "%d bytes, expected %d", len(b), size)
	}
	return nil
}

// ParseMAC reads the four bytes of a MAC or TAC; field is the name that an error shows.
func ParseMAC(field, text string) (m MAC, err error) {
	b, err := ParseHex(field, text, len(m))
	if err != nil {
		return m, err
	}
	return MAC(b), nil
}

const (
	serialField  = "cardSerial"
	serialDigits = 20
	issuerField  = "issuerId"
)

// ParseCardSerial reads an application serial number of 1 to 20 hex digits and returns the card's canonical 8-byte
// diversification factor: the rightmost 16 digits, left-padded with zero digits (EPURSE.md §2).
//
// Spaces, case and leading zeros make no difference, so that one card has one factor however its number is written.
func ParseCardSerial(text string) (factor [8]byte, err error) {
	if len(text) == 2*len(factor) {
		if _, err := hex.Decode(factor[:], []byte(text)); err == nil {
			return factor, nil
		}
		factor = [8]byte{}
	}
	digits, err := hexDigits(serialField, text)
	if err != nil {
		return factor, err
	}
	if len(digits) < 1 || len(digits) > serialDigits {
		return factor, fieldErrorf(serialField, "%d hex digits, expected 1 to %d", len(digits), serialDigits)
	}
	digits = strings.Repeat("0", serialDigits) + digits
	return [8]byte(mustHex(digits[len(digits)-16:])), nil
}

// ParseIssuerID reads a card's issuer id as the 8-byte diversification factor that it is (EPURSE.md §9): exactly 16 hex
// digits, because no source says how a shorter one is padded.
func ParseIssuerID(text string) (factor [8]byte, err error) {
	b, err := ParseHex(issuerField, text, len(factor))
	if err != nil {
		return factor, err
	}
	return [8]byte(b), nil
}

// mustHex decodes digits that hexDigits let pass, an even number of them.
func mustHex(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic("purse: " + err.Error())
	}
	return b
}

// upperHex is the way this package writes bytes.
func upperHex(b []byte) string {
	const digits = "0123456789ABCDEF"
	text := make([]byte, 0, 2*len(b))
	for _, c := range b {
		text = append(text, digits[c>>4], digits[c&0x0F])
	}
	return string(text)
}
