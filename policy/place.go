package policy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is one word, string or sign of a document, and where it is. Comments are none.
type token struct {
	text         string // a string without its quotes and escapes
	raw          string // as it is written
	quoted       bool
	offset       int // in bytes
	line, column int // from 1; columns in characters
}

// tokens splits a document that the library could parse.
func tokens(text string) (found []token) {
	line, column := 1, 1
	for at := 0; at < len(text); {
		n, keep := tokenLen(text[at:])
		piece := text[at : at+n]
		if keep {
			t := token{text: piece, raw: piece, offset: at, line: line, column: column}
			if piece[0] == '"' {
				t.text, t.quoted = unquote(piece), true
			}
			found = append(found, t)
		}
		if breaks := strings.Count(piece, "\n"); breaks > 0 {
			line += breaks
			column = 1
			piece = piece[strings.LastIndexByte(piece, '\n')+1:]
		}
		column += utf8.RuneCountInString(piece)
		at += n
	}
	return found
}

// tokenLen is how long the token, space or comment is that text begins with, and whether it is a token.
func tokenLen(text string) (n int, keep bool) {
	first, size := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsSpace(first):
		return size, false
	case strings.HasPrefix(text, "//"):
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			return end, false
		}
		return len(text), false
	case first == '"':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				return i + 1, true
			}
		}
		return len(text), true
	case strings.HasPrefix(text, "::"):
		return 2, true
	case !isWord(first):
		return size, true
	}
	if end := strings.IndexFunc(text, func(r rune) bool { return !isWord(r) }); end >= 0 {
		return end, true
	}
	return len(text), true
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// unquote reads a string as far as names need it; one with escapes of Cedar's own stays as it is written.
func unquote(quoted string) string {
	if s, err := strconv.Unquote(quoted); err == nil {
		return s
	}
	return strings.Trim(quoted, `"`)
}

// words are the tokens of one policy: from its first to the next policy's.
type words []token

// of cuts out the tokens from an offset to another; to < 0 is the end.
func (w words) of(from, to int) words {
	var part words
	for _, t := range w {
		if t.offset >= from && (to < 0 || t.offset < to) {
			part = append(part, t)
		}
	}
	return part
}

// entity finds Type::"id", or what is written so; an id of "" finds the type alone.
func (w words) entity(kind, id string) (token, bool) {
	path := strings.Split(kind, "::")
	for i := range w {
		at := i
		ok := true
		for j, name := range path {
			if j > 0 {
				ok = ok && w.is(at, "::")
				at++
			}
			ok = ok && at < len(w) && !w[at].quoted && w[at].text == name
			at++
		}
		if ok && (id == "" || w.is(at, "::") && at+1 < len(w) && w[at+1].quoted && w[at+1].text == id) {
			return w[i], true
		}
	}
	return token{}, false
}

// attribute finds the name of an attribute: after a dot, in brackets, or, if has, after the word "has".
func (w words) attribute(name string, has bool) (token, bool) {
	for i, t := range w {
		if t.text != name || i == 0 || w[i-1].quoted {
			continue
		}
		if before := w[i-1].text; before == "." || before == "[" || has && before == "has" {
			return t, true
		}
	}
	return token{}, false
}

// text finds a string.
func (w words) text(value string) (token, bool) {
	for _, t := range w {
		if t.quoted && t.text == value {
			return t, true
		}
	}
	return token{}, false
}

// keyword finds the nth of the words, which are the program's own names and not strings.
func (w words) keyword(n int, names ...string) (token, bool) {
	for _, t := range w {
		for _, name := range names {
			if !t.quoted && t.text == name {
				if n == 0 {
					return t, true
				}
				n--
			}
		}
	}
	return token{}, false
}

// before finds the last token before a place, or the one there that has the text; "" is none.
func (w words) before(line, column int, text string) (found token, ok bool) {
	for _, t := range w {
		if t.line > line || t.line == line && t.column >= column {
			break
		}
		if text == "" || t.text == text {
			found, ok = t, true
		}
	}
	return found, ok
}

func (w words) is(i int, text string) bool { return i < len(w) && !w[i].quoted && w[i].text == text }
