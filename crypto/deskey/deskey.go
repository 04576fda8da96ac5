// Package deskey is what a DES key must not be, and the parity of its bytes (NIST SP 800-67 rev. 2, §3.3). Everything is of keys of one to
// three parts of 8 bytes each, in constant time for one length.
package deskey

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// PartSize is the length of single DES, and of each part of a triple-DES key.
const PartSize = 8

// weakParts are the four weak and twelve semi-weak keys (§3.3.2), with odd parity.
var weakParts = [...]uint64{
	0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
	0x011F011F010E010E, 0x1F011F010E010E01, 0x01E001E001F101F1, 0xE001E001F101F101,
	0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
	0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1,
}

const withoutParity = 0xFEFEFEFEFEFEFEFE

// What a key is refused for.
var (
	ErrLength     = errors.New("the key has not 8, 16 or 24 bytes")
	ErrWeak       = errors.New("a part of the key is a weak or semi-weak DES key")
	ErrEqualParts = errors.New("two parts of the key are equal")
)

// WeakParts returns the weak and semi-weak keys, big-endian and with odd parity. They are published, and no secret.
func WeakParts() []uint64 { return slices.Clone(weakParts[:]) }

// Check refuses a key with a weak part, or with two equal parts, whatever its parity bits are: with those two-key triple DES is single
// DES, and three-key triple DES single DES or no more than two-key.
func Check(key []byte) error {
	switch {
	case len(key) == 0 || len(key) > 3*PartSize || len(key)%PartSize != 0:
		return ErrLength
	case HasWeakPart(key):
		return ErrWeak
	case HasEqualParts(key):
		return ErrEqualParts
	}
	return nil
}

// HasWeakPart reports whether a part is a weak or semi-weak key, whatever its parity bits are. The key's length is as Check has it.
func HasWeakPart(key []byte) bool {
	var weak uint64
	for at := 0; at < len(key); at += PartSize {
		for _, w := range weakParts {
			weak |= same(part(key, at), w&withoutParity)
		}
	}
	return weak != 0
}

// HasEqualParts reports whether two parts are equal but for their parity bits. The key's length is as Check has it.
func HasEqualParts(key []byte) bool {
	var equal uint64
	for at := 0; at < len(key); at += PartSize {
		for other := 0; other < at; other += PartSize {
			equal |= same(part(key, at), part(key, other))
		}
	}
	return equal != 0
}

// part is the part of the key that begins at a byte, without its parity bits.
func part(key []byte, at int) uint64 { return binary.BigEndian.Uint64(key[at:]) & withoutParity }

// same is 1 of equal values and 0 of others.
func same(a, b uint64) uint64 {
	d := a ^ b
	return ^(d | -d) >> 63
}

// EvenBytes returns the places, from 1, of the bytes whose parity is even: a DES key has odd parity in each.
func EvenBytes(key []byte) (places []int) {
	for i, b := range key {
		if bits.OnesCount8(b)%2 == 0 {
			places = append(places, i+1)
		}
	}
	return places
}

// SetOddParity sets the lowest bit of each byte so that its parity is odd. DES does not use these bits: the key stays the same key.
func SetOddParity(key []byte) {
	for i, b := range key {
		key[i] = b&0xFE | byte(1^bits.OnesCount8(b>>1)&1)
	}
}
