package keyblock

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	headerSize = 16
	maxLength  = 9999 // of the whole text: its length has four digits
	noVersion  = "00"
)

// Header is what a key block says in clear. Wrap and Unwrap are its validators; its length and that of the block follow from the rest.
type Header struct {
	Version       Version
	Usage         Usage
	Algorithm     Algorithm
	Mode          Mode
	KeyVersion    string // two characters of 0-9, A-Z, or "c" and a digit for a component; "00" is none
	Exportability Exportability
	Optional      []Optional // without PB, which is made where it is needed

	// Pad is the data of PB as it was read. Left empty it is written as zeros; otherwise it must be as long as it is needed.
	Pad string
}

// validate refuses what Wrap must not write and Unwrap must not take. Places are those of the text, which write knows.
func (h *Header) validate() error {
	if h.Version != VersionB && h.Version != VersionD {
		return fault(FieldVersion, -1, string(rune(h.Version)), `"B" or "D"`)
	}
	if err := h.validateUse(); err != nil {
		return err
	}
	if !keyVersion(h.KeyVersion) {
		return fault(FieldKeyVersion, -1, h.KeyVersion, `two characters of 0-9 and A-Z, or "c" and a digit`)
	}
	switch h.Exportability {
	case ExportTrusted, ExportNone, ExportSensitive:
	default:
		return fault(FieldExportability, -1, string(rune(h.Exportability)), `"E", "N" or "S"`)
	}
	if err := h.validateOptional(); err != nil {
		return err
	}
	if h.Algorithm == AlgorithmSM4 {
		if _, err := h.Purse(); err != nil {
			return fault(FieldAlgorithm, -1, "4", "a purse master of our own form with this algorithm: "+err.Error())
		}
	}
	return nil
}

func keyVersion(v string) bool {
	if len(v) != 2 {
		return false
	}
	if v[0] == 'c' {
		return '0' <= v[1] && v[1] <= '9'
	}
	return upperOrDigit(v[0]) && upperOrDigit(v[1])
}

func upperOrDigit(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' }

func printable(c byte) bool { return ' ' <= c && c <= '~' }

// write writes the header of a block with a payload of so many bytes.
func (h *Header) write(payload int) ([]byte, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	count, optional, err := h.writeOptional()
	if err != nil {
		return nil, err
	}
	length := headerSize + len(optional) + 2*payload + h.Version.macDigits()
	if length > maxLength {
		return nil, fault(FieldLength, -1, strconv.Itoa(length), fmt.Sprintf("at most %d characters", maxLength))
	}
	text := fmt.Appendf(nil, "%c%04d%s%c%c%s%c%02d00", h.Version, length, h.Usage, h.Algorithm, h.Mode, h.KeyVersion, h.Exportability, count)
	return append(text, optional...), nil
}

// readHeader reads the header of a whole text, and returns its length.
func readHeader(text string) (h Header, size int, err error) {
	for i := range len(text) {
		if !printable(text[i]) {
			return h, 0, fault(FieldText, i, "", "a printable ASCII character")
		}
	}
	if len(text) < headerSize {
		return h, 0, fault(FieldLength, 0, strconv.Itoa(len(text)), fmt.Sprintf("at least the %d characters of a header", headerSize))
	}
	h = Header{Version: Version(text[0]), Usage: Usage(text[5:7]), Algorithm: Algorithm(text[7]), Mode: Mode(text[8]),
		KeyVersion: text[9:11], Exportability: Exportability(text[11])}
	if h.Version != VersionB && h.Version != VersionD {
		return h, 0, fault(FieldVersion, 0, text[:1], `"B" or "D"`)
	}
	if err := h.readLength(text); err != nil {
		return h, 0, err
	}
	count, ok := decimal(text[12:14])
	if !ok {
		return h, 0, fault(FieldOptionalCount, 12, text[12:14], "two decimal digits")
	}
	if text[14:16] != "00" {
		return h, 0, fault(FieldReserved, 14, text[14:16], `"00": a block for exchange`)
	}
	if size, err = h.readOptional(text, count); err != nil {
		return h, 0, err
	}
	return h, size, place(h.validate())
}

// readLength holds the length that the text gives against the one that it has.
func (h *Header) readLength(text string) error {
	const at = 1
	said, ok := decimal(text[at:5])
	switch {
	case !ok:
		return fault(FieldLength, at, text[at:5], "four decimal digits")
	case said < len(text):
		return fault(FieldLength, at, text[at:5], fmt.Sprintf("%04d, the length of the text: it has more than its header says", len(text)))
	case said > len(text):
		return fault(FieldLength, at, text[at:5], fmt.Sprintf("%04d, the length of the text: it was cut, or its header lies", len(text)))
	case said%h.Version.blockSize() != 0:
		return fault(FieldLength, at, text[at:5], fmt.Sprintf("a multiple of %d in version %c", h.Version.blockSize(), h.Version))
	}
	return nil
}

// places are where the fixed fields are in the text.
var places = map[Field]int{FieldVersion: 0, FieldLength: 1, FieldUsage: 5, FieldAlgorithm: 7, FieldMode: 8, FieldKeyVersion: 9,
	FieldExportability: 11}

// place adds to the fault of a header that was read where it is.
func place(err error) error {
	var field *FieldError
	if at, fixed := 0, false; errors.As(err, &field) && field.At < 0 {
		if at, fixed = places[field.Field]; fixed {
			field.At = at
		}
	}
	return err
}

// decimal reads digits alone, which strconv does not promise.
func decimal(digits string) (n int, ok bool) {
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
		n = n*10 + int(digits[i]-'0')
	}
	return n, true
}
