package purse

// CardFirst is diversification factors as the PSAM commands list them: the card's, then the issuer's, then the region's
// (EPURSE.md §7). Hosts list them root first; the type keeps one from being taken for the other.
type CardFirst [][8]byte

// RootFirst is the same factors as hosts list them.
func (f CardFirst) RootFirst() [][8]byte {
	list := make([][8]byte, len(f))
	for i, factor := range f {
		list[len(f)-1-i] = factor
	}
	return list
}

// SAMPurchase is the data of INIT_SAM_FOR_PURCHASE (EPURSE.md §7): what a terminal tells its secure module of a purchase that
// the card has initialised. The module has the terminal's number and the TSN itself.
type SAMPurchase struct {
	Random  Random  // R, of the card's answer
	Counter Counter // OFFSN, of the card's answer
	Amount  Fen
	TTI     TTI
	Date    Date
	Time    Time
	KVER    KVER // of the card's answer
	ALG     ALG  // of the card's answer
	Factors CardFirst
}

const (
	samField     = "sam data"
	samBase      = 20
	samFactors   = 3
	samAnswer    = "samResponse"
	samAnswerLen = 8
)

// ParseSAMPurchase reads the data as the module receives it; what is no offline transaction, no date or no time is refused.
//
//	R(4) OFFSN(2) AMT(4) TTI(1) DATE(4) TIME(3) KVER(1) ALG(1) ASN(8) [issuer(8) [region(8)]]
func ParseSAMPurchase(data []byte) (v SAMPurchase, err error) {
	n := len(data) - samBase
	if n <= 0 || n%8 != 0 || n > 8*samFactors {
		return v, fieldErrorf(samField, "%d bytes, expected %d and one to %d factors of 8", len(data), samBase, samFactors)
	}
	d, t, err := momentOf(data[11:18])
	if err != nil {
		return v, err
	}
	v = SAMPurchase{
		Random: Random(data[0:4]), Counter: counterOf(data[4:6]), Amount: fenOf(data[6:10]), TTI: TTI(data[10]), Date: d, Time: t,
		KVER: KVER(data[18]), ALG: ALG(data[19]),
	}
	if !v.TTI.Offline() {
		return SAMPurchase{}, fieldErrorf("type", "%v, expected a purchase, cash withdrawal or compound purchase", v.TTI)
	}
	for at := samBase; at < len(data); at += 8 {
		v.Factors = append(v.Factors, [8]byte(data[at:at+8]))
	}
	return v, nil
}

// Bytes is the data as the terminal sends it.
//
//	R(4) OFFSN(2) AMT(4) TTI(1) DATE(4) TIME(3) KVER(1) ALG(1) ASN(8) [issuer(8) [region(8)]]
func (v SAMPurchase) Bytes() []byte {
	b := append(make([]byte, 0, samBase+8*len(v.Factors)), v.Random[:]...)
	b = v.Amount.appendTo(v.Counter.appendTo(b))
	b = appendMoment(append(b, byte(v.TTI)), v.Date, v.Time)
	b = append(b, byte(v.KVER), byte(v.ALG))
	for _, factor := range v.Factors {
		b = append(b, factor[:]...)
	}
	return b
}

// InitSAMForPurchase is the command that has a terminal's secure module make MAC1. The module answers SAMAnswer.
//
//	80 70 00 00 Lc  R OFFSN AMT TTI DATE TIME KVER ALG ASN [issuer [region]]  Le 08      Lc 1C, 24 or 2C
func InitSAMForPurchase(v SAMPurchase) (APDU, error) {
	if n := len(v.Factors); n < 1 || n > samFactors {
		return APDU{}, fieldErrorf("factors", "%d, expected 1 to %d", n, samFactors)
	}
	if !v.TTI.Offline() {
		return APDU{}, fieldErrorf("type", "%v, expected a purchase, cash withdrawal or compound purchase", v.TTI)
	}
	return APDU{CLA: claPurse, INS: insSAMInit, Data: v.Bytes(), Expect: samAnswerLen}, nil
}

// SAMAnswer is the module's answer: its next transaction serial, which never repeats, and the MAC1 that goes to the card.
type SAMAnswer struct {
	TSN  TSN
	MAC1 MAC
}

// ParseSAMAnswer reads the 8 bytes of the answer.
//
//	TSN(4) MAC1(4)
func ParseSAMAnswer(b []byte) (SAMAnswer, error) {
	if err := wantLen(samAnswer, b, samAnswerLen); err != nil {
		return SAMAnswer{}, err
	}
	return SAMAnswer{TSN: tsnOf(b[0:4]), MAC1: MAC(b[4:8])}, nil
}

// Bytes is the answer as the module sends it.
//
//	TSN(4) MAC1(4)
func (a SAMAnswer) Bytes() []byte {
	return append(a.TSN.appendTo(make([]byte, 0, samAnswerLen)), a.MAC1[:]...)
}

// CreditSAMForPurchase is the command that shows the module the card's MAC2.
//
//	80 72 00 00 04  MAC2(4)
func CreditSAMForPurchase(mac2 MAC) APDU {
	return APDU{CLA: claPurse, INS: insSAMCredit, Data: mac2[:]}
}
