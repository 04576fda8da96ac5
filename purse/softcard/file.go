package softcard

import (
	"bytes"

	"github.com/pursekeeper/pursekeeper/purse"
)

var (
	masterFile      = []byte{0x3F, 0x00}
	applicationFile = []byte{0x3F, 0x01}
)

// selectFile is SELECT, of the application by name or identifier or of the card's root. It ends a transaction that is open.
//
//	application: 6F L [ 84 L AID ] [ A5 L [ 9F0C 1E public data ] ]
func (c *Card) selectFile(a purse.APDU, _ []byte) ([]byte, error) {
	c.session.open, c.session.selected = nil, false
	byName := a.P1 == 0x04
	if a.P2 != 0x00 || a.P1 != 0x04 && a.P1 != 0x00 {
		return nil, refusal(purse.SWParameters)
	}
	switch {
	case !byName && bytes.Equal(a.Data, masterFile):
		return nil, nil
	case byName && bytes.Equal(a.Data, c.state.AID), !byName && bytes.Equal(a.Data, applicationFile):
	default:
		return nil, refusal(purse.SWNotFound)
	}
	if c.state.Lock == lockPermanent {
		return nil, refusal(purse.SWLocked)
	}
	own := concat([]byte{0x9F, 0x0C}, tlv(c.state.Binaries[publicFile]))
	answer := concat([]byte{0x6F}, tlv(concat([]byte{0x84}, tlv(c.state.AID), []byte{0xA5}, tlv(own))))
	if err := want(a, len(answer)); err != nil {
		return nil, err
	}
	c.session.selected = true
	return answer, nil
}

// tlv is the length and the value; no value here is longer than 127 bytes.
func tlv(value []byte) []byte { return append([]byte{byte(len(value))}, value...) }

// readBinary is READ BINARY by short file identifier.
func (c *Card) readBinary(a purse.APDU, _ []byte) ([]byte, error) {
	content, ok := c.state.Binaries[a.P1&^0x80]
	if a.P1&0x80 == 0 {
		return nil, refusal(purse.SWParameters)
	}
	if !ok {
		return nil, refusal(purse.SWNotFound)
	}
	rest := content[min(int(a.P2), len(content)):]
	if a.Expect == 0 || a.Expect == 256 {
		return rest, nil
	}
	if a.Expect > len(rest) {
		return nil, refusal(purse.SWLength)
	}
	return rest[:a.Expect], nil
}

// readRecord is READ RECORD by number, of the log too, whose record 1 is the newest.
func (c *Card) readRecord(a purse.APDU, _ []byte) ([]byte, error) {
	records := c.state.Records[a.P2>>3]
	if a.P2>>3 == logFile {
		records = c.state.Log
	} else if records == nil {
		return nil, refusal(purse.SWNotFound)
	}
	if a.P2&0x07 != 0x04 {
		return nil, refusal(purse.SWParameters)
	}
	if a.P1 == 0 || int(a.P1) > len(records) {
		return nil, refusal(purse.SWRecordNotFound)
	}
	record := records[a.P1-1]
	return record, want(a, len(record))
}

// findRecord is the file and the place of the record that P1 P2 name.
func (c *Card) findRecord(a purse.APDU, s *state) (sfi byte, record int, err error) {
	sfi = a.P2 >> 3
	records, ok := s.Records[sfi]
	switch {
	case a.P2&0x07 != 0x04:
		return 0, 0, refusal(purse.SWParameters)
	case !ok:
		return 0, 0, refusal(purse.SWNotFound)
	case a.P1 == 0 || int(a.P1) > len(records):
		return 0, 0, refusal(purse.SWRecordNotFound)
	}
	return sfi, int(a.P1) - 1, nil
}

// balance is GET BALANCE.
func (c *Card) balance(a purse.APDU, _ []byte) ([]byte, error) {
	p := purse.Purse(a.P2)
	if a.P1 != 0x00 || !p.Valid() {
		return nil, refusal(purse.SWParameters)
	}
	if err := first(length(a, 0), want(a, 4)); err != nil {
		return nil, err
	}
	return c.state.account(p).Balance.Bytes(), nil
}

// transactionProve is GET TRANSACTION PROVE: the MAC and TAC of the last transaction of the type, when its counter is the
// one asked for, else 9406 (EPURSE.md §5.5). The MAC is the host's MAC2 of a load and of an overdraft limit, the card's MAC2
// of a purchase and its MAC3 of an unload, which has no TAC: four zero bytes. The source is silent on these.
func (c *Card) transactionProve(a purse.APDU, _ []byte) ([]byte, error) {
	tti := purse.TTI(a.P2)
	if a.P1 != 0x00 || !tti.Valid() {
		return nil, refusal(purse.SWParameters)
	}
	if err := first(length(a, 2), want(a, 2*macLen)); err != nil {
		return nil, err
	}
	sn, err := purse.ParseCounterData(a.Data)
	if err != nil {
		return nil, refusal(purse.SWLength)
	}
	p, ok := c.state.Proves[tti]
	if !ok || p.SN != sn {
		return nil, refusal(purse.SWNoProve)
	}
	return concat(p.MAC, p.TAC), nil
}
