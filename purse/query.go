package purse

// ProveAnswer is the card's answer to GET TRANSACTION PROVE (EPURSE.md §5.5).
type ProveAnswer struct{ MAC, TAC MAC }

const (
	proveField     = "proveResponse"
	proveAnswerLen = 8
	recordField    = "log record"
	logRecordLen   = 23
	logFile        = 0x18
	balanceLen     = 4
)

// ParseProveAnswer reads the answer.
//
//	MAC(4) TAC(4)
func ParseProveAnswer(b []byte) (ProveAnswer, error) {
	if err := wantLen(proveField, b, proveAnswerLen); err != nil {
		return ProveAnswer{}, err
	}
	return ProveAnswer{MAC: MAC(b[0:4]), TAC: MAC(b[4:8])}, nil
}

// Bytes is the answer as the card sends it.
//
//	MAC(4) TAC(4)
func (a ProveAnswer) Bytes() []byte { return append(a.MAC[:], a.TAC[:]...) }

// TransactionProve is GET TRANSACTION PROVE: it asks for the MAC and TAC of the last transaction of the type, whose counter
// was sn, as the card returned it when the transaction was initialised.
//
//	80 5A 00 TTI 02 SN(2) Le 08
func TransactionProve(tti TTI, sn Counter) (APDU, error) {
	if !tti.Valid() {
		return APDU{}, fieldErrorf("type", "%v", tti)
	}
	return APDU{CLA: claPurse, INS: insProve, P2: byte(tti), Data: sn.appendTo(nil), Expect: proveAnswerLen}, nil
}

// ParseCounterData reads the SN that GET TRANSACTION PROVE carries.
func ParseCounterData(data []byte) (Counter, error) {
	if err := wantLen("sn", data, 2); err != nil {
		return 0, err
	}
	return counterOf(data), nil
}

// QueryBalance is GET BALANCE. The card answers the balance in four bytes, which ParseBalance reads.
//
//	80 5C 00 0p Le 04
func QueryBalance(p Purse) (APDU, error) {
	if err := p.check(); err != nil {
		return APDU{}, err
	}
	return APDU{CLA: claPurse, INS: insBalance, P2: byte(p), Expect: balanceLen}, nil
}

// ParseBalance reads the four bytes of a balance.
func ParseBalance(b []byte) (Fen, error) {
	if err := wantLen("balance", b, balanceLen); err != nil {
		return 0, err
	}
	return fenOf(b), nil
}

// Bytes is the amount or balance in the four bytes of the wire.
func (f Fen) Bytes() []byte { return f.appendTo(make([]byte, 0, balanceLen)) }

// LogRecord is one record of the card's transaction log (EPURSE.md §5.5).
type LogRecord struct {
	SN        Counter // as the card returned it, ONSN or OFFSN
	Overdraft Limit
	Amount    Fen
	TTI       TTI
	Terminal  Terminal
	Date      Date
	Time      Time
}

// ParseLogRecord reads the 23 bytes of a record; an unknown type, and what is no date or no time, is refused.
//
//	SN(2) OVERDRAFT(3) AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)
func ParseLogRecord(b []byte) (r LogRecord, err error) {
	if err := wantLen(recordField, b, logRecordLen); err != nil {
		return r, err
	}
	tti := TTI(b[9])
	if !tti.Valid() {
		return r, fieldErrorf(recordField, "%v", tti)
	}
	d, t, err := momentOf(b[16:23])
	if err != nil {
		return r, err
	}
	return LogRecord{
		SN: counterOf(b[0:2]), Overdraft: limitOf(b[2:5]), Amount: fenOf(b[5:9]), TTI: tti,
		Terminal: Terminal(b[10:16]), Date: d, Time: t,
	}, nil
}

// Bytes is the record as the card keeps it.
//
//	SN(2) OVERDRAFT(3) AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)
func (r LogRecord) Bytes() []byte {
	b := r.SN.appendTo(make([]byte, 0, logRecordLen))
	b = r.Overdraft.appendTo(b)
	b = r.Amount.appendTo(b)
	b = append(b, byte(r.TTI))
	b = append(b, r.Terminal[:]...)
	return appendMoment(b, r.Date, r.Time)
}

// ReadLog is READ RECORD of the transaction log: record 1 is the newest. EPURSE.md gives the record but not the file; the
// short file identifier 18 is the one in common use.
//
//	00 B2 record C4 Le 17
func ReadLog(record byte) APDU { return ReadRecord(logFile, record, logRecordLen) }

// ReadRecord is READ RECORD by number in the file with a short file identifier of at most 1E (ISO/IEC 7816-4).
//
//	00 B2 record (sfi<<3 | 4) Le
func ReadRecord(sfi, record byte, expect int) APDU {
	return APDU{CLA: claISO, INS: insReadRecord, P1: record, P2: sfi<<3 | 4, Expect: expect}
}

// ReadBinary is READ BINARY of a transparent file with a short file identifier of at most 1E (ISO/IEC 7816-4). File 15
// holds the public data of the application, the serial number among them.
//
//	00 B0 (80 | sfi) offset Le
func ReadBinary(sfi, offset byte, expect int) APDU {
	return APDU{CLA: claISO, INS: insReadBinary, P1: 0x80 | sfi, P2: offset, Expect: expect}
}

// SelectApplication is SELECT by name: the AID of 1 to 16 bytes (ISO/IEC 7816-4).
//
//	00 A4 04 00 Lc AID Le 00
func SelectApplication(aid []byte) (APDU, error) {
	if len(aid) < 1 || len(aid) > 16 {
		return APDU{}, fieldErrorf("aid", "%d bytes, expected 1 to 16", len(aid))
	}
	return APDU{CLA: claISO, INS: insSelect, P1: 0x04, Data: append([]byte(nil), aid...), Expect: maxExpect}, nil
}

// SelectFile is SELECT by the two bytes of a file identifier (ISO/IEC 7816-4).
//
//	00 A4 00 00 02 FID Le 00
func SelectFile(fid [2]byte) APDU {
	return APDU{CLA: claISO, INS: insSelect, Data: fid[:], Expect: maxExpect}
}
