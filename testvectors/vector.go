package testvectors

import (
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// File is one file of vectors, read and checked.
type File struct {
	Name    string   // of an embedded file; empty for one that Load read
	SHA256  [32]byte // of its bytes
	Vectors []Vector
}

// Vector is one operation with what must come out of it.
type Vector struct {
	ID        string // unique in its file
	Source    string // where its numbers come from: its own source, or else the file's
	Operation Operation
	Algorithm suite.Algorithm

	// Out is what must come out, a part of what the operation makes and never nothing.
	Out map[Value][]byte

	// Refused is the one value of Out that is wrong and that verification must refuse; empty when all of Out is right.
	Refused Value

	main, tac givenKey
	task      task
}

// task is what a vector does, with its inputs.
type task interface {
	// kind is what the vector's main key is for.
	kind() keyderive.Kind

	// makes says whether the operation makes the value, and names what is missing for it.
	makes(value Value) error

	// certified is what the TAC covers; nil where makes refuses one.
	certified() []byte

	// run computes and compares those of values that come of the main key, which is on loan as card: all but the card key
	// and the TAC.
	run(card keyderive.Card, values outputs, into *results) error
}

// outputs are the expected values of one vector.
type outputs struct {
	alg     suite.Algorithm
	out     map[Value][]byte
	refused Value
}

// wants reports whether the vector gives the value.
func (o outputs) wants(value Value) bool { return o.out[value] != nil }

// wantsAny reports whether the vector gives one of the values.
func (o outputs) wantsAny(values ...Value) bool { return slices.ContainsFunc(values, o.wants) }

// Operation names what a vector computes.
type Operation string

// The operations.
const (
	OperationDiversify    Operation = "diversify"    // EPURSE.md §2
	OperationLoad         Operation = "load"         // §5.1
	OperationUnload       Operation = "unload"       // §5.3
	OperationPurchase     Operation = "purchase"     // §5.2: purchase, cash withdrawal and compound, as in.type tells
	OperationOverdraft    Operation = "overdraft"    // §5.4
	OperationTAC          Operation = "tac"          // one TAC by in.type
	OperationCommand      Operation = "command"      // §6
	OperationAuthenticate Operation = "authenticate" // §6
)

// Operations returns every operation once, in the order of reports.
func Operations() []Operation {
	return []Operation{
		OperationDiversify, OperationLoad, OperationUnload, OperationPurchase, OperationOverdraft, OperationTAC,
		OperationCommand, OperationAuthenticate,
	}
}

// Value names one output.
type Value string

// The values. Card and session keys are compared without DES parity bits.
const (
	CardKeyValue    Value = "cardKey"    // 16 bytes
	SessionKeyValue Value = "sessionKey" // 8 bytes in the 3DES suite, 16 in the SM4 suite
	MAC1Value       Value = "mac1"
	MAC2Value       Value = "mac2"
	MAC3Value       Value = "mac3"
	TACValue        Value = "tac"
	APDUValue       Value = "apdu"
	CryptogramValue Value = "cryptogram"
)

// Values returns every value once, in the order in which an operation is reported.
func Values() []Value {
	return []Value{
		CardKeyValue, SessionKeyValue, MAC1Value, MAC2Value, MAC3Value, TACValue, APDUValue, CryptogramValue,
	}
}

// isMAC reports whether the value is a MAC or TAC, four bytes, which alone may be expected to be refused.
func (v Value) isMAC() bool {
	return v == MAC1Value || v == MAC2Value || v == MAC3Value || v == TACValue
}

// checkLen refuses a value of a length that it never has.
func (v Value) checkLen(alg suite.Algorithm, n int) error {
	var lengths []int
	switch {
	case v.isMAC():
		lengths = []int{4}
	case v == CardKeyValue:
		lengths = []int{suite.KeySize}
	case v == SessionKeyValue:
		lengths = []int{alg.BlockSize()}
	case v == CryptogramValue:
		lengths = []int{8, 16}
	}
	if n == 0 || lengths != nil && !slices.Contains(lengths, n) {
		return fmt.Errorf("%d bytes, expected %v", n, lengths)
	}
	return nil
}

// givenKey is a key as a vector gives it: a master with the factors of its levels, or a card key. The zero value is no key.
type givenKey struct {
	bytes   []byte
	factors []keyderive.Factor // root first; of a card key, none
}

func (g givenKey) given() bool { return g.bytes != nil }

// split is the issuer levels and the card's factor; ok is false for a key that is a card key as it stands.
func (g givenKey) split() (issuer keyderive.Path, card keyderive.Factor, ok bool) {
	return keyderive.RootFirst(g.factors...).Split()
}
