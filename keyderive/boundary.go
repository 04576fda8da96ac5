package keyderive

import "fmt"

// Boundary is how far from the token a key's use reaches (DESIGN, §2). The zero value is invalid.
type Boundary uint8

// The boundaries, the strictest first.
const (
	// BoundaryToken: card and session keys exist only as sensitive session objects of the token.
	BoundaryToken Boundary = iota + 1
	// BoundaryCard: the card key passes through locked process memory for one transaction.
	BoundaryCard
	// BoundaryProcess: the master itself is in locked process memory while in use, and wrapped by the token at rest.
	BoundaryProcess
)

var boundaryNames = map[Boundary]string{BoundaryToken: "TOKEN", BoundaryCard: "CARD", BoundaryProcess: "PROCESS"}

// String is TOKEN, CARD or PROCESS.
func (b Boundary) String() string {
	if name, ok := boundaryNames[b]; ok {
		return name
	}
	return fmt.Sprintf("invalid boundary %d", uint8(b))
}

// ParseBoundary reads TOKEN, CARD or PROCESS.
func ParseBoundary(name string) (Boundary, error) {
	for b, n := range boundaryNames {
		if n == name {
			return b, nil
		}
	}
	return 0, fmt.Errorf("boundary %q: expected TOKEN, CARD or PROCESS", name)
}

// MarshalText writes the name; the zero value is an error.
func (b Boundary) MarshalText() ([]byte, error) {
	if boundaryNames[b] == "" {
		return nil, fmt.Errorf("%v", b)
	}
	return []byte(b.String()), nil
}

// UnmarshalText reads the name.
func (b *Boundary) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBoundary(string(text))
	return err
}
