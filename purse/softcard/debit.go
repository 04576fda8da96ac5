package softcard

import "github.com/pursekeeper/pursekeeper/purse"

// debit is DEBIT FOR UNLOAD and DEBIT FOR PURCHASE, told apart by P1.
func (c *Card) debit(a purse.APDU, _ []byte) ([]byte, error) {
	if a.P1 == 0x03 {
		return c.debitForUnload(a)
	}
	return c.debitForPurchase(a)
}

// debitForUnload is DEBIT FOR UNLOAD (EPURSE.md §5.3).
//
//	MAC2 = MAC(SESULK, AMT 03 TERM DATE TIME)
//	MAC3 = MAC(SESULK, NEWBAL ONSN AMT 03 TERM DATE TIME)
func (c *Card) debitForUnload(a purse.APDU) ([]byte, error) {
	t, err := c.take(is(purse.TTIUnload))
	if err != nil {
		return nil, err
	}
	if err := first(parameters(a, 0x03, 0x00), length(a, 11), want(a, macLen)); err != nil {
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
	balance := at.Balance - t.amount // INITIALIZE saw that it is enough, and nothing changes it meanwhile
	mac3, err := mac(t.cipher, balance.Bytes(), be16(at.Online), covered)
	if err != nil {
		return nil, err
	}
	next, err := c.settle(t, balance, at.Overdraft, data.Date, data.Time, prove{MAC: mac3[:], TAC: make([]byte, macLen)})
	if err != nil {
		return nil, err
	}
	return mac3[:], c.commit(next)
}

// debitForPurchase is DEBIT FOR PURCHASE, of cash withdrawal and compound too (EPURSE.md §5.2). A compound purchase writes
// the record that UPDATE CAPP CACHE left together with the balance, and without one it is 6901.
//
//	MAC1 = MAC(SESPK, AMT TTI TERM DATE TIME)      SESPK from R OFFSN TSN[2..3]
//	MAC2 = MAC(SESPK, AMT)
//	TAC  = MAC(TAC key, AMT TTI TERM TSN DATE TIME)
func (c *Card) debitForPurchase(a purse.APDU) ([]byte, error) {
	t, err := c.take(purse.TTI.Offline)
	if err != nil {
		return nil, err
	}
	if err := first(parameters(a, c.profile.DebitP1(t.tti), 0x00), length(a, 15), want(a, 2*macLen)); err != nil {
		return nil, err
	}
	if t.tti == purse.TTICompound && t.cached == nil {
		return nil, refusal(purse.SWState)
	}
	data, err := purse.ParseDebitRequest(a.Data)
	if err != nil {
		return nil, refusal(purse.SWData)
	}
	tsn := a.Data[:4]
	at := c.state.account(t.purse)
	t.cipher, err = c.state.sessionCipher(t.key, [8]byte(concat(t.random[:], be16(at.Offline), tsn[2:])))
	if err != nil {
		return nil, err
	}
	head := concat(t.amount.Bytes(), []byte{byte(t.tti)}, t.terminal[:])
	when := moment(data.Date, data.Time)
	if err := verifyMAC(t.cipher, data.MAC1, purse.SWMAC, head, when); err != nil {
		return nil, err
	}
	mac2, err := mac(t.cipher, t.amount.Bytes())
	if err != nil {
		return nil, err
	}
	tac, err := c.tac(t, head, tsn, when)
	if err != nil {
		return nil, err
	}
	next, err := c.settle(t, at.Balance-t.amount, at.Overdraft, data.Date, data.Time, prove{MAC: mac2[:], TAC: tac[:]})
	if err != nil {
		return nil, err
	}
	if t.cached != nil {
		next.Records[t.cached.sfi][t.cached.record] = t.cached.data
		if err := c.step(); err != nil {
			return nil, err
		}
	}
	return purse.DebitAnswer{TAC: tac, MAC2: mac2}.Bytes(), c.commit(next)
}

// updateCache is UPDATE CAPP CACHE: it keeps a record for the debit of the compound purchase that is open.
func (c *Card) updateCache(a purse.APDU, _ []byte) ([]byte, error) {
	t := c.session.open
	if t == nil || t.tti != purse.TTICompound {
		return nil, refusal(purse.SWState)
	}
	sfi, record, err := c.findRecord(a, c.state)
	if err != nil {
		return nil, err
	}
	if len(a.Data) != len(c.state.Records[sfi][record]) {
		return nil, refusal(purse.SWLength)
	}
	t.cached = &cachedRecord{sfi, record, append(hexBytes(nil), a.Data...)}
	return nil, c.step()
}
