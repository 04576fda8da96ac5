package keyblock

import (
	"fmt"
	"strings"
)

// Version is how the block is protected. The zero value is invalid.
type Version byte

// The versions that the package makes and reads.
const (
	VersionB Version = 'B' // 3DES, key derivation binding method
	VersionD Version = 'D' // AES, key derivation binding method
)

// macDigits is the length of the MAC in the text.
func (v Version) macDigits() int { return 2 * v.blockSize() }

// blockSize is that of the protecting cipher, in bytes; the header is filled up to it too.
func (v Version) blockSize() int {
	if v == VersionB {
		return 8
	}
	return 16
}

// Algorithm is that of the key inside. The zero value is invalid.
type Algorithm byte

// The algorithms. X9.143 has more (D, E, H, R, S: single DES and what is no block cipher), which the package refuses, and keeps the digits
// for everybody's own use.
const (
	AlgorithmTDES Algorithm = 'T' // 16 or 24 bytes
	AlgorithmAES  Algorithm = 'A' // 16, 24 or 32 bytes; in version D alone
	AlgorithmSM4  Algorithm = '4' // 16 bytes; our own form, for purse masters in version D alone
)

// keySizes are the lengths of a key in bytes; nil of an algorithm that the package does not know.
func (a Algorithm) keySizes() []int {
	switch a {
	case AlgorithmTDES:
		return []int{16, 24}
	case AlgorithmAES:
		return []int{16, 24, 32}
	case AlgorithmSM4:
		return []int{16}
	}
	return nil
}

// Usage is what the key is for, two characters. The zero value is invalid.
type Usage string

// UsageDerive is an issuer's master key that no scheme has another name for ("EMV/chip issuer master key: other"): the one of a purse.
const UsageDerive Usage = "E6"

// Mode is what the key may do within its usage. The zero value is invalid.
type Mode byte

// ModeDerive lets the key derive other keys and nothing else.
const ModeDerive Mode = 'X'

// Exportability is what its receiver may do with the key. The zero value is invalid.
type Exportability byte

// The exportabilities.
const (
	ExportTrusted   Exportability = 'E' // under a key encryption key, in a form that meets X9.24
	ExportNone      Exportability = 'N'
	ExportSensitive Exportability = 'S' // under a key encryption key, in any form
)

// modesOf are the usages of X9.143 for symmetric keys, with the modes of use that the package takes of each. N, "no special
// restrictions", is an old form of most; never of a master that derives.
var modesOf = map[Usage]string{
	"B0": "XN", "B1": "XN", "B3": "X",

	// card verification, PIN verification, MACs
	"C0": "CGVN", "V0": "CGVN", "V1": "CGVN", "V2": "CGVN",
	"M0": "CGVN", "M1": "CGVN", "M3": "CGVN", "M6": "CGVN",

	// encryption of data, PINs, keys; protection of key blocks; initialization vectors
	"D0": "BDEN", "D2": "BDEN", "D3": "BDEN", "P0": "BDEN", "K0": "BDEN",
	"K1": "BDE", "K4": "BDE",
	"I0": "N",

	// masters of EMV issuers
	"E0": "X", "E1": "X", "E2": "X", "E4": "X", "E5": "X", UsageDerive: "X", "E7": "X",
}

func (h *Header) validateUse() error {
	modes, known := modesOf[h.Usage]
	if !known {
		return fault(FieldUsage, -1, string(h.Usage), "a key usage of X9.143 for a symmetric key that this project takes")
	}
	switch {
	case h.Algorithm.keySizes() == nil:
		return fault(FieldAlgorithm, -1, string(rune(h.Algorithm)), `"T", "A" or "4"`)
	case h.Version == VersionB && h.Algorithm != AlgorithmTDES:
		return fault(FieldAlgorithm, -1, string(rune(h.Algorithm)), `"T" in a block of version B: 3DES protects no stronger key`)
	case !strings.ContainsRune(modes, rune(h.Mode)):
		return fault(FieldMode, -1, string(rune(h.Mode)), fmt.Sprintf("one of %q with key usage %s", modes, h.Usage))
	}
	return nil
}
