package softcard

import (
	"crypto/cipher"
	"encoding/binary"
	"io"
	"math"

	"github.com/pursekeeper/pursekeeper/purse"
)

// transaction is one that INITIALIZE opened and nothing has completed.
type transaction struct {
	tti      purse.TTI
	purse    purse.Purse
	amount   purse.Fen
	terminal purse.Terminal
	key      storedKey
	random   purse.Random
	cipher   cipher.Block // of the session key; a purchase has none before its terminal's serial is known
	cached   *cachedRecord
}

// cachedRecord is what UPDATE CAPP CACHE left for the debit to write.
type cachedRecord struct {
	sfi    byte
	record int
	data   hexBytes
}

// The data of a MAC, in the forms that several share.
func be16(c purse.Counter) []byte { return binary.BigEndian.AppendUint16(nil, uint16(c)) }

func be24(l purse.Limit) []byte { return binary.BigEndian.AppendUint32(nil, uint32(l))[1:] }

func moment(d purse.Date, t purse.Time) []byte { return concat(d[:], t[:]) }

// sn is the counter of the transaction's kind.
func (t *transaction) sn(a *account) *purse.Counter {
	if t.tti.Offline() {
		return &a.Offline
	}
	return &a.Online
}

// initialize is INITIALIZE FOR …; a new one forgets the one before, even when it is refused (EPURSE.md §5).
func (c *Card) initialize(a purse.APDU, _ []byte) ([]byte, error) {
	c.session.open = nil
	var answer []byte
	var opened *transaction
	var err error
	switch a.P1 {
	case 0x00:
		opened, answer, err = c.initializeOnline(a, purse.Purse(a.P2).LoadTTI(), purse.KeyLoad)
	case 0x05:
		tti := purse.TTIUnload
		if purse.Purse(a.P2) != c.profile.UnloadPurse() {
			tti = 0
		}
		opened, answer, err = c.initializeOnline(a, tti, purse.KeyUnload)
	case 0x04:
		opened, answer, err = c.initializeUpdate(a)
	case 0x01:
		opened, answer, err = c.initializePurchase(a, purse.Purse(a.P2).PurchaseTTI())
	case 0x02:
		opened, answer, err = c.initializePurchase(a, only(a.P2, purse.ED, purse.TTICashWithdrawal))
	case 0x03:
		opened, answer, err = c.initializePurchase(a, only(a.P2, purse.EP, purse.TTICompound))
	default:
		err = refusal(purse.SWParameters)
	}
	if err != nil {
		return nil, err
	}
	if err := c.step(); err != nil {
		return nil, err
	}
	c.session.open = opened
	return answer, nil
}

// only is tti when P2 names p, else the invalid type.
func only(p2 byte, p purse.Purse, tti purse.TTI) purse.TTI {
	if purse.Purse(p2) != p {
		return 0
	}
	return tti
}

// begin checks what every INITIALIZE has in common and draws R.
func (c *Card) begin(t *transaction, kind purse.KeyKind, index byte) error {
	if t.tti == 0 {
		return refusal(purse.SWParameters)
	}
	if c.state.RequirePIN && !c.session.verified && t.tti != purse.TTIPurchaseEP && t.tti != purse.TTICompound {
		return refusal(purse.SWConditions)
	}
	key, err := c.state.key(kind, index)
	if err != nil {
		return refusal(purse.SWKeyIndex)
	}
	if *t.sn(c.state.account(t.purse)) == purse.CounterExhausted {
		return refusal(purse.SWCounterExhausted)
	}
	t.key = key
	_, err = io.ReadFull(c.random, t.random[:])
	return err
}

