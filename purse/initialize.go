package purse

// sessionTail closes the session input of the online transactions (EPURSE.md §3).
var sessionTail = [2]byte{0x80, 0x00}

// onlineSession is the 8-byte session input of load, unload and overdraft (EPURSE.md §3).
//
//	R(4) ONSN(2) 80 00
func onlineSession(r Random, c Counter) [8]byte {
	return [8]byte(append(c.appendTo(r[:]), sessionTail[:]...))
}

// LoadInit is the card's answer to INITIALIZE FOR LOAD (EPURSE.md §5.1).
type LoadInit struct {
	Balance Fen     // BAL, before the load
	Counter Counter // ONSN, not yet incremented
	KVER    KVER
	ALG     ALG
	Random  Random // R
	MAC1    MAC
}

const (
	initField         = "initializeResponse"
	loadInitLen       = 16
	overdraftInitLen  = 19
	purchaseInitLen   = 15
	initializeLen     = 11
	initializeLimLen  = 7
	initializeDataLbl = "initialize data"
)

// ParseLoadInit reads the 16 bytes of the answer.
//
//	BAL(4) ONSN(2) KVER(1) ALG(1) R(4) MAC1(4)
func ParseLoadInit(b []byte) (LoadInit, error) {
	if err := wantLen(initField, b, loadInitLen); err != nil {
		return LoadInit{}, err
	}
	return LoadInit{
		Balance: fenOf(b[0:4]), Counter: counterOf(b[4:6]), KVER: KVER(b[6]), ALG: ALG(b[7]),
		Random: Random(b[8:12]), MAC1: MAC(b[12:16]),
	}, nil
}

// ParseLoadInitHex is ParseLoadInit of a card's answer in hex digits, as callers send it.
func ParseLoadInitHex(text string) (LoadInit, error) {
	b, err := ParseHex(initField, text, loadInitLen)
	if err != nil {
		return LoadInit{}, err
	}
	return ParseLoadInit(b)
}

// Bytes is the answer as the card sends it.
//
//	BAL(4) ONSN(2) KVER(1) ALG(1) R(4) MAC1(4)
func (i LoadInit) Bytes() []byte {
	b := i.Balance.appendTo(make([]byte, 0, loadInitLen))
	b = i.Counter.appendTo(b)
	b = append(b, byte(i.KVER), byte(i.ALG))
	b = append(b, i.Random[:]...)
	return append(b, i.MAC1[:]...)
}

// SessionInput is what SESLK is derived from (EPURSE.md §3).
//
//	R(4) ONSN(2) 80 00
func (i LoadInit) SessionInput() [8]byte { return onlineSession(i.Random, i.Counter) }

// UnloadInit is the card's answer to INITIALIZE FOR UNLOAD: laid out as a load's (EPURSE.md §5.3), and a type of its own so
// that it cannot be taken for one.
type UnloadInit LoadInit

// ParseUnloadInit reads the 16 bytes of the answer, as ParseLoadInit does.
func ParseUnloadInit(b []byte) (UnloadInit, error) {
	i, err := ParseLoadInit(b)
	return UnloadInit(i), err
}

// ParseUnloadInitHex is ParseUnloadInit of a card's answer in hex digits.
func ParseUnloadInitHex(text string) (UnloadInit, error) {
	i, err := ParseLoadInitHex(text)
	return UnloadInit(i), err
}

// Bytes is the answer as the card sends it.
func (i UnloadInit) Bytes() []byte { return LoadInit(i).Bytes() }

// SessionInput is what SESULK is derived from (EPURSE.md §3), as a load's.
func (i UnloadInit) SessionInput() [8]byte { return onlineSession(i.Random, i.Counter) }

// OverdraftInit is the card's answer to INITIALIZE FOR UPDATE (EPURSE.md §5.4).
type OverdraftInit struct {
	Balance  Fen     // BAL, with the limit in it
	Counter  Counter // ONSN, not yet incremented
	OldLimit Limit   // OLDLIM
	KVER     KVER
	ALG      ALG
	Random   Random // R
	MAC1     MAC
}

// ParseOverdraftInit reads the 19 bytes of the answer.
//
//	BAL(4) ONSN(2) OLDLIM(3) KVER(1) ALG(1) R(4) MAC1(4)
func ParseOverdraftInit(b []byte) (OverdraftInit, error) {
	if err := wantLen(initField, b, overdraftInitLen); err != nil {
		return OverdraftInit{}, err
	}
	return OverdraftInit{
		Balance: fenOf(b[0:4]), Counter: counterOf(b[4:6]), OldLimit: limitOf(b[6:9]), KVER: KVER(b[9]), ALG: ALG(b[10]),
		Random: Random(b[11:15]), MAC1: MAC(b[15:19]),
	}, nil
}

// ParseOverdraftInitHex is ParseOverdraftInit of a card's answer in hex digits.
func ParseOverdraftInitHex(text string) (OverdraftInit, error) {
	b, err := ParseHex(initField, text, overdraftInitLen)
	if err != nil {
		return OverdraftInit{}, err
	}
	return ParseOverdraftInit(b)
}

