package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What the library says of a text that it cannot parse: the place where its parser has come to, mostly one token too far.
var (
	parseError   = regexp.MustCompile(`(?s)^parse error at [^ ]*?(\d+):(\d+) ("(?:[^"\\]|\\.)*"): (.*)$`)
	scanError    = regexp.MustCompile(`(?s)^[^ ]*?(\d+):(\d+): (.*)$`)
	wantedToken  = regexp.MustCompile(`(?s)^exact got (.*) want (.*)$`)
	unknownWord  = regexp.MustCompile("^(?:unexpected effect: (.+)|`(.+)` is (?:a|not a) .*)$")
	oneTooFar    = regexp.MustCompile(`^(invalid primary|unexpected token|duplicate .*)`)
	wantedBefore = regexp.MustCompile(`^got (.*) want (.*)$`)
)

// syntaxProblem says an error of the parser at the token that is wrong.
func syntaxProblem(d Document, err error) Problem {
	text := strings.TrimPrefix(err.Error(), "parser error: ")
	if m := scanError.FindStringSubmatch(text); m != nil && !strings.HasPrefix(text, "parse error at ") {
		return Problem{d.Name, number(m[1]), number(m[2]), "syntax: " + m[3]}
	}
	m := parseError.FindStringSubmatch(text)
	if m == nil {
		return Problem{d.Name, 0, 0, "syntax: " + text}
	}
	line, column, what := number(m[1]), number(m[2]), m[4]
	at := Problem{d.Name, line, column, fmt.Sprintf("syntax: %s: %s", m[3], what)}
	all := words(tokens(d.Text))
	switch {
	case wantedToken.MatchString(what):
		w := wantedToken.FindStringSubmatch(what)
		if w[1] == "" {
			at.Text = fmt.Sprintf("syntax: the document ends, expected %q", w[2])
			return at
		}
		return moved(at, all, w[1], fmt.Sprintf("syntax: %q, expected %q", w[1], w[2]))
	case wantedBefore.MatchString(what):
		w := wantedBefore.FindStringSubmatch(what)
		at.Text = fmt.Sprintf("syntax: %q, expected %q", w[1], w[2])
	case unknownWord.MatchString(what):
		w := unknownWord.FindStringSubmatch(what)
		return moved(at, all, w[1]+w[2], "syntax: "+strings.Replace(what, "unexpected effect: "+w[1], fmt.Sprintf("%q, expected permit or forbid", w[1]), 1))
	case oneTooFar.MatchString(what):
		if t, ok := all.before(line, column, ""); ok {
			return moved(at, all, t.text, fmt.Sprintf("syntax: %q: %s", t.text, what))
		}
	}
	return at
}

// moved is a problem at the last token with a text before the place of at.
func moved(at Problem, all words, token, text string) Problem {
	at.Text = text
	if strings.HasPrefix(token, `"`) {
		token = unquote(token)
	}
	if t, ok := all.before(at.Line, at.Column, token); ok {
		at.Line, at.Column = t.line, t.column
	}
	return at
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0 // more digits than a document has lines
	}
	return n
}