// initializeOnline is INITIALIZE FOR LOAD and UNLOAD.
//
//	MAC1 = MAC(SES, BAL AMT TTI TERM)      SES from R ONSN 80 00
func (c *Card) initializeOnline(a purse.APDU, tti purse.TTI, kind purse.KeyKind) (*transaction, []byte, error) {
	data, err := purse.ParseInitialize(a.Data)
	if err != nil {
		return nil, nil, refusal(purse.SWLength)
	}
	t := &transaction{tti: tti, purse: purse.Purse(a.P2), amount: data.Amount, terminal: data.Terminal}
	if err := first(want(a, 16), c.begin(t, kind, data.KeyIndex)); err != nil {
		return nil, nil, err
	}
	balance := c.state.account(t.purse)
	if tti == purse.TTIUnload && t.amount > balance.Balance {
		return nil, nil, refusal(purse.SWBalance)
	}
	t.cipher, err = c.state.sessionCipher(t.key, [8]byte(concat(t.random[:], be16(balance.Online), []byte{0x80, 0x00})))
	if err != nil {
		return nil, nil, err
	}
	mac1, err := mac(t.cipher, balance.Balance.Bytes(), t.amount.Bytes(), []byte{byte(tti)}, t.terminal[:])
	if err != nil {
		return nil, nil, err
	}
	return t, purse.LoadInit{
		Balance: balance.Balance, Counter: balance.Online, KVER: t.key.Version, ALG: purse.ALG(c.state.ALG),
		Random: t.random, MAC1: mac1,
	}.Bytes(), nil
}

// initializeUpdate is INITIALIZE FOR UPDATE of the overdraft limit.
//
//	MAC1 = MAC(SESUK, BAL OLDLIM 07 TERM)
func (c *Card) initializeUpdate(a purse.APDU) (*transaction, []byte, error) {
	data, err := purse.ParseInitializeUpdate(a.Data)
	if err != nil {
		return nil, nil, refusal(purse.SWLength)
	}
	t := &transaction{tti: only(a.P2, purse.ED, purse.TTIOverdraft), purse: purse.ED, terminal: data.Terminal}
	if err := first(want(a, 19), c.begin(t, purse.KeyOverdraft, data.KeyIndex)); err != nil {
		return nil, nil, err
	}
	ed := c.state.ED
	t.cipher, err = c.state.sessionCipher(t.key, [8]byte(concat(t.random[:], be16(ed.Online), []byte{0x80, 0x00})))
	if err != nil {
		return nil, nil, err
	}
	mac1, err := mac(t.cipher, ed.Balance.Bytes(), be24(ed.Overdraft), []byte{byte(t.tti)}, t.terminal[:])
	if err != nil {
		return nil, nil, err
	}
	return t, purse.OverdraftInit{
		Balance: ed.Balance, Counter: ed.Online, OldLimit: ed.Overdraft, KVER: t.key.Version, ALG: purse.ALG(c.state.ALG),
		Random: t.random, MAC1: mac1,
	}.Bytes(), nil
}

// initializePurchase is INITIALIZE FOR PURCHASE, cash withdrawal and compound: the terminal speaks first.
func (c *Card) initializePurchase(a purse.APDU, tti purse.TTI) (*transaction, []byte, error) {
	data, err := purse.ParseInitialize(a.Data)
	if err != nil {
		return nil, nil, refusal(purse.SWLength)
	}
	t := &transaction{tti: tti, purse: purse.Purse(a.P2), amount: data.Amount, terminal: data.Terminal}
	if err := first(want(a, 15), c.begin(t, purse.KeyPurchase, data.KeyIndex)); err != nil {
		return nil, nil, err
	}
	from := c.state.account(t.purse)
	if t.amount > from.Balance {
		return nil, nil, refusal(purse.SWBalance)
	}
	return t, purse.PurchaseInit{
		Balance: from.Balance, Counter: from.Offline, Overdraft: from.Overdraft, KVER: t.key.Version,
		ALG: purse.ALG(c.state.ALG), Random: t.random,
	}.Bytes(), nil
}

// take ends the open session and returns its transaction; a completion that fits none is 6901. The session is over however
// the completion ends, so that no terminal can try MACs on one random.
func (c *Card) take(fits func(purse.TTI) bool) (*transaction, error) {
	t := c.session.open
	c.session.open = nil
	if t == nil || !fits(t.tti) {
		return nil, refusal(purse.SWState)
	}
	return t, nil
}

func is(tti purse.TTI) func(purse.TTI) bool {
	return func(other purse.TTI) bool { return other == tti }
}

// settle makes the clone in which the transaction has happened (EPURSE.md §5.6): the new balance, the counter raised, the
// log written, the prove kept. Power may go between any two of them, for nothing of it is the card's state yet.
func (c *Card) settle(t *transaction, balance purse.Fen, limit purse.Limit, d purse.Date, v purse.Time, p prove) (*state, error) {
	next := c.state.clone()
	at := next.account(t.purse)
	sn := *t.sn(at)
	at.Balance = balance
	if err := c.step(); err != nil {
		return nil, err
	}
	*t.sn(at)++
	if err := c.step(); err != nil {
		return nil, err
	}
	at.Overdraft = limit
	p.SN = sn
	next.record(purse.LogRecord{
		SN: sn, Overdraft: limit, Amount: t.amount, TTI: t.tti, Terminal: t.terminal, Date: d, Time: v,
	}, p)
	return next, c.step()
}