// Bytes is the answer as the card sends it.
//
//	BAL(4) ONSN(2) OLDLIM(3) KVER(1) ALG(1) R(4) MAC1(4)
func (i OverdraftInit) Bytes() []byte {
	b := i.Balance.appendTo(make([]byte, 0, overdraftInitLen))
	b = i.Counter.appendTo(b)
	b = i.OldLimit.appendTo(b)
	b = append(b, byte(i.KVER), byte(i.ALG))
	b = append(b, i.Random[:]...)
	return append(b, i.MAC1[:]...)
}

// SessionInput is what SESUK is derived from (EPURSE.md §3), as a load's.
func (i OverdraftInit) SessionInput() [8]byte { return onlineSession(i.Random, i.Counter) }

// PurchaseInit is the card's answer to INITIALIZE FOR PURCHASE, cash withdrawal and compound alike (EPURSE.md §5.2). No MAC
// is in it: the terminal speaks first.
type PurchaseInit struct {
	Balance   Fen     // BAL, before the purchase
	Counter   Counter // OFFSN, not yet incremented
	Overdraft Limit   // the overdraft limit, 0 for EP
	KVER      KVER
	ALG       ALG
	Random    Random // R
}

// ParsePurchaseInit reads the 15 bytes of the answer.
//
//	BAL(4) OFFSN(2) OVERDRAFT(3) KVER(1) ALG(1) R(4)
func ParsePurchaseInit(b []byte) (PurchaseInit, error) {
	if err := wantLen(initField, b, purchaseInitLen); err != nil {
		return PurchaseInit{}, err
	}
	return PurchaseInit{
		Balance: fenOf(b[0:4]), Counter: counterOf(b[4:6]), Overdraft: limitOf(b[6:9]), KVER: KVER(b[9]), ALG: ALG(b[10]),
		Random: Random(b[11:15]),
	}, nil
}

// ParsePurchaseInitHex is ParsePurchaseInit of a card's answer in hex digits.
func ParsePurchaseInitHex(text string) (PurchaseInit, error) {
	b, err := ParseHex(initField, text, purchaseInitLen)
	if err != nil {
		return PurchaseInit{}, err
	}
	return ParsePurchaseInit(b)
}

// Bytes is the answer as the card sends it.
//
//	BAL(4) OFFSN(2) OVERDRAFT(3) KVER(1) ALG(1) R(4)
func (i PurchaseInit) Bytes() []byte {
	b := i.Balance.appendTo(make([]byte, 0, purchaseInitLen))
	b = i.Counter.appendTo(b)
	b = i.Overdraft.appendTo(b)
	b = append(b, byte(i.KVER), byte(i.ALG))
	return append(b, i.Random[:]...)
}

// SessionInput is what SESPK is derived from: the rightmost two bytes of TSN stand where the online transactions have 80 00
// (EPURSE.md §3).
//
//	R(4) OFFSN(2) TSN[2..3](2)
func (i PurchaseInit) SessionInput(tsn TSN) [8]byte {
	b := i.Counter.appendTo(i.Random[:])
	return [8]byte(append(b, byte(tsn>>8), byte(tsn)))
}

// Initialize is the data of INITIALIZE FOR LOAD, UNLOAD and PURCHASE (EPURSE.md §5.1).
type Initialize struct {
	KeyIndex byte // KI
	Amount   Fen
	Terminal Terminal
}

// ParseInitialize reads the data as the card receives it.
//
//	KI(1) AMT(4) TERM(6)
func ParseInitialize(data []byte) (Initialize, error) {
	if err := wantLen(initializeDataLbl, data, initializeLen); err != nil {
		return Initialize{}, err
	}
	return Initialize{KeyIndex: data[0], Amount: fenOf(data[1:5]), Terminal: Terminal(data[5:11])}, nil
}

// Bytes is the data as the host sends it.
//
//	KI(1) AMT(4) TERM(6)
func (i Initialize) Bytes() []byte {
	b := i.Amount.appendTo(append(make([]byte, 0, initializeLen), i.KeyIndex))
	return append(b, i.Terminal[:]...)
}

// InitializeUpdate is the data of INITIALIZE FOR UPDATE (EPURSE.md §5.4).
type InitializeUpdate struct {
	KeyIndex byte // KI
	Terminal Terminal
}

// ParseInitializeUpdate reads the data as the card receives it.
//
//	KI(1) TERM(6)
func ParseInitializeUpdate(data []byte) (InitializeUpdate, error) {
	if err := wantLen(initializeDataLbl, data, initializeLimLen); err != nil {
		return InitializeUpdate{}, err
	}
	return InitializeUpdate{KeyIndex: data[0], Terminal: Terminal(data[1:7])}, nil
}

// Bytes is the data as the host sends it.
//
//	KI(1) TERM(6)
func (i InitializeUpdate) Bytes() []byte { return append([]byte{i.KeyIndex}, i.Terminal[:]...) }
