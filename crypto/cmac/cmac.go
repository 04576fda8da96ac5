// Package cmac is the CMAC of NIST SP 800-38B (ISO/IEC 9797-1 algorithm 5) over any block cipher of 8 or 16 bytes: 3DES, AES, SM4.
//
// The key blocks of package keyblock are derived and authenticated by it, and the check values of AES keys are made by it.
package cmac

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// What is added to a subkey that is shifted out of its block (SP 800-38B, §5.3).
const (
	carry64  = 0x1B
	carry128 = 0x87
)

const longBlock = 16

// Sum returns the whole CMAC of a message of any length, as long as a block. It keeps nothing of the message: what it held of it
// meanwhile is zeroed. It panics on a cipher of another block size.
func Sum(block cipher.Block, message []byte) []byte {
	size := block.BlockSize()
	var subkey, state [longBlock]byte
	defer clear(subkey[:])
	defer clear(state[:])
	k, mac := subkey[:size], state[:size]
	block.Encrypt(k, k)
	double(k) // K1
	for len(message) > size {
		subtle.XORBytes(mac, mac, message[:size])
		block.Encrypt(mac, mac)
		message = message[size:]
	}
	subtle.XORBytes(mac, mac, message)
	if len(message) < size {
		mac[len(message)] ^= 0x80
		double(k) // K2
	}
	subtle.XORBytes(mac, mac, k)
	block.Encrypt(mac, mac)
	return append([]byte(nil), mac...)
}

// double multiplies by x in the field of the block's size, in constant time.
func double(k []byte) {
	carry := byte(carry64)
	switch len(k) {
	case longBlock / 2:
	case longBlock:
		carry = carry128
	default:
		panic(fmt.Sprintf("cmac: a cipher of %d-byte blocks", len(k)))
	}
	out := k[0] >> 7
	for i := range len(k) - 1 {
		k[i] = k[i]<<1 | k[i+1]>>7
	}
	k[len(k)-1] = k[len(k)-1]<<1 ^ carry*out
}
