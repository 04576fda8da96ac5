package purse

import "fmt"

// SW is a status word, the last two bytes of a card's answer (EPURSE.md §5.6).
type SW uint16

// The status words of EPURSE.md §5.6, and two of ISO/IEC 7816-4: a record that is not there, and a card that is broken.
const (
	SWOK               SW = 0x9000
	SWPINWrong         SW = 0x63C0 // with the tries left in the last digit; see SWPINTries
	SWLength           SW = 0x6700
	SWState            SW = 0x6901
	SWBlocked          SW = 0x6983
	SWNoChallenge      SW = 0x6984
	SWConditions       SW = 0x6985
	SWSecureMAC        SW = 0x6988
	SWData             SW = 0x6A80
	SWFunction         SW = 0x6A81
	SWNotFound         SW = 0x6A82
	SWRecordNotFound   SW = 0x6A83
	SWParameters       SW = 0x6A86
	SWInstruction      SW = 0x6D00
	SWClass            SW = 0x6E00
	SWFault            SW = 0x6F00
	SWMAC              SW = 0x9302
	SWLocked           SW = 0x9303
	SWBalance          SW = 0x9401
	SWCounterExhausted SW = 0x9402
	SWKeyIndex         SW = 0x9403
	SWNoProve          SW = 0x9406
)

var swNames = map[SW]string{
	SWOK:               "ok",
	SWLength:           "wrong length",
	SWState:            "wrong state for this command",
	SWBlocked:          "authentication method blocked",
	SWNoChallenge:      "no challenge",
	SWConditions:       "conditions of use not satisfied",
	SWSecureMAC:        "secure-messaging MAC wrong",
	SWData:             "wrong data",
	SWFunction:         "function not supported or blocked",
	SWNotFound:         "file not found",
	SWRecordNotFound:   "record not found",
	SWParameters:       "wrong P1 P2",
	SWInstruction:      "unknown instruction",
	SWClass:            "unknown class",
	SWFault:            "card fault",
	SWMAC:              "transaction MAC wrong",
	SWLocked:           "application permanently locked",
	SWBalance:          "balance too low",
	SWCounterExhausted: "transaction counter exhausted",
	SWKeyIndex:         "key index unknown",
	SWNoProve:          "no transaction prove",
}

// SWPINTries is the status word "PIN wrong, n tries left", 63Cn; n is at most 15.
func SWPINTries(n int) SW { return SWPINWrong | SW(n&0x0F) }

// PINTries returns the tries left that a status word 63Cn tells.
func (s SW) PINTries() (n int, ok bool) { return int(s & 0x0F), s&0xFFF0 == SWPINWrong }

// Name is the meaning of the status word, empty when EPURSE.md §5.6 gives none.
func (s SW) Name() string {
	if n, ok := s.PINTries(); ok {
		return fmt.Sprintf("PIN wrong, %d tries left", n)
	}
	return swNames[s]
}

// String is four upper-case hex digits and the name.
func (s SW) String() string {
	if name := s.Name(); name != "" {
		return fmt.Sprintf("%04X %s", uint16(s), name)
	}
	return fmt.Sprintf("%04X", uint16(s))
}

// SplitAnswer splits a card's whole answer into its data and its status word.
func SplitAnswer(answer []byte) (data []byte, sw SW, err error) {
	n := len(answer) - 2
	if n < 0 {
		return nil, 0, fieldErrorf("answer", "%d bytes, expected at least 2", len(answer))
	}
	return answer[:n], SW(answer[n])<<8 | SW(answer[n+1]), nil
}
