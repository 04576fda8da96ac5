package hsm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// AES key wrap (RFC 3394, NIST SP 800-38F KW) of a master of 16 bytes: two blocks R1 | R2 of 8 bytes and the register A, six times over
//
//	A | Ri  =  AES(A | Ri),  A = A ⊕ t
//
// A token has it as CKM_AES_KEY_WRAP; where it has not (Profile.NoKeyWrap) the same bytes are composed of its AES in ECB mode.
const (
	wrapRounds  = 6
	wrapBlock   = 8
	wrappedSize = suite.KeySize + wrapBlock
)

// wrapStart is what A begins with, and must end as: the integrity check of the wrapping.
var wrapStart = [wrapBlock]byte{0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6}

// errUnwrap says that a wrapped key was not made under the key that it is opened with, or was altered.
var errUnwrap = errors.New("the integrity check of the wrapped key fails")

// aesBlocks is one direction of AES over one block: out is as long as in, and may be the same.
type aesBlocks func(in, out []byte) error

// keyWrap wraps key. Its blocks lie in locked memory until they are encrypted.
func keyWrap(encrypt aesBlocks, key secret.Bytes) ([]byte, error) {
	room := secret.New(wrappedSize + aesBlock) // A | R1 | R2, and one block for the cipher
	defer room.Wipe()
	b := room.Reveal("to wrap a key")
	state, block := b[:wrappedSize], b[wrappedSize:]
	copy(state, wrapStart[:])
	copy(state[wrapBlock:], key.Reveal("the same"))
	for t := uint64(1); t <= wrapRounds*2; t++ {
		r := state[wrapBlock*(1+(t-1)%2):][:wrapBlock]
		copy(block, state[:wrapBlock])
		copy(block[wrapBlock:], r)
		if err := encrypt(block, block); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint64(state, binary.BigEndian.Uint64(block)^t)
		copy(r, block[wrapBlock:])
	}
	return append([]byte(nil), state...), nil
}

// keyUnwrap is the inverse, or errUnwrap. The caller wipes the key.
func keyUnwrap(decrypt aesBlocks, wrapped []byte) (secret.Bytes, error) {
	if len(wrapped) != wrappedSize {
		return secret.Bytes{}, errUnwrap
	}
	room := secret.New(wrappedSize + aesBlock)
	defer room.Wipe()
	b := room.Reveal("to unwrap a key")
	state, block := b[:wrappedSize], b[wrappedSize:]
	copy(state, wrapped)
	for t := uint64(wrapRounds * 2); t > 0; t-- {
		r := state[wrapBlock*(1+(t-1)%2):][:wrapBlock]
		binary.BigEndian.PutUint64(block, binary.BigEndian.Uint64(state)^t)
		copy(block[wrapBlock:], r)
		if err := decrypt(block, block); err != nil {
			return secret.Bytes{}, err
		}
		copy(state, block[:wrapBlock])
		copy(r, block[wrapBlock:])
	}
	if subtle.ConstantTimeCompare(state[:wrapBlock], wrapStart[:]) != 1 {
		return secret.Bytes{}, errUnwrap
	}
	return secret.Copy(state[wrapBlock:]), nil
}
