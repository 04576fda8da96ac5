// Package kcv is the key check value of EPURSE.md §8: the leftmost bytes of the encryption of a zero block.
package kcv

import (
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"strings"
)

// Size is the usual length of a check value, in bytes.
const Size = 3

// Value is a three-byte check value. It is public: it tells keys apart and reveals none.
type Value [Size]byte

// Of returns the leftmost three bytes of E(key, 0…0), one zero block of the cipher's size.
func Of(block cipher.Block) Value {
	zero := make([]byte, block.BlockSize())
	block.Encrypt(zero, zero)
	return Value(zero[:Size])
}

// Parse reads six hex digits of either case.
func Parse(text string) (v Value, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != Size {
		return v, fmt.Errorf("check value %q: expected %d hex digits", text, 2*Size)
	}
	return Value(b), nil
}

// String writes six upper-case hex digits.
func (v Value) String() string { return strings.ToUpper(hex.EncodeToString(v[:])) }
