package hsm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// AES-256-CCM (NIST SP 800-38C, with a nonce of 12 bytes and a tag of 16), for tokens without AES-GCM: composed of the two calls that every
// token has, and of the one right to encrypt. The message is a master of one block.
//
//	C_Encrypt CBC, IV 0:  B0 | length and associated data, padded | message   →  its last block is the tag T
//	C_Encrypt ECB:        A0 | A1                                             →  S0 | S1
//	sealed:               message ⊕ S1 | T ⊕ S0
const (
	aesBlock = 16

	ccmMACFlags     = 1<<6 | (tagSize-2)/2<<3 | ccmCounterFlags // associated data; the tag's size; the counter's
	ccmCounterFlags = 3 - 1                                     // a counter of 3 bytes
)

// errTag says that a ciphertext does not belong to its tag.
var errTag = errors.New("the tag does not belong to the ciphertext")

// encryption is C_Encrypt under the sealing key. It writes over out, which is as long as in.
type encryption func(mechanism uint, iv, in, out []byte) error

// seal writes the sealed message, of cipherSize.
func (encrypt encryption) seal(iv, aad, message, sealed []byte) error {
	stream, err := encrypt.stream(iv)
	if err != nil {
		return err
	}
	defer stream.Wipe()
	tag, err := encrypt.tag(iv, aad, message)
	if err != nil {
		return err
	}
	defer tag.Wipe() // it is secret until it is hidden by the stream
	s := stream.Reveal("to hide the message and the tag")
	subtle.XORBytes(sealed[:aesBlock], message, s[aesBlock:])
	subtle.XORBytes(sealed[aesBlock:], tag.Reveal("the same"), s[:aesBlock])
	return nil
}

// open writes the message, or zeros with errTag. message is as long as one block.
func (encrypt encryption) open(iv, aad, sealed, message []byte) error {
	stream, err := encrypt.stream(iv)
	if err != nil {
		return err
	}
	defer stream.Wipe()
	s := stream.Reveal("to uncover the message and the tag")
	subtle.XORBytes(message, sealed[:aesBlock], s[aesBlock:])
	want := secret.New(tagSize)
	defer want.Wipe()
	subtle.XORBytes(want.Reveal("to uncover the tag"), sealed[aesBlock:], s[:aesBlock])
	tag, err := encrypt.tag(iv, aad, message)
	if err == nil {
		defer tag.Wipe()
		if !tag.Equal(want) {
			err = errTag
		}
	}
	if err != nil {
		clear(message)
	}
	return err
}

// stream is S0 | S1, in locked memory that the caller wipes.
func (encrypt encryption) stream(iv []byte) (secret.Bytes, error) {
	var counters [2 * aesBlock]byte
	for i := range 2 {
		block := counters[i*aesBlock:][:aesBlock]
		block[0] = ccmCounterFlags
		copy(block[1:], iv)
		block[aesBlock-1] = byte(i)
	}
	out := secret.New(len(counters))
	if err := encrypt(pkcs11.CKM_AES_ECB, nil, counters[:], out.Reveal("to receive the key stream from the token")); err != nil {
		out.Wipe()
		return secret.Bytes{}, err
	}
	return out, nil
}

// tag is T of one block of message, in locked memory that the caller wipes. The message lies in locked memory alone.
func (encrypt encryption) tag(iv, aad, message []byte) (secret.Bytes, error) {
	associated := (2 + len(aad) + aesBlock - 1) / aesBlock * aesBlock
	in := secret.New(aesBlock + associated + aesBlock)
	defer in.Wipe()
	b := in.Reveal("to write what the tag is of")
	b[0] = ccmMACFlags
	copy(b[1:], iv)
	b[aesBlock-1] = aesBlock                                   // the message's length
	binary.BigEndian.PutUint16(b[aesBlock:], uint16(len(aad))) // a label's, far below the 65,280 that it has to be
	copy(b[aesBlock+2:], aad)
	copy(b[aesBlock+associated:], message)
	chain := secret.New(len(b))
	defer chain.Wipe()
	out := chain.Reveal("to receive the chain of the tag from the token")
	if err := encrypt(pkcs11.CKM_AES_CBC, zeros[:], b, out); err != nil {
		return secret.Bytes{}, err
	}
	return secret.Copy(out[len(out)-tagSize:]), nil
}
