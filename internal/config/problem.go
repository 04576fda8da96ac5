package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/hsm"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Field  string // as in "keySets[0].keys[1].kcv"; empty for the whole
	Line   int    // in the file; 0 where it is not known
	Reason string
}

// Invalid is the error of a configuration: all that is wrong with it, in the order of the file's fields.
type Invalid struct {
	Name     string // of the file
	Problems []Problem
}

// Error has one line for each problem, as compilers write them.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		place := e.Name
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d", e.Name, p.Line)
		}
		if p.Field != "" {
			place += ": " + p.Field
		}
		lines[i] = place + ": " + p.Reason
	}
	return strings.Join(lines, "\n")
}

// checker collects problems. The makers of the validated types write to it and go on.
type checker struct {
	dir         string       // that file names are relative to
	development bool         // the token is for development
	device      *hsm.Profile // what the token can do; nil when its profile was refused
	problems    []Problem
}

func (c *checker) refuse(field, format string, args ...any) {
	c.problems = append(c.problems, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// err takes each error that err joins as a problem of the field.
func (c *checker) err(field string, err error) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, part := range joined.Unwrap() {
			c.err(field, part)
		}
	} else if err != nil {
		c.refuse(field, "%v", err)
	}
}

// take answers a value that came with an error, which is a problem of the field.
func take[T any](c *checker, field string) func(T, error) T {
	return func(value T, err error) T {
		c.err(field, err)
		return value
	}
}
