// Package suite names the two cipher suites of the purse, 3DES and SM4, and opens their block ciphers.
//
// EPURSE.md §2–§4 define every computation twice, once for each suite; a suite is chosen by the key set and by nothing
// that a card or a caller says. The package holds no key: a cipher.Block that it returns keeps an expanded key schedule in
// ordinary Go memory, which dies with the garbage collector, so callers keep a Block only for one transaction.
package suite

import (
	"crypto/cipher"
	"crypto/des" //nolint:gosec // the purse is specified with DES; EPURSE.md §4
	"crypto/subtle"
	"fmt"

	"github.com/emmansun/gmsm/sm4"
)

// Algorithm is a cipher suite of EPURSE.md §2. The zero value is invalid.
type Algorithm uint8

// The suites. TDES is two-key triple DES in EDE form with 16-byte keys (and single DES as K‖K); SM4 is GB/T 32907-2016.
const (
	TDES Algorithm = iota + 1
	SM4
)

// KeySize is the length of every master and card key in bytes, in both suites.
const KeySize = 16

// Parse reads the names used in vectors and configuration, "3DES" and "SM4"; nothing else is accepted.
func Parse(name string) (Algorithm, error) {
	switch name {
	case "3DES":
		return TDES, nil
	case "SM4":
		return SM4, nil
	}
	return 0, fmt.Errorf(`algorithm %q: expected "3DES" or "SM4"`, name)
}

// String returns the name that Parse reads.
func (a Algorithm) String() string {
	switch a {
	case TDES:
		return "3DES"
	case SM4:
		return "SM4"
	}
	return fmt.Sprintf("invalid algorithm %d", uint8(a))
}

// MarshalText writes the name; the zero value is an error.
func (a Algorithm) MarshalText() ([]byte, error) {
	if !a.Valid() {
		return nil, fmt.Errorf("%v", a)
	}
	return []byte(a.String()), nil
}

// UnmarshalText reads the name, as Parse does.
func (a *Algorithm) UnmarshalText(text []byte) (err error) {
	*a, err = Parse(string(text))
	return err
}

// Valid reports whether a is one of the two suites.
func (a Algorithm) Valid() bool { return a == TDES || a == SM4 }

// BlockSize is 8 for 3DES and 16 for SM4, in bytes; 0 for an invalid suite.
func (a Algorithm) BlockSize() int {
	switch a {
	case TDES:
		return 8
	case SM4:
		return 16
	}
	return 0
}

// New opens the suite's block cipher under a 16-byte key: two-key EDE (K1‖K2, used as K1‖K2‖K1) or SM4.
// A key K‖K makes 3DES single DES under K (EPURSE.md §3), and is opened as that: the same blocks for a third of the work. That a
// key is K‖K is no secret, for every session and TAC key of the 3DES suite is.
func (a Algorithm) New(key []byte) (cipher.Block, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("%v key: %d bytes, expected %d", a, len(key), KeySize)
	}
	switch a {
	case TDES:
		if subtle.ConstantTimeCompare(key[:8], key[8:]) == 1 {
			return NewDES(key[:8])
		}
		var ede [24]byte // on this stack frame, wiped below; the library copies it into its schedule
		copy(ede[:], key)
		copy(ede[16:], key[:8])
		block, err := des.NewTripleDESCipher(ede[:])
		clear(ede[:])
		return block, err
	case SM4:
		return sm4.NewCipher(key)
	}
	return nil, fmt.Errorf("%v", a)
}

// NewDES opens single DES under an 8-byte key, for 3DES session keys held in memory (EPURSE.md §3) and for the outer
// blocks of the retail MAC (§4).
func NewDES(key []byte) (cipher.Block, error) {
	return des.NewCipher(key) //nolint:gosec // EPURSE.md §3: session keys are single DES
}
