package purse

import "fmt"

// APDU is a command to a card in the short form of ISO/IEC 7816-4: CLA INS P1 P2 [Lc data] [Le].
type APDU struct {
	CLA, INS, P1, P2 byte
	Data             []byte // at most 255 bytes
	Expect           int    // bytes of answer expected, 1 to 256; 0 sends no Le
}

const (
	maxData   = 255
	maxExpect = 256
	headerLen = 4
)

// Bytes is the command as it goes to the card.
//
//	CLA(1) INS(1) P1(1) P2(1) [ Lc(1) DATA(Lc) ] [ Le(1), 00 means 256 ]
func (a APDU) Bytes() []byte {
	b := append(make([]byte, 0, headerLen+2+len(a.Data)), a.CLA, a.INS, a.P1, a.P2)
	if len(a.Data) > 0 {
		b = append(append(b, byte(len(a.Data))), a.Data...)
	}
	if a.Expect > 0 {
		b = append(b, byte(a.Expect))
	}
	return b
}

// Hex is the command in upper-case hex digits, as it goes to the card, with a PIN if it carries one.
func (a APDU) Hex() string { return upperHex(a.Bytes()) }

// CarriesPIN reports whether the data shows a PIN in the clear: VERIFY PIN and RELOAD PIN.
func (a APDU) CarriesPIN() bool { return a.INS == insVerify || a.INS == insReloadPIN }

// String is Hex, but for a command that carries a PIN in the clear its data is "[redacted]".
func (a APDU) String() string {
	if a.CarriesPIN() && len(a.Data) > 0 {
		return upperHex([]byte{a.CLA, a.INS, a.P1, a.P2, byte(len(a.Data))}) + redacted
	}
	return a.Hex()
}

// Format prints String under every verb, so that a struct dump shows no PIN.
func (a APDU) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, a.String()) }

// ParseAPDU reads a command in the short form; bytes that are missing or left over are an error.
func ParseAPDU(b []byte) (a APDU, err error) {
	const field = "apdu"
	if len(b) < headerLen {
		return a, fieldErrorf(field, "%d bytes, expected at least %d", len(b), headerLen)
	}
	a = APDU{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	rest := b[headerLen:]
	switch {
	case len(rest) == 0:
		return a, nil
	case len(rest) == 1:
		a.Expect = expectOf(rest[0])
		return a, nil
	}
	lc := int(rest[0])
	rest = rest[1:]
	if lc == 0 || len(rest) < lc || len(rest) > lc+1 {
		return APDU{}, fieldErrorf(field, "Lc %d, with %d bytes after it", lc, len(rest))
	}
	a.Data = append([]byte(nil), rest[:lc]...)
	if len(rest) > lc {
		a.Expect = expectOf(rest[lc])
	}
	return a, nil
}

func expectOf(le byte) int {
	if le == 0 {
		return maxExpect
	}
	return int(le)
}

// Instruction bytes of EPURSE.md §5 and §6. 80 DC is the update of the compound cache, 04 DC UPDATE RECORD.
const (
	insInitialize   = 0x50
	insCredit       = 0x52
	insDebit        = 0x54
	insOverdraft    = 0x58
	insProve        = 0x5A
	insBalance      = 0x5C
	insReloadPIN    = 0x5E
	insCardBlock    = 0x16
	insUnblock      = 0x18
	insBlock        = 0x1E
	insVerify       = 0x20
	insPINUnblock   = 0x24
	insExternal     = 0x82
	insChallenge    = 0x84
	insInternal     = 0x88
	insSelect       = 0xA4
	insReadBinary   = 0xB0
	insReadRecord   = 0xB2
	insWriteKey     = 0xD4
	insUpdateBinary = 0xD6
	insUpdateRecord = 0xDC
	insSAMInit      = 0x70 // of a terminal's secure module (§7)
	insSAMCredit    = 0x72
)

// Class bytes: the standard's own commands, the purse's, the purse's and the standard's with secure messaging.
const (
	claISO         = 0x00
	claISOSecure   = 0x04
	claPurse       = 0x80
	claPurseSecure = 0x84
)
