// Package retailmac is the secure-messaging MAC of the 3DES suite: ISO/IEC 9797-1 algorithm 3 with padding method 2, as
// EPURSE.md §4 uses it.
//
//	x    = single-DES CBC under the left half L over all blocks, from iv
//	MAC  = E_L( D_R( x ) )
//
// which is, block for block, CBC under L for all blocks but the last, and one two-key EDE block under L‖R for the last.
// A token without single-DES halves computes it in that second form, and so does this package, so that both engines run
// the same steps.
package retailmac

import (
	"crypto/cipher"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/pad"
)

const blockSize = 8

// CBC computes one CBC encryption of a whole number of blocks under one key and returns its last block. It is how an
// engine lends this package a key without showing it.
type CBC func(iv, padded []byte) ([]byte, error)

// Sum pads data with 80 00… and returns the whole last block of the retail MAC. left computes under L (that is, L‖L as a
// two-key 3DES key), whole under L‖R; iv is eight bytes.
func Sum(left, whole CBC, iv, data []byte) ([]byte, error) {
	padded := pad.Always(data, blockSize)
	head, last := padded[:len(padded)-blockSize], padded[len(padded)-blockSize:]
	if len(head) > 0 {
		var err error
		if iv, err = left(iv, head); err != nil {
			return nil, err
		}
	}
	return whole(iv, last)
}

// Under is the CBC of a block cipher held in memory.
func Under(block cipher.Block) CBC {
	return func(iv, padded []byte) ([]byte, error) { return cbcmac.Chain(block, iv, padded) }
}