// tac is the TAC over the parts, under the TAC key that goes with the transaction's key.
func (c *Card) tac(t *transaction, parts ...[]byte) (purse.MAC, error) {
	key, err := c.state.tacKey(t.key.Version)
	if err != nil {
		return purse.MAC{}, refusal(purse.SWKeyIndex)
	}
	block, err := c.state.foldedCipher(key)
	if err != nil {
		return purse.MAC{}, err
	}
	return mac(block, parts...)
}

// creditForLoad is CREDIT FOR LOAD (EPURSE.md §5.1, §5.6).
//
//	MAC2 = MAC(SESLK, AMT TTI TERM DATE TIME)
//	TAC  = MAC(TAC key, NEWBAL ONSN AMT TTI TERM DATE TIME)
func (c *Card) creditForLoad(a purse.APDU, _ []byte) ([]byte, error) {
	t, err := c.take(func(tti purse.TTI) bool { return tti == purse.TTILoadED || tti == purse.TTILoadEP })
	if err != nil {
		return nil, err
	}
	p1, p2 := c.profile.CreditForLoadParameters()
	if err := first(parameters(a, p1, p2), length(a, 11), want(a, macLen)); err != nil {
		return nil, err
	}
	data, err := purse.ParseCompletion(a.Data)
	if err != nil {
		return nil, refusal(purse.SWData)
	}
	covered := concat(t.amount.Bytes(), []byte{byte(t.tti)}, t.terminal[:], moment(data.Date, data.Time))
	if err := verifyMAC(t.cipher, data.MAC2, purse.SWMAC, covered); err != nil {
		return nil, err
	}
	at := c.state.account(t.purse)
	if t.amount > math.MaxUint32-at.Balance {
		return nil, refusal(purse.SWConditions)
	}
	balance := at.Balance + t.amount
	tac, err := c.tac(t, balance.Bytes(), be16(at.Online), covered)
	if err != nil {
		return nil, err
	}
	next, err := c.settle(t, balance, at.Overdraft, data.Date, data.Time, prove{MAC: data.MAC2[:], TAC: tac[:]})
	if err != nil {
		return nil, err
	}
	return tac[:], c.commit(next)
}

// updateOverdraft is UPDATE OVERDRAFT LIMIT (EPURSE.md §5.4).
//
//	MAC2 = MAC(SESUK, NEWLIM 07 TERM DATE TIME)
//	TAC  = MAC(TAC key, NEWBAL ONSN NEWLIM 07 TERM DATE TIME)      NEWBAL = BAL + NEWLIM - OLDLIM
func (c *Card) updateOverdraft(a purse.APDU, _ []byte) ([]byte, error) {
	t, err := c.take(is(purse.TTIOverdraft))
	if err != nil {
		return nil, err
	}
	if err := first(parameters(a, 0x00, 0x00), length(a, 14), want(a, macLen)); err != nil {
		return nil, err
	}
	data, err := purse.ParseLimitUpdate(a.Data)
	if err != nil {
		return nil, refusal(purse.SWData)
	}
	covered := concat(be24(data.NewLimit), []byte{byte(t.tti)}, t.terminal[:], moment(data.Date, data.Time))
	if err := verifyMAC(t.cipher, data.MAC2, purse.SWMAC, covered); err != nil {
		return nil, err
	}
	ed := c.state.ED
	sum := int64(ed.Balance) + int64(data.NewLimit) - int64(ed.Overdraft)
	switch {
	case sum < 0:
		return nil, refusal(purse.SWBalance)
	case sum > math.MaxUint32:
		return nil, refusal(purse.SWConditions)
	}
	balance := purse.Fen(sum)
	tac, err := c.tac(t, balance.Bytes(), be16(ed.Online), covered)
	if err != nil {
		return nil, err
	}
	next, err := c.settle(t, balance, data.NewLimit, data.Date, data.Time, prove{MAC: data.MAC2[:], TAC: tac[:]})
	if err != nil {
		return nil, err
	}
	return tac[:], c.commit(next)
}
