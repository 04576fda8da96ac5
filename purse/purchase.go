package purse

// Purchase is one purchase 消费, cash withdrawal 取现 or compound purchase 复合消费, as its type tells (EPURSE.md §5.2).
// They are computed alike. It comes from NewPurchase, so its type is one of these.
type Purchase struct {
	init     PurchaseInit
	tti      TTI
	tsn      TSN
	amount   Fen
	terminal Terminal
}

// NewPurchase checks the type; the balance is the card's to check, for no MAC of the host depends on it. To check a TAC
// alone init may be the zero value.
func NewPurchase(init PurchaseInit, tti TTI, tsn TSN, amount Fen, terminal Terminal) (Purchase, error) {
	if !tti.Offline() {
		return Purchase{}, fieldErrorf("type", "%v, expected a purchase, cash withdrawal or compound purchase", tti)
	}
	return Purchase{init: init, tti: tti, tsn: tsn, amount: amount, terminal: terminal}, nil
}

// SessionInput is what SESPK is derived from; see PurchaseInit.SessionInput.
func (p Purchase) SessionInput() [8]byte { return p.init.SessionInput(p.tsn) }

// MAC1Data is what MAC1 covers: made by the terminal's secure module, verified by the card.
//
//	AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)  18 bytes
func (p Purchase) MAC1Data(d Date, t Time) []byte {
	return hostMACData(p.amount, p.tti, p.terminal, d, t)
}

// MAC2Data is what MAC2 covers: made by the card.
//
//	AMT(4)
func (p Purchase) MAC2Data() []byte { return p.amount.appendTo(make([]byte, 0, 4)) }

// TACData is what the TAC covers. There is no balance and no card serial number in it.
//
//	AMT(4) TTI(1) TERM(6) TSN(4) DATE(4) TIME(3)  22 bytes
func (p Purchase) TACData(d Date, t Time) []byte {
	b := p.amount.appendTo(make([]byte, 0, 22))
	b = append(b, byte(p.tti))
	b = append(b, p.terminal[:]...)
	b = p.tsn.appendTo(b)
	return appendMoment(b, d, t)
}

// InitializeForPurchase is the command that begins a purchase of the type.
//
//	80 50 01 0p 0B  KI(1) AMT(4) TERM(6)  Le 0F      purchase, p = 01 ED, 02 EP
//	80 50 02 01 0B  …                                cash withdrawal
//	80 50 03 02 0B  …                                compound
func InitializeForPurchase(profile Profile, tti TTI, amount Fen, terminal Terminal) (APDU, error) {
	a := APDU{CLA: claPurse, INS: insInitialize, Expect: purchaseInitLen}
	switch tti {
	case TTIPurchaseED, TTIPurchaseEP:
		a.P1 = 0x01
	case TTICashWithdrawal:
		a.P1 = 0x02
	case TTICompound:
		a.P1 = 0x03
	default:
		return APDU{}, fieldErrorf("type", "%v, expected a purchase, cash withdrawal or compound purchase", tti)
	}
	p, _ := tti.Purse() // every type above has one
	a.P2 = byte(p)
	a.Data = Initialize{profile.KeyIndex(), amount, terminal}.Bytes()
	return a, nil
}

// UpdateCAPPCache is the command between the two of a compound purchase: it gives the card the record that changes
// together with the balance. P1 and P2 choose the record as in UPDATE RECORD; at most 255 bytes of data.
//
//	80 DC P1 P2 Lc DATA
func UpdateCAPPCache(p1, p2 byte, data []byte) (APDU, error) {
	if err := checkData(data, maxData); err != nil {
		return APDU{}, err
	}
	return APDU{CLA: claPurse, INS: insUpdateRecord, P1: p1, P2: p2, Data: append([]byte(nil), data...)}, nil
}

// Debit is DEBIT FOR PURCHASE, the command that completes p; its P1 is the profile's. The card answers DebitAnswer.
//
//	80 54 01 00 0F  TSN(4) DATE(4) TIME(3) MAC1(4)  Le 08
func (p Purchase) Debit(profile Profile, d Date, t Time, mac1 MAC) APDU {
	data := DebitRequest{p.tsn, d, t, mac1}.Bytes()
	return APDU{CLA: claPurse, INS: insDebit, P1: profile.DebitP1(p.tti), Data: data, Expect: debitAnswerLen}
}

// DebitRequest is the data of DEBIT FOR PURCHASE.
type DebitRequest struct {
	TSN  TSN
	Date Date
	Time Time
	MAC1 MAC
}

const (
	debitField       = "debit data"
	debitLen         = 15
	debitAnswerField = "debitResponse"
	debitAnswerLen   = 8
)

// ParseDebitRequest reads the data as the card receives it; what is no date or no time is refused.
//
//	TSN(4) DATE(4) TIME(3) MAC1(4)
func ParseDebitRequest(data []byte) (v DebitRequest, err error) {
	if err := wantLen(debitField, data, debitLen); err != nil {
		return v, err
	}
	d, t, err := momentOf(data[4:11])
	if err != nil {
		return v, err
	}
	return DebitRequest{TSN: tsnOf(data[0:4]), Date: d, Time: t, MAC1: MAC(data[11:15])}, nil
}

// Bytes is the data as the terminal sends it.
//
//	TSN(4) DATE(4) TIME(3) MAC1(4)
func (v DebitRequest) Bytes() []byte {
	b := appendMoment(v.TSN.appendTo(make([]byte, 0, debitLen)), v.Date, v.Time)
	return append(b, v.MAC1[:]...)
}

// DebitAnswer is the card's answer to DEBIT FOR PURCHASE: the TAC comes first.
type DebitAnswer struct{ TAC, MAC2 MAC }

// ParseDebitAnswer reads the answer.
//
//	TAC(4) MAC2(4)
func ParseDebitAnswer(b []byte) (DebitAnswer, error) {
	if err := wantLen(debitAnswerField, b, debitAnswerLen); err != nil {
		return DebitAnswer{}, err
	}
	return DebitAnswer{TAC: MAC(b[0:4]), MAC2: MAC(b[4:8])}, nil
}

// Bytes is the answer as the card sends it.
//
//	TAC(4) MAC2(4)
func (a DebitAnswer) Bytes() []byte { return append(a.TAC[:], a.MAC2[:]...) }
