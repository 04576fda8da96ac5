package keyblock

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Optional is an optional block. Its data are printable ASCII.
//
//	id (2) | length of it all, two hex digits | data                                   up to 255 characters in all
//	id (2) | "00" | "02" | length of it all, four hex digits | data                    longer
//
// The ids that begin with a letter are X9.143's, the numeric ones everybody's own.
type Optional struct {
	ID   string
	Data string
}

const (
	padID = "PB" // fills the header up to a whole number of the cipher's blocks; the last of the optional blocks

	shortHead, longHead = 4, 10
	maxShort            = 255
	longMark            = "0002"
	maxOptional         = 99
)

// size is the length of the block in the text.
func (o Optional) size() int {
	if n := shortHead + len(o.Data); n <= maxShort {
		return n
	}
	return longHead + len(o.Data)
}

func (o Optional) write(to []byte) []byte {
	if n := o.size(); n > maxShort {
		to = fmt.Appendf(to, "%s%s%04X", o.ID, longMark, n)
	} else {
		to = fmt.Appendf(to, "%s%02X", o.ID, n)
	}
	return append(to, o.Data...)
}

// room is how many characters PB has to have in all after so many of the other optional blocks: none, or its head and less than a block.
func (v Version) room(optional int) int {
	missing := (v.blockSize() - optional%v.blockSize()) % v.blockSize()
	if missing > 0 && missing < shortHead {
		missing += v.blockSize()
	}
	return missing
}

func (h *Header) validateOptional() error {
	if len(h.Optional) > maxOptional {
		return fault(FieldOptionalCount, -1, strconv.Itoa(len(h.Optional)), fmt.Sprintf("at most %d", maxOptional))
	}
	seen := map[string]bool{padID: true}
	total := 0
	for _, o := range h.Optional {
		switch {
		case !optionalID(o.ID):
			return fault(FieldOptionalID, -1, short(o.ID), "two characters of 0-9 and A-Z")
		case seen[o.ID]:
			return fault(FieldOptionalID, -1, o.ID, "each id once, and PB last of all")
		case !allPrintable(o.Data):
			return fault(FieldOptionalData, -1, "", "printable ASCII characters in block "+o.ID)
		}
		seen[o.ID] = true
		total += o.size()
	}
	room := h.Version.room(total)
	if h.Pad != "" && (len(h.Pad) != room-shortHead || !allPrintable(h.Pad)) {
		return fault(FieldPadBlock, -1, "", fmt.Sprintf("%d printable characters, or none, after %d of the others", max(room-shortHead, 0), total))
	}
	return nil
}

// writeOptional writes the optional blocks of a valid header, PB too, and says how many they are.
func (h *Header) writeOptional() (count int, text []byte, err error) {
	for _, o := range h.Optional {
		text = o.write(text)
	}
	count = len(h.Optional)
	if room := h.Version.room(len(text)); room > 0 {
		pad := h.Pad
		if pad == "" {
			pad = strings.Repeat("0", room-shortHead)
		}
		text = Optional{padID, pad}.write(text)
		count++
	}
	if count > maxOptional {
		return 0, nil, fault(FieldOptionalCount, -1, strconv.Itoa(count), fmt.Sprintf("at most %d with PB", maxOptional))
	}
	return count, text, nil
}

// readOptional reads so many optional blocks, and returns where the payload begins.
func (h *Header) readOptional(text string, count int) (end int, err error) {
	end = headerSize
	for i := range count {
		at := end
		o, err := readOptional(text, at)
		if err != nil {
			return 0, err
		}
		end += o.size()
		if slices.ContainsFunc(h.Optional, func(had Optional) bool { return had.ID == o.ID }) {
			return 0, fault(FieldOptionalID, at, o.ID, "each id once")
		}
		if o.ID != padID {
			h.Optional = append(h.Optional, o)
			continue
		}
		if i != count-1 {
			return 0, fault(FieldPadBlock, at, padID, "to be the last of the optional blocks")
		}
		if room := h.Version.room(at - headerSize); o.size() != room {
			return 0, fault(FieldPadBlock, at, strconv.Itoa(o.size()), fmt.Sprintf("%d characters in all, to fill the header up", room))
		}
		h.Pad = o.Data
	}
	if end%h.Version.blockSize() != 0 {
		return 0, fault(FieldPadBlock, end, "", fmt.Sprintf("it here: the header has %d characters, and version %c wants a multiple of %d", end, h.Version, h.Version.blockSize()))
	}
	return end, nil
}

// readOptional reads the optional block that begins at a place.
func readOptional(text string, at int) (o Optional, err error) {
	rest := text[at:]
	if len(rest) < shortHead {
		return o, fault(FieldOptionalID, at, "", "an optional block, as the header counts them: the text ends")
	}
	o.ID = rest[:2]
	if !optionalID(o.ID) {
		return o, fault(FieldOptionalID, at, o.ID, "two characters of 0-9 and A-Z")
	}
	head, digits := shortHead, rest[2:4]
	if digits == longMark[:2] {
		if len(rest) < longHead || rest[2:6] != longMark {
			return o, fault(FieldOptionalLength, at+2, rest[2:min(6, len(rest))], `"0002" and four hex digits, or two digits that are not "00"`)
		}
		head, digits = longHead, rest[6:10]
	}
	length, ok := hexNumber(digits)
	switch {
	case !ok:
		return o, fault(FieldOptionalLength, at+head-len(digits), digits, "upper-case hex digits")
	case length < head:
		return o, fault(FieldOptionalLength, at+head-len(digits), digits, fmt.Sprintf("at least the %d characters of the block's own head", head))
	case length > len(rest):
		return o, fault(FieldOptionalLength, at+head-len(digits), digits, fmt.Sprintf("at most the %d characters that are left", len(rest)))
	}
	o.Data = rest[head:length]
	if o.size() != length {
		return o, fault(FieldOptionalLength, at+head-len(digits), digits, fmt.Sprintf("the two-digit form up to %d characters", maxShort))
	}
	return o, nil
}

func optionalID(id string) bool { return len(id) == 2 && upperOrDigit(id[0]) && upperOrDigit(id[1]) }

// hexNumber reads upper-case digits.
func hexNumber(digits string) (n int, ok bool) {
	for i := range len(digits) {
		switch c := digits[i]; {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'A' <= c && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func allPrintable(text string) bool {
	for i := range len(text) {
		if !printable(text[i]) {
			return false
		}
	}
	return true
}

// short is the beginning of what an error quotes.
func short(text string) string { return text[:min(len(text), 4)] }
