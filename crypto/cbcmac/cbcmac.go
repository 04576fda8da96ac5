// Package cbcmac is the CBC-MAC of EPURSE.md §4: ISO/IEC 9797-1 algorithm 1 with padding method 2, the leftmost four bytes
// sent.
//
// With single DES it is MAC1, MAC2, MAC3 and the TAC of the 3DES suite, with SM4 those of the SM4 suite and its secure
// messaging. It is safe here only because every covered message has a length fixed by its transaction type and every
// session key is used for one transaction; it is not a general-purpose MAC.
package cbcmac

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/pad"
)

// Size is the length of a MAC on the wire, in bytes.
const Size = 4

// Sum pads data with 80 00… and returns the whole last block of its CBC encryption under block from iv; callers send the
// leftmost Size bytes. iv is one block long; nil is the zero IV.
func Sum(block cipher.Block, iv, data []byte) ([]byte, error) {
	return Chain(block, iv, pad.Always(data, block.BlockSize()))
}

// Chain is Sum over a message that is padded already: a positive whole number of blocks.
func Chain(block cipher.Block, iv, padded []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(padded) == 0 || len(padded)%size != 0 {
		return nil, fmt.Errorf("cbc-mac input: %d bytes, expected a positive multiple of %d", len(padded), size)
	}
	state := make([]byte, size)
	if iv != nil {
		if len(iv) != size {
			return nil, fmt.Errorf("cbc-mac iv: %d bytes, expected %d", len(iv), size)
		}
		copy(state, iv)
	}
	for ; len(padded) > 0; padded = padded[size:] {
		subtle.XORBytes(state, state, padded[:size])
		block.Encrypt(state, state)
	}
	return state, nil
}

// Leftmost returns the Size bytes of a MAC block that go on the wire.
func Leftmost(block []byte) [Size]byte { return [Size]byte(block[:Size]) }

// Equal compares two MACs in constant time.
func Equal(a, b [Size]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
