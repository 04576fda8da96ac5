package purse

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
)

// MAC is the four bytes of a MAC or TAC on the wire (EPURSE.md §4).
type MAC = [cbcmac.Size]byte

// Fen is an amount or a balance in fen (分), four bytes big-endian on the wire.
type Fen uint32

// NewFen makes an amount of a number that a caller wrote in the named field; one that does not fit in four bytes is refused.
func NewFen(field string, n uint64) (Fen, error) {
	if n > math.MaxUint32 {
		return 0, fieldErrorf(field, "%d fen do not fit in four bytes", n)
	}
	return Fen(n), nil
}

// ParseFen reads the four bytes of an amount as eight hex digits.
func ParseFen(field, text string) (Fen, error) {
	b, err := ParseHex(field, text, 4)
	if err != nil {
		return 0, err
	}
	return fenOf(b), nil
}

func fenOf(b []byte) Fen { return Fen(binary.BigEndian.Uint32(b)) }

func (f Fen) appendTo(b []byte) []byte { return binary.BigEndian.AppendUint32(b, uint32(f)) }

// Limit is an overdraft limit in fen, three bytes big-endian on the wire. A value above MaxLimit is invalid.
type Limit uint32

// MaxLimit is the largest overdraft limit, FFFFFF.
const MaxLimit Limit = 1<<24 - 1

// NewLimit makes a limit of a number that a caller wrote in the named field; one that does not fit in three bytes is refused.
func NewLimit(field string, n uint64) (Limit, error) {
	if n > uint64(MaxLimit) {
		return 0, fieldErrorf(field, "%d fen do not fit in three bytes", n)
	}
	return Limit(n), nil
}

// ParseLimit reads the three bytes of a limit as six hex digits.
func ParseLimit(field, text string) (Limit, error) {
	b, err := ParseHex(field, text, 3)
	if err != nil {
		return 0, err
	}
	return limitOf(b), nil
}

func limitOf(b []byte) Limit { return Limit(b[0])<<16 | Limit(b[1])<<8 | Limit(b[2]) }

func (l Limit) appendTo(b []byte) []byte { return append(b, byte(l>>16), byte(l>>8), byte(l)) }

// Terminal is a terminal number, six bytes.
type Terminal [6]byte

// ParseTerminal reads the twelve hex digits of the field terminalId.
func ParseTerminal(text string) (t Terminal, err error) {
	b, err := ParseHex("terminalId", text, len(t))
	if err != nil {
		return t, err
	}
	return Terminal(b), nil
}

// String writes twelve upper-case hex digits.
func (t Terminal) String() string { return upperHex(t[:]) }

// Random is the card's 4-byte random R, or a 4-byte challenge.
type Random [4]byte

// ParseRandom reads the eight hex digits of the named field.
func ParseRandom(field, text string) (r Random, err error) {
	b, err := ParseHex(field, text, len(r))
	if err != nil {
		return r, err
	}
	return Random(b), nil
}

// String writes eight upper-case hex digits.
func (r Random) String() string { return upperHex(r[:]) }

// Counter is an online or offline transaction counter, ONSN or OFFSN, as the card returned it: before it is incremented.
type Counter uint16

// CounterExhausted is where a card's counter ends: it takes no further transaction (EPURSE.md §5.6, 9402).
const CounterExhausted Counter = math.MaxUint16

// ParseCounter reads the four hex digits of the field counter.
func ParseCounter(text string) (Counter, error) {
	b, err := ParseHex("counter", text, 2)
	if err != nil {
		return 0, err
	}
	return counterOf(b), nil
}

func counterOf(b []byte) Counter { return Counter(binary.BigEndian.Uint16(b)) }

func (c Counter) appendTo(b []byte) []byte { return binary.BigEndian.AppendUint16(b, uint16(c)) }

// String writes four upper-case hex digits, as transaction ids carry them.
func (c Counter) String() string { return fmt.Sprintf("%04X", uint16(c)) }

// TSN is a terminal transaction serial, four bytes; a terminal's secure module never repeats one (EPURSE.md §7).
type TSN uint32

// ParseTSN reads the eight hex digits of the field terminalSerial.
func ParseTSN(text string) (TSN, error) {
	b, err := ParseHex("terminalSerial", text, 4)
	if err != nil {
		return 0, err
	}
	return tsnOf(b), nil
}

func tsnOf(b []byte) TSN { return TSN(binary.BigEndian.Uint32(b)) }

func (t TSN) appendTo(b []byte) []byte { return binary.BigEndian.AppendUint32(b, uint32(t)) }

// String writes eight upper-case hex digits.
func (t TSN) String() string { return fmt.Sprintf("%08X", uint32(t)) }

// KVER is the key version byte that a card answers with; it chooses the version of the key.
type KVER uint8

// ALG is the algorithm byte that a card answers with. It chooses nothing: the key set fixes the algorithm, and a profile
// may refuse unexpected values ([Profile.AcceptsALG]). No MAC covers it.
type ALG uint8
