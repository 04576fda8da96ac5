package keyblock

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Block is a key block whose form was read and whose MAC was not verified: good for showing what it claims to be, and nothing else.
type Block struct {
	Header Header

	text    string
	size    int    // of the header in the text
	payload []byte // encrypted
	mac     []byte
}

// Parse reads the form of a key block; errors are FieldError. A block that it takes is the one that String writes.
func Parse(text string) (*Block, error) {
	h, size, err := readHeader(text)
	if err != nil {
		return nil, err
	}
	b := &Block{Header: h, text: text, size: size}
	macAt := len(text) - h.Version.macDigits()
	least := 2 * h.Version.blockSize() // no key is shorter than a block, with the length before it
	if macAt-size < 2*least {
		return nil, fault(FieldPayload, size, strconv.Itoa(max(macAt-size, 0)), fmt.Sprintf("at least %d hex digits before a MAC of %d", 2*least, h.Version.macDigits()))
	}
	if (macAt-size)%(2*h.Version.blockSize()) != 0 {
		return nil, fault(FieldPayload, size, strconv.Itoa(macAt-size), fmt.Sprintf("a multiple of %d hex digits", 2*h.Version.blockSize()))
	}
	if b.payload, err = readHex(FieldPayload, text, size, macAt); err != nil {
		return nil, err
	}
	if b.mac, err = readHex(FieldMAC, text, macAt, len(text)); err != nil {
		return nil, err
	}
	return b, nil
}

// String is the text of the block.
func (b *Block) String() string { return b.text }

// readHex reads upper-case digits, the only ones that a key block has.
func readHex(field Field, text string, from, to int) ([]byte, error) {
	for i := from; i < to; i++ {
		if _, ok := hexNumber(text[i : i+1]); !ok {
			return nil, fault(field, i, text[i:i+1], "an upper-case hex digit")
		}
	}
	return hex.DecodeString(text[from:to])
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
