package main

import (
	"fmt"
	"strconv"
)

// tearPoint is where the card's power is cut: at a numbered step of a command, from 1, or "last", when everything is stored and
// the answer is on its way. The zero value cuts nowhere.
type tearPoint struct {
	step int
	last bool
}

// UnmarshalText reads a number of 1 or more, or "last".
func (t *tearPoint) UnmarshalText(text []byte) error {
	if string(text) == "last" {
		*t = tearPoint{last: true}
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 {
		return fmt.Errorf("%q, expected a step from 1, or \"last\"", text)
	}
	*t = tearPoint{step: n}
	return nil
}
