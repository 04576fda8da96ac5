package purse

// Unload is one unload 圈提 (EPURSE.md §5.3). It comes from NewUnload, so it is of the profile's unload purse and no more
// than the balance.
type Unload struct {
	init     UnloadInit
	amount   Fen
	terminal Terminal
	balance  Fen // NEWBAL
}

// NewUnload checks an unload as a whole: that the purse is the one that the profile names, since TTI 03 does not tell ED
// from EP and a MAC of one would do for the other, and that AMT is not above BAL.
func NewUnload(profile Profile, init UnloadInit, p Purse, amount Fen, terminal Terminal) (Unload, error) {
	if err := profile.checkUnload(p); err != nil {
		return Unload{}, err
	}
	if amount > init.Balance {
		return Unload{}, fieldErrorf("amount", "amount %d is over the balance %d", amount, init.Balance)
	}
	return Unload{init: init, amount: amount, terminal: terminal, balance: init.Balance - amount}, nil
}

// NewBalance is NEWBAL, BAL - AMT.
func (u Unload) NewBalance() Fen { return u.balance }

// SessionInput is what SESULK is derived from; see UnloadInit.SessionInput.
func (u Unload) SessionInput() [8]byte { return u.init.SessionInput() }

// MAC1 is the MAC that the card answered.
func (u Unload) MAC1() MAC { return u.init.MAC1 }

// MAC1Data is what MAC1 covers: made by the card, verified by the host. It is a load's by analogy [L].
//
//	BAL(4) AMT(4) 03 TERM(6)  15 bytes
func (u Unload) MAC1Data() []byte {
	b := u.init.Balance.appendTo(make([]byte, 0, 15))
	b = u.amount.appendTo(b)
	b = append(b, byte(TTIUnload))
	return append(b, u.terminal[:]...)
}

// MAC2Data is what MAC2 covers: made by the host. It is a load's by analogy [L].
//
//	AMT(4) 03 TERM(6) DATE(4) TIME(3)  18 bytes
func (u Unload) MAC2Data(d Date, t Time) []byte {
	return hostMACData(u.amount, TTIUnload, u.terminal, d, t)
}

// MAC3Data is what MAC3 covers: made by the card under the session key, not the TAC key; it alone proves that the money
// left the card.
//
//	NEWBAL(4) ONSN(2) AMT(4) 03 TERM(6) DATE(4) TIME(3)  24 bytes
func (u Unload) MAC3Data(d Date, t Time) []byte {
	return settledData(u.balance, u.init.Counter, u.amount, TTIUnload, u.terminal, d, t)
}

// InitializeForUnload is the command that begins an unload of the profile's unload purse; any other is refused.
//
//	80 50 05 0p 0B  KI(1) AMT(4) TERM(6)  Le 10
func InitializeForUnload(profile Profile, p Purse, amount Fen, terminal Terminal) (APDU, error) {
	if err := profile.checkUnload(p); err != nil {
		return APDU{}, err
	}
	data := Initialize{profile.KeyIndex(), amount, terminal}.Bytes()
	return APDU{CLA: claPurse, INS: insInitialize, P1: 0x05, P2: byte(p), Data: data, Expect: loadInitLen}, nil
}

// DebitForUnload is the command that completes an unload. The card answers MAC3(4).
//
//	80 54 03 00 0B  DATE(4) TIME(3) MAC2(4)  Le 04
func DebitForUnload(d Date, t Time, mac2 MAC) APDU {
	return APDU{CLA: claPurse, INS: insDebit, P1: 0x03, Data: Completion{d, t, mac2}.Bytes(), Expect: len(mac2)}
}
