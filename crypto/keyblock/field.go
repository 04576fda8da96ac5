package keyblock

import (
	"errors"
	"fmt"
)

// Field is a part of a key block, for [FieldError]. The zero value is invalid.
type Field uint8

// The fields, in their order in the block; the last three are of the payload, and known only when its MAC was right.
const (
	FieldText Field = iota + 1 // the text as a whole: a character that no key block has
	FieldVersion
	FieldLength
	FieldUsage
	FieldAlgorithm
	FieldMode
	FieldKeyVersion
	FieldExportability
	FieldOptionalCount
	FieldReserved
	FieldOptionalID
	FieldOptionalLength
	FieldOptionalData
	FieldPadBlock // the optional block PB
	FieldPayload  // in its encrypted form
	FieldMAC      // its digits; a MAC that is wrong is ErrMAC

	FieldKeyLength
	FieldKey
	FieldPadding
)

var fieldNames = [...]string{
	FieldText: "text", FieldVersion: "version", FieldLength: "length", FieldUsage: "key usage", FieldAlgorithm: "algorithm",
	FieldMode: "mode of use", FieldKeyVersion: "key version number", FieldExportability: "exportability",
	FieldOptionalCount: "number of optional blocks", FieldReserved: "reserved field", FieldOptionalID: "optional block id",
	FieldOptionalLength: "optional block length", FieldOptionalData: "optional block data", FieldPadBlock: "padding block PB",
	FieldPayload: "encrypted key", FieldMAC: "MAC", FieldKeyLength: "key length", FieldKey: "key", FieldPadding: "key padding",
}

// String is the name in errors, such as "mode of use".
func (f Field) String() string {
	if f >= FieldText && int(f) < len(fieldNames) {
		return fieldNames[f]
	}
	return fmt.Sprintf("invalid field %d", uint8(f))
}

// FieldError says which field of a key block, or of the header that is to become one, is not what it has to be. It holds no secret:
// what it quotes is of the header, which is not encrypted, and at most a few characters of it.
type FieldError struct {
	Field Field
	At    int    // the place in the text, from 0; of a field of the payload, and of a header that is no text yet, -1
	Got   string // what is there; empty where the fault is no few characters
	Want  string
}

func (e *FieldError) Error() string {
	text := "key block: " + e.Field.String()
	if e.At >= 0 {
		text += fmt.Sprintf(" at %d", e.At)
	}
	if e.Got != "" {
		text += fmt.Sprintf(": %q", e.Got)
	}
	return text + ": expected " + e.Want
}

// fault makes a FieldError; at is -1 where there is no place.
func fault(field Field, at int, got, want string) error {
	return &FieldError{Field: field, At: at, Got: got, Want: want}
}

// What callers tell apart with errors.Is.
var (
	// ErrMAC: the block was altered, or made under another key block protection key. Nothing of the key was looked at.
	ErrMAC = errors.New("key block: the MAC does not verify: the block was altered, or is under another protection key")
	// ErrProtector: the protection key is of another cipher than the version of the block needs, or not one at all.
	ErrProtector = errors.New("key block: protection key")
	// ErrCheckValue: the key inside is not the one that the header names.
	ErrCheckValue = errors.New("key block: the key's check value is not the header's")
	// ErrNoPurse: the block is right, and no purse master's.
	ErrNoPurse = errors.New("key block: not a purse master")
)
