package purse

import "math"

// Load is one load 圈存 (EPURSE.md §5.1): what the card answered and what is to be loaded. It comes from NewLoad, so its
// purse is one and its new balance fits.
type Load struct {
	purse    Purse
	init     LoadInit
	amount   Fen
	terminal Terminal
	balance  Fen // NEWBAL
}

// NewLoad checks a load as a whole: the purse, and that BAL + AMT fits in four bytes. To check a TAC alone, Balance and
// Counter are all that init needs.
func NewLoad(init LoadInit, p Purse, amount Fen, terminal Terminal) (Load, error) {
	if err := p.check(); err != nil {
		return Load{}, err
	}
	if amount > math.MaxUint32-init.Balance {
		return Load{}, fieldErrorf("amount", "amount %d and balance %d are together over four bytes", amount, init.Balance)
	}
	return Load{purse: p, init: init, amount: amount, terminal: terminal, balance: init.Balance + amount}, nil
}

// NewBalance is NEWBAL, BAL + AMT.
func (l Load) NewBalance() Fen { return l.balance }

// TTI is 01 for ED and 02 for EP.
func (l Load) TTI() TTI { return l.purse.LoadTTI() }

// SessionInput is what SESLK is derived from; see LoadInit.SessionInput.
func (l Load) SessionInput() [8]byte { return l.init.SessionInput() }

// MAC1 is the MAC that the card answered.
func (l Load) MAC1() MAC { return l.init.MAC1 }

// MAC1Data is what MAC1 covers: made by the card, verified by the host.
//
//	BAL(4) AMT(4) TTI(1) TERM(6)  15 bytes
func (l Load) MAC1Data() []byte {
	b := l.init.Balance.appendTo(make([]byte, 0, 15))
	b = l.amount.appendTo(b)
	b = append(b, byte(l.TTI()))
	return append(b, l.terminal[:]...)
}

// MAC2Data is what MAC2 covers: made by the host.
//
//	AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)  18 bytes
func (l Load) MAC2Data(d Date, t Time) []byte {
	return hostMACData(l.amount, l.TTI(), l.terminal, d, t)
}

// TACData is what the TAC covers.
//
//	NEWBAL(4) ONSN(2) AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)  24 bytes
func (l Load) TACData(d Date, t Time) []byte {
	return settledData(l.balance, l.init.Counter, l.amount, l.TTI(), l.terminal, d, t)
}

// hostMACData is what MAC2 of a load and an unload and MAC1 of a purchase cover.
//
//	AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)  18 bytes
func hostMACData(amount Fen, tti TTI, terminal Terminal, d Date, t Time) []byte {
	b := amount.appendTo(make([]byte, 0, 18))
	b = append(b, byte(tti))
	b = append(b, terminal[:]...)
	return appendMoment(b, d, t)
}

// settledData is what the TAC of a load and MAC3 of an unload cover.
//
//	NEWBAL(4) ONSN(2) AMT(4) TTI(1) TERM(6) DATE(4) TIME(3)  24 bytes
func settledData(balance Fen, c Counter, amount Fen, tti TTI, terminal Terminal, d Date, t Time) []byte {
	b := balance.appendTo(make([]byte, 0, 24))
	b = c.appendTo(b)
	b = amount.appendTo(b)
	b = append(b, byte(tti))
	b = append(b, terminal[:]...)
	return appendMoment(b, d, t)
}

// InitializeForLoad is the command that begins a load.
//
//	80 50 00 0p 0B  KI(1) AMT(4) TERM(6)  Le 10      p = 01 ED, 02 EP
func InitializeForLoad(profile Profile, p Purse, amount Fen, terminal Terminal) (APDU, error) {
	if err := p.check(); err != nil {
		return APDU{}, err
	}
	data := Initialize{profile.KeyIndex(), amount, terminal}.Bytes()
	return APDU{CLA: claPurse, INS: insInitialize, P1: 0x00, P2: byte(p), Data: data, Expect: loadInitLen}, nil
}

// CreditForLoad is the command that completes a load; its P1 P2 are the profile's. The card answers TAC(4).
//
//	80 52 00 00 0B  DATE(4) TIME(3) MAC2(4)  Le 04
func CreditForLoad(profile Profile, d Date, t Time, mac2 MAC) APDU {
	p := profile.creditForLoad
	return APDU{CLA: claPurse, INS: insCredit, P1: p[0], P2: p[1], Data: Completion{d, t, mac2}.Bytes(), Expect: len(mac2)}
}

// Completion is the data of CREDIT FOR LOAD and DEBIT FOR UNLOAD (EPURSE.md §5.1, §5.3).
type Completion struct {
	Date Date
	Time Time
	MAC2 MAC
}

const (
	completionField = "completion data"
	completionLen   = 11
)

// ParseCompletion reads the data as the card receives it; what is no date or no time is refused.
//
//	DATE(4) TIME(3) MAC2(4)
func ParseCompletion(data []byte) (c Completion, err error) {
	if err := wantLen(completionField, data, completionLen); err != nil {
		return c, err
	}
	d, t, err := momentOf(data[0:7])
	if err != nil {
		return c, err
	}
	return Completion{Date: d, Time: t, MAC2: MAC(data[7:11])}, nil
}

// Bytes is the data as the host sends it.
//
//	DATE(4) TIME(3) MAC2(4)
func (c Completion) Bytes() []byte {
	return append(appendMoment(make([]byte, 0, completionLen), c.Date, c.Time), c.MAC2[:]...)
}
