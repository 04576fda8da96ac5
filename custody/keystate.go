package custody

import (
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/policy"
)

// KeyState is the state of a key after NIST SP 800-57 part 1, §7. The zero value is invalid.
type KeyState uint8

// The states.
const (
	PreActive KeyState = iota + 1
	Active
	Suspended
	Deactivated
	Compromised
	Destroyed
)

var stateNames = map[KeyState]string{
	PreActive: "pre-active", Active: "active", Suspended: "suspended", Deactivated: "deactivated",
	Compromised: "compromised", Destroyed: "destroyed",
}

// KeyStates returns every state once, in the order of a key's life.
func KeyStates() []KeyState {
	return []KeyState{PreActive, Active, Suspended, Deactivated, Compromised, Destroyed}
}

// next are the states that a key may go to from each (NIST SP 800-57 part 1, §7.1 to §7.6). A suspended key comes back; a deactivated
// one does not; a compromised one can only be destroyed; a destroyed one is at its end.
var next = map[KeyState][]KeyState{
	PreActive:   {Active, Suspended, Compromised, Destroyed},
	Active:      {Suspended, Deactivated, Compromised},
	Suspended:   {Active, Deactivated, Compromised, Destroyed},
	Deactivated: {Compromised, Destroyed},
	Compromised: {Destroyed},
	Destroyed:   {},
}

// MayBecome reports whether a key goes from s to the other state in one change.
func (s KeyState) MayBecome(other KeyState) bool { return slices.Contains(next[s], other) }

// ParseKeyState reads "pre-active", "active", "suspended", "deactivated", "compromised" or "destroyed".
func ParseKeyState(name string) (KeyState, error) {
	for state, n := range stateNames {
		if n == name {
			return state, nil
		}
	}
	return 0, fmt.Errorf("key state %q: expected pre-active, active, suspended, deactivated, compromised or destroyed", name)
}

// String is the name that ParseKeyState reads.
func (s KeyState) String() string {
	if name, ok := stateNames[s]; ok {
		return name
	}
	return fmt.Sprintf("invalid key state %d", uint8(s))
}

// MarshalText writes the name; the zero value is an error.
func (s KeyState) MarshalText() ([]byte, error) {
	if _, ok := stateNames[s]; !ok {
		return nil, fmt.Errorf("%v", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads the name.
func (s *KeyState) UnmarshalText(text []byte) (err error) {
	*s, err = ParseKeyState(string(text))
	return err
}

// Signs reports whether a key in this state issues MACs: active alone.
func (s KeyState) Signs() bool { return s.For(policy.AuthorizeLoad).Signs() }

// Verifies reports whether a key in this state verifies what was made with it while it was active.
func (s KeyState) Verifies() bool { return s.For(policy.VerifyTac).Verifies() }
