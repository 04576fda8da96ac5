package purse

import "math"

// Overdraft is one change of the overdraft limit 修改透支限额 of ED (EPURSE.md §5.4). It comes from NewOverdraft, so its
// new balance fits.
type Overdraft struct {
	init     OverdraftInit
	newLimit Limit
	terminal Terminal
	balance  Fen // BAL + NEWLIM - OLDLIM
}

// NewOverdraft checks a change as a whole: that both limits fit in three bytes and BAL + NEWLIM - OLDLIM in four. Lowering
// the limit below what is overdrawn would make it negative and is refused too.
func NewOverdraft(init OverdraftInit, newLimit Limit, terminal Terminal) (Overdraft, error) {
	for _, limit := range []struct {
		field string
		value Limit
	}{{"newLimit", newLimit}, {"oldLimit", init.OldLimit}} {
		if _, err := NewLimit(limit.field, uint64(limit.value)); err != nil {
			return Overdraft{}, err
		}
	}
	balance := int64(init.Balance) + int64(newLimit) - int64(init.OldLimit)
	if balance < 0 || balance > math.MaxUint32 {
		return Overdraft{}, fieldErrorf("newLimit", "balance %d, new limit %d and old limit %d make a balance of %d, which does not fit in four bytes",
			init.Balance, newLimit, init.OldLimit, balance)
	}
	return Overdraft{init: init, newLimit: newLimit, terminal: terminal, balance: Fen(balance)}, nil
}

// NewBalance is BAL + NEWLIM - OLDLIM.
func (o Overdraft) NewBalance() Fen { return o.balance }

// SessionInput is what SESUK is derived from; see OverdraftInit.SessionInput.
func (o Overdraft) SessionInput() [8]byte { return o.init.SessionInput() }

// MAC1 is the MAC that the card answered.
func (o Overdraft) MAC1() MAC { return o.init.MAC1 }

// MAC1Data is what MAC1 covers: made by the card, verified by the host.
//
//	BAL(4) OLDLIM(3) 07 TERM(6)  14 bytes
func (o Overdraft) MAC1Data() []byte {
	b := o.init.Balance.appendTo(make([]byte, 0, 14))
	b = o.init.OldLimit.appendTo(b)
	b = append(b, byte(TTIOverdraft))
	return append(b, o.terminal[:]...)
}

// MAC2Data is what MAC2 covers: made by the host.
//
//	NEWLIM(3) 07 TERM(6) DATE(4) TIME(3)  17 bytes
func (o Overdraft) MAC2Data(d Date, t Time) []byte {
	b := o.newLimit.appendTo(make([]byte, 0, 17))
	b = append(b, byte(TTIOverdraft))
	b = append(b, o.terminal[:]...)
	return appendMoment(b, d, t)
}

// TACData is what the TAC covers.
//
//	NEWBAL(4) ONSN(2) NEWLIM(3) 07 TERM(6) DATE(4) TIME(3)  23 bytes      NEWBAL = BAL + NEWLIM - OLDLIM
func (o Overdraft) TACData(d Date, t Time) []byte {
	b := o.balance.appendTo(make([]byte, 0, 23))
	b = o.init.Counter.appendTo(b)
	b = o.newLimit.appendTo(b)
	b = append(b, byte(TTIOverdraft))
	b = append(b, o.terminal[:]...)
	return appendMoment(b, d, t)
}

// InitializeForUpdate is the command that begins a change of the overdraft limit.
//
//	80 50 04 01 07  KI(1) TERM(6)  Le 13
func InitializeForUpdate(profile Profile, terminal Terminal) APDU {
	data := InitializeUpdate{profile.KeyIndex(), terminal}.Bytes()
	return APDU{CLA: claPurse, INS: insInitialize, P1: 0x04, P2: byte(ED), Data: data, Expect: overdraftInitLen}
}

// UpdateOverdraftLimit is the command that completes the change. The card answers TAC(4).
//
//	80 58 00 00 0E  NEWLIM(3) DATE(4) TIME(3) MAC2(4)  Le 04
func UpdateOverdraftLimit(newLimit Limit, d Date, t Time, mac2 MAC) APDU {
	data := LimitUpdate{newLimit, d, t, mac2}.Bytes()
	return APDU{CLA: claPurse, INS: insOverdraft, Data: data, Expect: len(mac2)}
}

// LimitUpdate is the data of UPDATE OVERDRAFT LIMIT.
type LimitUpdate struct {
	NewLimit Limit
	Date     Date
	Time     Time
	MAC2     MAC
}

const (
	limitUpdateField = "limit update data"
	limitUpdateLen   = 14
)

// ParseLimitUpdate reads the data as the card receives it; what is no date or no time is refused.
//
//	NEWLIM(3) DATE(4) TIME(3) MAC2(4)
func ParseLimitUpdate(data []byte) (u LimitUpdate, err error) {
	if err := wantLen(limitUpdateField, data, limitUpdateLen); err != nil {
		return u, err
	}
	d, t, err := momentOf(data[3:10])
	if err != nil {
		return u, err
	}
	return LimitUpdate{NewLimit: limitOf(data[0:3]), Date: d, Time: t, MAC2: MAC(data[10:14])}, nil
}

// Bytes is the data as the host sends it.
//
//	NEWLIM(3) DATE(4) TIME(3) MAC2(4)
func (u LimitUpdate) Bytes() []byte {
	b := u.NewLimit.appendTo(make([]byte, 0, limitUpdateLen))
	return append(appendMoment(b, u.Date, u.Time), u.MAC2[:]...)
}
