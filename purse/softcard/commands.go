package softcard

import "github.com/pursekeeper/pursekeeper/purse"

// command is one row of the card's instruction table.
type command struct {
	run          func(c *Card, a purse.APDU, challenge []byte) ([]byte, error)
	always       bool // without the application selected, and whatever the application's lock
	whileBlocked bool // while the application is blocked for a time
}

// instruction is CLA and INS.
type instruction [2]byte

// find looks the command up: an unknown class is 6E00, an unknown instruction of a known class 6D00.
func find(a purse.APDU) (command, error) {
	if found, ok := table[instruction{a.CLA, a.INS}]; ok {
		return found, nil
	}
	switch a.CLA {
	case 0x00, 0x04, 0x80, 0x84:
		return command{}, refusal(purse.SWInstruction)
	}
	return command{}, refusal(purse.SWClass)
}

// table is the card's instructions (EPURSE.md §5, §6).
var table = map[instruction]command{
	{0x00, 0xA4}: {run: (*Card).selectFile, always: true},
	{0x00, 0x84}: {run: (*Card).getChallenge, always: true},
	{0x00, 0xB0}: {run: (*Card).readBinary},
	{0x00, 0xB2}: {run: (*Card).readRecord},
	{0x00, 0x20}: {run: (*Card).verifyPIN},
	{0x00, 0x82}: {run: (*Card).externalAuthenticate},
	{0x00, 0x88}: {run: (*Card).internalAuthenticate},

	{0x80, 0x50}: {run: (*Card).initialize},
	{0x80, 0x52}: {run: (*Card).creditForLoad},
	{0x80, 0x54}: {run: (*Card).debit},
	{0x80, 0x58}: {run: (*Card).updateOverdraft},
	{0x80, 0x5A}: {run: (*Card).transactionProve},
	{0x80, 0x5C}: {run: (*Card).balance},
	{0x80, 0x5E}: {run: (*Card).reloadPIN},
	{0x80, 0xDC}: {run: (*Card).updateCache},

	{0x84, 0x16}: {run: (*Card).cardBlock, whileBlocked: true},
	{0x84, 0x18}: {run: (*Card).applicationUnblock, whileBlocked: true},
	{0x84, 0x1E}: {run: (*Card).applicationBlock, whileBlocked: true},
	{0x84, 0x24}: {run: (*Card).pinUnblock},
	{0x84, 0xD4}: {run: (*Card).writeKey},
	{0x04, 0xD6}: {run: (*Card).updateBinary},
	{0x04, 0xDC}: {run: (*Card).updateRecord},
}

// parameters refuses P1 and P2 that are not those.
func parameters(a purse.APDU, p1, p2 byte) error {
	if a.P1 != p1 || a.P2 != p2 {
		return refusal(purse.SWParameters)
	}
	return nil
}

// length refuses data that is not size bytes.
func length(a purse.APDU, size int) error {
	if len(a.Data) != size {
		return refusal(purse.SWLength)
	}
	return nil
}

// want refuses an Le that is shorter than the answer, before anything is done; no Le, and a longer one, is accepted.
func want(a purse.APDU, size int) error {
	if a.Expect > 0 && a.Expect < size {
		return refusal(purse.SWLength)
	}
	return nil
}

// first returns the first refusal among checks that were made in order.
func first(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}
