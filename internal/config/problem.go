package config

import (
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
)

// Problem is one thing that is wrong with a configuration, and Invalid all of them.
type (
	Problem = strictyaml.Problem
	Invalid = strictyaml.Invalid
)

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
