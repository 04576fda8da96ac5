package policy

import (
	"fmt"
	"slices"
)

// contradictions finds limits that cannot both be meant: a number that another one keeps from ever being reached, two of one scope, two of
// one name. The problem is at the limit that would do nothing.
func (r *limitsReader) contradictions(limits []*Limit) {
	for i, l := range limits {
		at := fmt.Sprintf("limits[%d]", i)
		if l.MaxFen > 0 && l.AlarmFen >= l.MaxFen {
			r.refuse(at+".alarmFen", "%d is not below maxFen, %d: an alarm comes before the refusal", l.AlarmFen, l.MaxFen)
		}
		if l.MaxCount > 0 && l.AlarmCount >= l.MaxCount {
			r.refuse(at+".alarmCount", "%d is not below maxCount, %d: an alarm comes before the refusal", l.AlarmCount, l.MaxCount)
		}
		for j, other := range limits {
			switch {
			case j < i && other.Name == l.Name:
				r.refuse(at+".name", "%q is the name of another limit", l.Name)
			case j < i && other.Scope() == l.Scope():
				r.refuse(at, "limit %s has the scope of limit %s: write both as one", l.Name, other.Name)
			case i != j && other.holdsFirst(l) && other.MaxFen > 0 && l.MaxFen > other.MaxFen:
				r.refuse(at+".maxFen", "%d is never reached: limit %s, %s, holds at %d", l.MaxFen, other.Name, other.over(), other.MaxFen)
			case i != j && other.holdsFirst(l) && other.MaxCount > 0 && l.MaxCount > other.MaxCount:
				r.refuse(at+".maxCount", "%d is never reached: limit %s, %s, holds at %d", l.MaxCount, other.Name, other.over(), other.MaxCount)
			}
		}
	}
}

// holdsFirst reports whether each amount that narrow adds up is in what l adds up too, so that l must not be lower: a transaction's is in
// everything, an hour's in the day's of the same subject.
func (l *Limit) holdsFirst(narrow *Limit) bool {
	switch {
	case narrow.Per == PerTransaction && l.Per != PerTransaction:
	case narrow.Per == PerTransaction && l.Per == PerTransaction:
	case narrow.Per == l.Per && narrow.Period == Hour && l.Period == Day:
	case narrow.Per == l.Per && narrow.Period == l.Period && l.Running():
	default:
		return false
	}
	return covers(l.Operations, narrow.Operations) && covers(l.KeySets, narrow.KeySets) && covers(l.Clients, narrow.Clients) &&
		covers(l.Roles, narrow.Roles) && covers(l.Purses, narrow.Purses) && covers(l.Terminals, narrow.Terminals)
}

// covers reports whether all that a narrow list covers is covered by a wide one; an empty one covers all.
func covers[T comparable](wide, narrow []T) bool {
	if len(wide) == 0 {
		return true
	}
	return len(narrow) > 0 && !slices.ContainsFunc(narrow, func(v T) bool { return !slices.Contains(wide, v) })
}

// over says in words what a limit adds up over.
func (l *Limit) over() string {
	if l.Running() {
		return fmt.Sprintf("per %s and %s", l.Per, l.Period)
	}
	return fmt.Sprintf("per %s", l.Per)
}
