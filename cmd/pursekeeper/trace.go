package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
)

// trace prints what a card, the signer and whoever stands between them say, a line each. No PIN is in it.
type trace struct{ out io.Writer }

// say prints one line of the trace.
func (t trace) say(who, what, value string) {
	fmt.Fprintln(t.out, strings.TrimRight(fmt.Sprintf("   %-8s %-23s %s", who, what, value), " "))
}

// layout is the widths of a message's fields in bytes, for the trace; what is left over stands in one piece.
type layout []int

var (
	initializeLayout     = layout{1, 4, 6}             // KI AMT TERM
	initializeLimLayout  = layout{1, 6}                // KI TERM
	initAnswerLayout     = layout{4, 2, 1, 1, 4, 4}    // BAL ONSN KVER ALG R MAC1
	limitAnswerLayout    = layout{4, 2, 3, 1, 1, 4, 4} // BAL ONSN OLDLIM KVER ALG R MAC1
	purchaseAnswerLayout = layout{4, 2, 3, 1, 1, 4}    // BAL OFFSN OVERDRAFT KVER ALG R
	completionLayout     = layout{4, 3, 4}             // DATE TIME MAC2, of a load and of an unload
	limitLayout          = layout{3, 4, 3, 4}          // NEWLIM DATE TIME MAC2
	debitLayout          = layout{4, 4, 3, 4}          // TSN DATE TIME MAC1
	debitAnswerLayout    = layout{4, 4}                // TAC MAC2
	proveLayout          = layout{4, 4}                // MAC TAC
	logLayout            = layout{2, 3, 4, 1, 6, 4, 3} // SN OVERDRAFT AMT TTI TERM DATE TIME
)

// group writes bytes as a payment log does: hex digits, a space between fields.
func (l layout) group(b []byte) string {
	var fields []string
	for _, width := range l {
		if len(b) <= width {
			break
		}
		fields = append(fields, plainHex(b[:width]))
		b = b[width:]
	}
	if len(b) > 0 {
		fields = append(fields, plainHex(b))
	}
	return strings.Join(fields, " ")
}

// pinUnblock is CLA and INS of PIN UNBLOCK. Its PIN is encrypted, under a key that is the same every time: the block tells the PIN
// to whoever has seen it once beside the digits.
var pinUnblock = [2]byte{0x84, 0x24}

// command writes an APDU with its header, Lc, data and Le apart. Data with a PIN in it, clear or encrypted, is left out.
func (l layout) command(a purse.APDU) string {
	raw := a.Bytes()
	if len(a.Data) == 0 {
		return layout{1, 1, 1, 1}.group(raw)
	}
	head, tail := layout{1, 1, 1, 1}.group(raw[:5]), raw[5+len(a.Data):]
	if a.CarriesPIN() || [2]byte{a.CLA, a.INS} == pinUnblock {
		return head + "  [redacted]"
	}
	return strings.TrimSpace(head + "  " + l.group(a.Data) + "  " + plainHex(tail))
}

// answered writes what a card answered.
func (l layout) answered(data []byte, sw purse.SW) string {
	return strings.TrimSpace(l.group(data) + "  SW " + fmt.Sprintf("%04X", uint16(sw)))
}

// keyed says which key answered and how far from the token it was used.
func keyed(key *v1.Key, boundary v1.Boundary) string {
	if key == nil {
		return ""
	}
	return fmt.Sprintf("  key %s/%s/%d kcv %s, %s", key.Set, key.Kind, key.Version, key.Kcv,
		strings.TrimPrefix(boundary.String(), "BOUNDARY_"))
}

// proved prints what an answer proved about earlier transactions.
func (t trace) proved(settled []*v1.Settled) {
	for _, p := range settled {
		t.say("", "  and so", fmt.Sprintf("%s  %s, by %s", plain(p.Outcome), p.TransactionId,
			strings.ToLower(strings.TrimPrefix(p.Evidence.String(), "EVIDENCE_"))))
	}
}

func plain(o v1.Outcome) string { return strings.TrimPrefix(o.String(), "OUTCOME_") }

// expect is an error when the signer's outcome is another.
func expect(got, want v1.Outcome, detail string) error {
	if got == want {
		return nil
	}
	return &refusedError{outcome: got, detail: detail}
}

// refusedError is the signer's refusal in a normal answer.
type refusedError struct {
	outcome v1.Outcome
	detail  string
}

func (e *refusedError) Error() string {
	text := "the signer refuses: " + plain(e.outcome)
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

func plainHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
