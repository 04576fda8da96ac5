package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLineDifferences(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{"a b c", "a b c", ""}, {"a b c", "a c", "-b"}, {"a c", "a b c", "+b"}, {"a b c", "a x c", "-b +x"}, {"a b c d", "b c e d", "-a +e"},
		{"", "a", "- +a"}, {"a a a", "a", "-a -a"},
	} {
		var got []string
		for _, line := range lineDifferences(strings.Split(c.before, " "), strings.Split(c.after, " ")) {
			got = append(got, string(line.sign)+line.text)
		}
		assert.Equal(t, c.want, strings.Join(got, " "), "%s to %s", c.before, c.after)
	}
	long := make([]string, mostCompared+1)
	assert.Len(t, lineDifferences(long, []string{"x"}), mostCompared+2)
}
