package store

import "math"

// TerminalKey names one terminal of a key set.
type TerminalKey struct {
	KeySet   string
	Terminal string // 12 hex digits
}

// Terminal is what is kept of a terminal: the serial numbers (TSN) that the signer gives it, as its secure module would.
type Terminal struct {
	// Last is the last serial number given, 0 before the first. It only rises, so that no serial number is given twice, whatever
	// becomes of the purchase that it was given for.
	Last uint32
}

// Next takes the next serial number; ok is false when all have been given.
func (t *Terminal) Next() (serial uint32, ok bool) {
	if t.Last == math.MaxUint32 {
		return 0, false
	}
	t.Last++
	return t.Last, true
}

// Terminal returns the terminal that the Change named. It panics when it named none.
func (p *Purse) Terminal() *Terminal {
	if p.terminal == nil {
		panic("store: a decision looked at a terminal that its change did not name")
	}
	return p.terminal
}
