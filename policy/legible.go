package policy

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A document is signed by who has read it. So it holds nothing that a reader does not see, nothing that looks like something else where it
// decides, and nothing that the library's scanner takes for a comment and a reader of Cedar does not.

// unseen refuses what is no text, and characters that are not printed or that turn the line's direction, in comments too.
func unseen(d Document) (Problem, bool) {
	line, column := 1, 0
	for at, r := range d.Text {
		column++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(d.Text[at:], string(utf8.RuneError)):
			return Problem{d.Name, line, column, "expected UTF-8"}, true
		case r == '\n':
			line, column = line+1, 0
		case r == '\t', r == '\u3000', r == '\r' && strings.HasPrefix(d.Text[at:], "\r\n"), strconv.IsPrint(r):
		default:
			return Problem{d.Name, line, column, fmt.Sprintf("the character %U, which is not seen as what it is", r)}, true
		}
	}
	return Problem{}, false
}

// unclear says why a token cannot be meant as it looks; "" is that it can. All names and values that policies are about are ASCII.
func (t token) unclear() string {
	for _, r := range t.raw {
		if r >= utf8.RuneSelf {
			return fmt.Sprintf("%q is not ASCII: only comments may have other characters, names and values have none", t.raw)
		}
	}
	if !t.quoted && strings.Contains("/`'\\", t.raw) {
		return fmt.Sprintf("syntax: %q: a comment is from // to the end of its line, a string is in \"\"", t.raw)
	}
	for i := 0; t.quoted && i < len(t.raw); i++ {
		if t.raw[i] != '\\' {
			continue
		}
		i++
		if i == len(t.raw) || !strings.ContainsRune(`"\*`, rune(t.raw[i])) {
			return fmt.Sprintf("%s: an escape other than \\\", \\\\ and \\*: write the character itself", t.raw)
		}
	}
	return ""
}
