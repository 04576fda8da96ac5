package keyblock

import (
	"context"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/pursekeeper/pursekeeper/crypto/cmac"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// lengthSize is that of the key's length, in front of the key.
const lengthSize = 2

// PaddingSize is how many random bytes Wrap is to be given after a key of so many bytes, so that the block does not show how long the key
// is: it is filled up to the longest of its algorithm and then to whole blocks of the cipher (X9.143, key length obfuscation).
func PaddingSize(v Version, a Algorithm, key int) int {
	size := v.blockSize()
	longest := key
	if sizes := a.keySizes(); sizes != nil {
		longest = max(key, slices.Max(sizes))
	}
	return (lengthSize+longest+size-1)/size*size - lengthSize - key
}

// Wrap makes a key block. padding is random bytes, PaddingSize of them, or as many as fill the last block. Errors of the header and the key
// are FieldError, of a protection key of another version ErrProtector. key and padding stay the caller's.
func Wrap(ctx context.Context, p Protector, h Header, key secret.Bytes, padding []byte) (string, error) {
	n := lengthSize + key.Len() + len(padding)
	head, err := h.write(n)
	if err != nil {
		return "", err
	}
	if err := h.checkKeySize(p, key.Len()); err != nil {
		return "", err
	}
	if n%h.Version.blockSize() != 0 {
		return "", fault(FieldPadding, -1, strconv.Itoa(len(padding)), fmt.Sprintf("so many bytes that the payload is a multiple of %d", h.Version.blockSize()))
	}
	w, err := derive(ctx, p, h.Version)
	if err != nil {
		return "", err
	}
	whole := secret.New(len(head) + n) // holds the key in clear from here to the end of this function
	defer whole.Wipe()
	clearText := whole.Reveal("to write the payload of a key block")
	payload := clearText[copy(clearText, head):]
	binary.BigEndian.PutUint16(payload, uint16(8*key.Len()))
	copy(payload[lengthSize:], key.Reveal("to wrap it"))
	copy(payload[lengthSize+key.Len():], padding)

	mac := cmac.Sum(w.authentication, clearText)
	cipher.NewCBCEncrypter(w.encryption, mac).CryptBlocks(payload, payload) // in place: the key in clear is gone
	return string(head) + upperHex(payload) + upperHex(mac), nil
}

// checkKeySize refuses a key of a length that its algorithm does not have, and one that is stronger than what protects it.
func (h *Header) checkKeySize(p Protector, size int) error {
	sizes := h.Algorithm.keySizes()
	if !slices.Contains(sizes, size) {
		return fault(FieldKeyLength, -1, strconv.Itoa(8*size), fmt.Sprintf("8 times one of %v, in bits, of algorithm %c", sizes, h.Algorithm))
	}
	if h.Algorithm == AlgorithmAES && p != nil && size > p.Cipher().KeySize() {
		return fault(FieldKeyLength, -1, strconv.Itoa(8*size), fmt.Sprintf("at most the %d bits of its protection key", 8*p.Cipher().KeySize()))
	}
	return nil
}

// Unwrapped is a key block whose MAC was right.
type Unwrapped struct {
	Header  Header
	Key     secret.Bytes
	Padding secret.Bytes // what filled the payload up; it means nothing, and may be anything
	Parity  Parity
}

// Wipe wipes the key and its padding.
func (u *Unwrapped) Wipe() {
	u.Key.Wipe()
	u.Padding.Wipe()
}

// Unwrap verifies and opens a key block. The MAC is compared, in constant time, before anything of the payload is looked at: a wrong one
// is ErrMAC. Errors of the text and of a payload that lies are FieldError. Parity is reported and not repaired; whether it matters is the
// caller's to say. The caller wipes what it gets.
func Unwrap(ctx context.Context, p Protector, text string) (*Unwrapped, error) {
	b, err := Parse(text)
	if err != nil {
		return nil, err
	}
	w, err := derive(ctx, p, b.Header.Version)
	if err != nil {
		return nil, err
	}
	whole := secret.New(b.size + len(b.payload)) // holds the key in clear from here to the end of this function
	defer whole.Wipe()
	clearText := whole.Reveal("to decrypt the payload of a key block")
	payload := clearText[copy(clearText, text[:b.size]):]
	cipher.NewCBCDecrypter(w.encryption, b.mac).CryptBlocks(payload, b.payload)
	if subtle.ConstantTimeCompare(cmac.Sum(w.authentication, clearText), b.mac) != 1 {
		return nil, ErrMAC
	}
	bits := int(binary.BigEndian.Uint16(payload))
	rest := payload[lengthSize:]
	if bits%8 != 0 || bits/8 > len(rest) {
		return nil, fault(FieldKeyLength, -1, strconv.Itoa(bits), fmt.Sprintf("whole bytes, at most the %d of the payload", len(rest)))
	}
	size := bits / 8
	if err := b.Header.checkKeySize(p, size); err != nil {
		return nil, err
	}
	u := &Unwrapped{Header: b.Header, Key: secret.Copy(rest[:size]), Padding: secret.Copy(rest[size:]), Parity: notDES}
	if b.Header.Algorithm == AlgorithmTDES {
		u.Parity = parityOf(rest[:size])
	}
	return u, nil
}

// Parity is what the parity bits of a DES key are: each byte's lowest. No cipher uses them, and some HSMs insist on them. The zero value is
// invalid.
type Parity uint8

// The parities.
const (
	notDES     Parity = iota + 1 // the key has none
	ParityOdd                    // every byte has an odd number of ones, as DES keys are to have
	ParityEven                   // every byte has an even number: the key was adjusted by somebody who took the other rule
	ParityNone                   // neither: the key's bytes are as random as its bits
)

var parityNames = [...]string{notDES: "of no DES key", ParityOdd: "odd", ParityEven: "even", ParityNone: "not adjusted"}

// String is a name for reports, such as "odd".
func (p Parity) String() string {
	if p >= notDES && int(p) < len(parityNames) {
		return parityNames[p]
	}
	return fmt.Sprintf("invalid parity %d", uint8(p))
}

// parityOf looks at every byte of a key, without a table or a branch on one.
func parityOf(key []byte) Parity {
	ones := 0
	for _, b := range key {
		b ^= b >> 4
		b ^= b >> 2
		b ^= b >> 1
		ones += int(b & 1)
	}
	switch ones {
	case len(key):
		return ParityOdd
	case 0:
		return ParityEven
	}
	return ParityNone
}
