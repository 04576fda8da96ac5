package audit

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// line is JSON as it is written, member after member: each method returns the line with one member more, or, where it says so and the value
// is empty, as it was.
type line []byte

// name begins a member. The first of an object has no comma before it.
func (l line) name(name string) line {
	if l[len(l)-1] != '{' {
		l = append(l, ',')
	}
	l = append(l, '"')
	l = append(l, name...)
	return append(l, '"', ':')
}

func (l line) text(name, value string) line { return l.name(name).quoted(value) }

// optional leaves out "".
func (l line) optional(name, value string) line {
	if value == "" {
		return l
	}
	return l.text(name, value)
}

func (l line) number(name string, value int) line {
	return strconv.AppendInt(l.name(name), int64(value), 10)
}

// count leaves out 0.
func (l line) count(name string, value int) line {
	if value == 0 {
		return l
	}
	return l.number(name, value)
}

// amount leaves out 0.
func (l line) amount(name string, value uint64) line {
	if value == 0 {
		return l
	}
	return strconv.AppendUint(l.name(name), value, 10)
}

// yes leaves out false.
func (l line) yes(name string, value bool) line {
	if !value {
		return l
	}
	return append(l.name(name), "true"...)
}

func (l line) time(name string, value time.Time) line {
	l = append(l.name(name), '"')
	return append(value.AppendFormat(l, time.RFC3339Nano), '"')
}

// key leaves out nil.
func (l line) key(name string, key *Key) line {
	if key == nil {
		return l
	}
	return append(key.write(append(l.name(name), '{')), '}')
}

// next begins an object in a list, with a comma before it where one is there.
func (l line) next() line {
	if l[len(l)-1] == '}' {
		l = append(l, ',')
	}
	return append(l, '{')
}

const digits = "0123456789abcdef"

// quoted writes a text as the package comment says.
func (l line) quoted(text string) line {
	l = append(l, '"')
	written := 0 // of text
	for i := 0; i < len(text); {
		escape := escapes[text[i]]
		if escape == 0 {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if escape == other && r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) {
			i += size
			continue
		}
		l = append(l, text[written:i]...)
		switch {
		case escape != other && escape != 'u':
			l = append(l, '\\', escape)
		case r == utf8.RuneError:
			l = utf8.AppendRune(l, r)
		default:
			l = append(l, '\\', 'u', digits[r>>12], digits[r>>8&0xF], digits[r>>4&0xF], digits[r&0xF])
		}
		i += size
		written = i
	}
	return append(append(l, text[written:]...), '"')
}

// escapes are what follows the backslash in place of a byte: 0 where the byte stands as itself, other where the character decides.
var escapes = func() (escapes [256]byte) {
	for c := range escapes {
		switch {
		case c >= utf8.RuneSelf:
			escapes[c] = other
		case c < ' ' || strings.ContainsRune("<>&", rune(c)):
			escapes[c] = 'u'
		}
	}
	for c, escape := range map[byte]byte{'"': '"', '\\': '\\', '\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'} {
		escapes[c] = escape
	}
	return escapes
}()

const other = 1
