package keyderive

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Factor is one 8-byte diversification factor (EPURSE.md §2).
type Factor [8]byte

// ParseFactor reads exactly 16 hex digits of either case.
func ParseFactor(text string) (f Factor, err error) {
	if len(text) != 2*len(f) {
		return f, fmt.Errorf("factor: %d characters, expected 16 hex digits", len(text))
	}
	if _, err := hex.Decode(f[:], []byte(text)); err != nil {
		return Factor{}, fmt.Errorf("factor: expected 16 hex digits: %w", err)
	}
	return f, nil
}

// String writes 16 upper-case hex digits.
func (f Factor) String() string {
	const digits = "0123456789ABCDEF"
	var text [2 * len(f)]byte
	for i, b := range f {
		text[2*i], text[2*i+1] = digits[b>>4], digits[b&0x0F]
	}
	return string(text[:])
}

// input is F‖~F, what one level of diversification encrypts.
func (f Factor) input() (in [16]byte) {
	copy(in[:8], f[:])
	for i, b := range f {
		in[8+i] = ^b
	}
	return in
}

// twin is F‖F: under 3DES it derives L‖L, the left half of the card key as a two-key key (EPURSE.md §4).
func (f Factor) twin() (in [16]byte) {
	copy(in[:8], f[:])
	copy(in[8:], f[:])
	return in
}

// Path is a list of factors from the root down. PSAM commands list the card first and hosts the root first; the two
// constructors are the only ways to make one, so the order is never a convention.
type Path struct{ factors []Factor }

// RootFirst makes a path of factors listed as hosts list them.
func RootFirst(factors ...Factor) Path { return Path{slices.Clone(factors)} }

// CardFirst makes a path of factors listed as PSAM commands list them (EPURSE.md §7).
func CardFirst(factors ...Factor) Path {
	reversed := slices.Clone(factors)
	slices.Reverse(reversed)
	return Path{reversed}
}

// Len is the number of levels.
func (p Path) Len() int { return len(p.factors) }

// Levels yields the derivation inputs F‖~F from the root down, for engines.
func (p Path) Levels() [][16]byte {
	levels := make([][16]byte, len(p.factors))
	for i, f := range p.factors {
		levels[i] = f.input()
	}
	return levels
}

// Split returns the path without its last factor, and that factor; ok is false for an empty path.
func (p Path) Split() (parents Path, last Factor, ok bool) {
	if len(p.factors) == 0 {
		return Path{}, Factor{}, false
	}
	n := len(p.factors) - 1
	return Path{p.factors[:n]}, p.factors[n], true
}

// String joins the factors with slashes, root first.
func (p Path) String() string {
	parts := make([]string, len(p.factors))
	for i, f := range p.factors {
		parts[i] = f.String()
	}
	return strings.Join(parts, "/")
}
