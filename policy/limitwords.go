package policy

import (
	"fmt"
	"strings"
)

// Limits are all limits: those of the document, and those of the list of clients.
func (p *Policy) Limits() (all []*Limit) {
	for _, l := range p.limits {
		if l.Total == "" {
			all = append(all, l)
		}
	}
	return all
}

// String says in words what the limit is of and how much it allows.
func (l *Limit) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %s", l.Name, listed(l.Operations))
	for _, filter := range []struct{ words, values string }{
		{" on ", listed(l.KeySets)}, {" by ", listed(l.Clients)}, {" by role ", listed(l.Roles)}, {" of purse ", listed(l.Purses)},
		{" at terminal ", listed(l.Terminals)},
	} {
		if filter.values != "" {
			s.WriteString(filter.words + filter.values)
		}
	}
	fmt.Fprintf(&s, ", per %s", l.Per)
	if l.Running() {
		fmt.Fprintf(&s, " and %s", l.Period)
	}
	for _, number := range []struct {
		words string
		n     int64
	}{{": at most %d fen", l.MaxFen}, {": at most %d of them", l.MaxCount}, {": alarm from %d fen", l.AlarmFen}, {": alarm from %d of them", l.AlarmCount}} {
		if number.n > 0 {
			fmt.Fprintf(&s, number.words, number.n)
		}
	}
	return s.String()
}

// listed are values with commas between them.
func listed[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}
