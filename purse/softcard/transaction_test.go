package softcard_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// The demonstration load (DESIGN, §4) and the independently computed vectors, from the card's side.
func TestCardAnswersTheVectors(t *testing.T) {
	for alg, want := range map[suite.Algorithm]struct{ load, tac, mac2, purchase, unload, mac3, overdraft, limit string }{
		suite.TDES: {
			"7E1722D0", "5D5364F0", "60B7B5B7", "88B96EA26F08E896",
			"D7C82AD7", "2E566532", "7029F096", "ED2EF368",
		},
		suite.SM4: {
			"C9A6F09C", "15CDABFC", "1FF2DC09", "6018FD446C1EA7B4",
			"D279109A", "00B18BC0", "D47BF7AC", "7E51A6B4",
		},
	} {
		p := profile(t, purse.ProfilePBOC)
		h := newHost(t, alg, p)
		answer := h.ok(built(purse.InitializeForLoad(p, purse.EP, 100, terminal)))
		assert.Equal(t, "000003E80007"+"0100"+"A1B2C3D4"+want.load, upper(answer))
		tac := h.ok(plain(purse.CreditForLoad(p, date, clock, purse.MAC(unhex(t, want.mac2)))))
		assert.Equal(t, want.tac, upper(tac))

		h = newHost(t, alg, p)
		_, debit := h.openPurchase(purse.TTIPurchaseEP, 0x345, 100)
		assert.Equal(t, want.purchase, upper(h.ok(debit)))

		h = newHost(t, alg, p)
		answer = h.ok(built(purse.InitializeForUnload(p, purse.ED, 100, terminal)))
		assert.Equal(t, want.unload, upper(answer[12:]))
		h = newHost(t, alg, p)
		_, debit = h.openUnload(100)
		assert.Equal(t, want.mac3, upper(h.ok(debit)))

		h = newHost(t, alg, p)
		answer = h.ok(plain(purse.InitializeForUpdate(p, terminal)))
		assert.Equal(t, want.overdraft, upper(answer[15:]))
		h = newHost(t, alg, p)
		_, update := h.openOverdraft(500)
		assert.Equal(t, want.limit, upper(h.ok(update)))
	}
}

// Every transaction, between a card and a host whose keys are masters in an engine, in both suites and every profile.
func TestWholeTransactions(t *testing.T) {
	for _, alg := range both {
		for _, name := range purse.ShippedProfiles() {
			t.Run(alg.String()+" "+name, func(t *testing.T) {
				h := newHost(t, alg, profile(t, name))
				h.load(purse.EP, 500)
				h.load(purse.ED, 300)
				assert.Equal(t, purse.Fen(1500), h.balance(purse.EP))
				assert.Equal(t, purse.Fen(1300), h.balance(purse.ED))
				h.buy(purse.TTIPurchaseEP, 1, 1500)
				h.buy(purse.TTIPurchaseED, 2, 100)
				h.buy(purse.TTICashWithdrawal, 3, 200)
				assert.Zero(t, h.balance(purse.EP))
				assert.Equal(t, purse.Fen(1000), h.balance(purse.ED))
				h.load(purse.EP, 70)
				h.buy(purse.TTICompound, 4, 20)
				assert.Equal(t, "gate 042", string(h.ok(plain(purse.ReadRecord(0x17, 1, 8)))))
				h.unload(400)
				assert.Equal(t, purse.Fen(600), h.balance(purse.ED))
				h.overdraft(5000)
				assert.Equal(t, purse.Fen(5600), h.balance(purse.ED))
				h.buy(purse.TTIPurchaseED, 5, 5500)
				h.overdraft(4900)
				assert.Zero(t, h.balance(purse.ED))

				// Load, unload and overdraft share a purse's online counter; purchases count on the other.
				init, err := purse.ParseOverdraftInit(h.ok(plain(purse.InitializeForUpdate(h.profile, terminal))))
				require.NoError(t, err)
				assert.Equal(t, purse.Counter(7+4), init.Counter)
				assert.Equal(t, purse.Limit(4900), init.OldLimit)
				next, err := purse.ParsePurchaseInit(h.ok(built(purse.InitializeForPurchase(h.profile, purse.TTIPurchaseED, 0, terminal))))
				require.NoError(t, err)
				assert.Equal(t, purse.Counter(0x12+3), next.Counter)
				assert.Equal(t, purse.Limit(4900), next.Overdraft)
			})
		}
	}
}

func TestUnloadOfEPWhereTheProfileSaysSo(t *testing.T) {
	p, err := profile(t, purse.ProfilePBOC).With([]byte(`{"unloadPurse": "EP"}`))
	require.NoError(t, err)
	for _, alg := range both {
		h := newHost(t, alg, p)
		h.unload(1000)
		assert.Zero(t, h.balance(purse.EP))
		assert.Equal(t, purse.Fen(1000), h.balance(purse.ED))
		h.refused(purse.SWParameters, plain(initialize(0x05, purse.ED, 1, 1)))
	}
}

func TestLogKeepsTheLastTen(t *testing.T) {
	h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
	h.refused(purse.SWRecordNotFound, plain(purse.ReadLog(1)))
	for i := range 12 {
		h.load(purse.EP, purse.Fen(i+1))
	}
	for i := range 10 {
		record, err := purse.ParseLogRecord(h.ok(plain(purse.ReadLog(byte(i + 1)))))
		require.NoError(t, err)
		assert.Equal(t, purse.LogRecord{
			SN: purse.Counter(7 + 11 - i), Amount: purse.Fen(12 - i), TTI: purse.TTILoadEP, Terminal: terminal, Date: date, Time: clock,
		}, record)
	}
	h.refused(purse.SWRecordNotFound, plain(purse.ReadLog(11)))
	h.refused(purse.SWRecordNotFound, plain(purse.ReadLog(0)))
}

// GET TRANSACTION PROVE answers for the last transaction of each type, after a power cycle too, and for no other.
func TestTransactionProve(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		h.refused(purse.SWNoProve, built(purse.TransactionProve(purse.TTILoadEP, 7)))
		load := h.load(purse.EP, 100)
		h.buy(purse.TTIPurchaseEP, 9, 50)
		unload, debit := h.openUnload(10)
		mac3 := h.ok(debit)
		h.card.Reset()
		h.choose()

		answer, err := purse.ParseProveAnswer(h.ok(built(purse.TransactionProve(purse.TTILoadEP, 7))))
		require.NoError(t, err)
		h.verifyTAC(load.TACData(date, clock), answer.TAC[:])
		h.verifySession(purse.KeyLoad, load.SessionInput(), load.MAC2Data(date, clock), answer.MAC[:])
		answer, err = purse.ParseProveAnswer(h.ok(built(purse.TransactionProve(purse.TTIUnload, 7))))
		require.NoError(t, err)
		assert.Equal(t, mac3, answer.MAC[:])
		h.verifySession(purse.KeyUnload, unload.SessionInput(), unload.MAC3Data(date, clock), answer.MAC[:])
		h.ok(built(purse.TransactionProve(purse.TTIPurchaseEP, 0x12)))

		h.refused(purse.SWNoProve, built(purse.TransactionProve(purse.TTILoadEP, 8)))
		h.refused(purse.SWNoProve, built(purse.TransactionProve(purse.TTILoadED, 7)))
		h.load(purse.EP, 1)
		h.refused(purse.SWNoProve, built(purse.TransactionProve(purse.TTILoadEP, 7)))
		h.ok(built(purse.TransactionProve(purse.TTILoadEP, 8)))
	}
}

// A new INITIALIZE, SELECT, a power cycle and a wrong MAC each forget the session: the old MAC2 is then good for nothing.
func TestSessionsAreForgotten(t *testing.T) {
	for name, forget := range map[string]func(*host){
		"initialise": func(h *host) { h.openLoad(purse.EP, 100) },
		"another":    func(h *host) { h.openLoad(purse.ED, 100) },
		"refused":    func(h *host) { h.refused(purse.SWKeyIndex, plain(initialize(0x00, purse.EP, 9, 1))) },
		"select":     func(h *host) { h.choose() },
		"reset":      func(h *host) { h.card.Reset(); h.choose() },
		"wrong mac":  func(h *host) { h.refused(purse.SWMAC, plain(purse.CreditForLoad(h.profile, date, clock, purse.MAC{}))) },
		"other end":  func(h *host) { h.refused(purse.SWState, plain(purse.DebitForUnload(date, clock, purse.MAC{}))) },
		"bad date": func(h *host) {
			h.refused(purse.SWData, plain(purse.CreditForLoad(h.profile, purse.Date{0x20, 0x23, 0x02, 0x30}, clock, purse.MAC{})))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
			before := h.snapshot()
			_, credit := h.openLoad(purse.EP, 100)
			forget(h)
			_, sw := h.send(credit)
			assert.Contains(t, []purse.SW{purse.SWState, purse.SWMAC}, sw)
			assert.Equal(t, before, h.snapshot())
			h.load(purse.EP, 100)
		})
	}
}

// A MAC2 moves exactly one load, once: no bit of it may change, and it is used up.
func TestMAC2IsUsedOnce(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		before := h.snapshot()
		for bit := range 32 {
			_, credit := h.openLoad(purse.EP, 100)
			credit.apdu.Data[7+bit/8] ^= 1 << (bit % 8)
			h.refused(purse.SWMAC, credit)
		}
		assert.Equal(t, before, h.snapshot())
		_, credit := h.openLoad(purse.EP, 100)
		h.ok(credit)
		h.refused(purse.SWState, credit)
		assert.Equal(t, purse.Fen(1100), h.balance(purse.EP))
	}
}

func initialize(p1 byte, p purse.Purse, index byte, amount purse.Fen) purse.APDU {
	data := purse.Initialize{KeyIndex: index, Amount: amount, Terminal: terminal}.Bytes()
	return purse.APDU{CLA: 0x80, INS: 0x50, P1: p1, P2: byte(p), Data: data}
}

// Balances that do not fit, and counters that are at their end (EPURSE.md §5.6).
func TestLimitsOfTheCard(t *testing.T) {
	for _, alg := range both {
		o := options(t, alg, profile(t, purse.ProfilePBOC))
		o.EP = softcard.Account{Balance: 0xFFFFFFF0, Online: 0xFFFE, Offline: 0xFFFE}
		o.ED = softcard.Account{Balance: 0xFFFFFFF0, Online: 0xFFFE}
		card, err := softcard.Personalise(o)
		require.NoError(t, err)
		h := &host{t, alg, o.Profile, card}
		h.choose()
		before := h.snapshot()

		// The host refuses such a load itself, so the card's own check takes a host that does not.
		h.refused(purse.SWConditions, h.overfullLoad())
		o2, err := purse.NewOverdraft(purse.OverdraftInit{}, 0x10, terminal)
		require.NoError(t, err)
		h.refused(purse.SWConditions, h.rawLimit(o2))
		h.refused(purse.SWBalance, plain(initialize(0x01, purse.EP, 1, 0xFFFFFFF1)))
		h.refused(purse.SWBalance, plain(initialize(0x05, purse.ED, 1, 0xFFFFFFF1)))
		assert.Equal(t, before, h.snapshot())

		h.load(purse.EP, 0x0F)
		assert.Equal(t, purse.Fen(0xFFFFFFFF), h.balance(purse.EP))
		h.refused(purse.SWCounterExhausted, plain(initialize(0x00, purse.EP, 1, 0)))
		h.buy(purse.TTIPurchaseEP, 1, 1)
		h.refused(purse.SWCounterExhausted, plain(initialize(0x01, purse.EP, 1, 0)))
		h.refused(purse.SWCounterExhausted, plain(initialize(0x03, purse.EP, 1, 0)))
		h.unload(1)
		h.refused(purse.SWCounterExhausted, plain(initialize(0x05, purse.ED, 1, 0)))
		h.refused(purse.SWCounterExhausted, plain(purse.InitializeForUpdate(h.profile, terminal)))
	}
}

// overfullLoad is a load of 16 fen with the right MAC2, onto a balance that it overflows.
func (h *host) overfullLoad() command {
	init, err := purse.ParseLoadInit(h.ok(built(purse.InitializeForLoad(h.profile, purse.EP, 0x10, terminal))))
	require.NoError(h.t, err)
	init.Balance = 0 // what MAC2 covers has no balance
	load, err := purse.NewLoad(init, purse.EP, 0x10, terminal)
	require.NoError(h.t, err)
	return plain(purse.CreditForLoad(h.profile, date, clock, h.mac(purse.KeyLoad, load.SessionInput(), load.MAC2Data(date, clock))))
}

// rawLimit is a change of the overdraft limit with the right MAC2, whatever the balance.
func (h *host) rawLimit(o purse.Overdraft) command {
	init, err := purse.ParseOverdraftInit(h.ok(plain(purse.InitializeForUpdate(h.profile, terminal))))
	require.NoError(h.t, err)
	return plain(purse.UpdateOverdraftLimit(0x10, date, clock, h.mac(purse.KeyOverdraft, init.SessionInput(), o.MAC2Data(date, clock))))
}

func (h *host) mac(kind purse.KeyKind, in [8]byte, data []byte) (mac purse.MAC) {
	h.t.Helper()
	require.NoError(h.t, h.with(kind, func(card keyderive.Card) error {
		session, err := card.Session(in)
		require.NoError(h.t, err)
		mac, err = session.MAC(data)
		return err
	}))
	return mac
}

// Lowering the limit below what is overdrawn is refused.
func TestLimitBelowWhatIsOverdrawn(t *testing.T) {
	h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
	h.overdraft(0x20)
	h.buy(purse.TTIPurchaseED, 1, 1000+0x18)
	o, err := purse.NewOverdraft(purse.OverdraftInit{}, 0x10, terminal)
	require.NoError(t, err)
	h.refused(purse.SWBalance, h.rawLimit(o))
}

// Commands in the wrong place, and with the wrong parameters.
func TestStatusWords(t *testing.T) {
	p := profile(t, purse.ProfilePBOC)
	mac := purse.MAC{}
	credit, debit := purse.CreditForLoad(p, date, clock, mac), purse.DebitForUnload(date, clock, mac)
	buy, err := purse.NewPurchase(purse.PurchaseInit{}, purse.TTIPurchaseEP, 1, 1, terminal)
	require.NoError(t, err)
	load := initialize(0x00, purse.EP, 1, 1)
	changed := func(a purse.APDU, change func(*purse.APDU)) purse.APDU { change(&a); return a }
	for _, c := range []struct {
		want purse.SW
		apdu purse.APDU
	}{
		{purse.SWState, credit},
		{purse.SWState, debit},
		{purse.SWState, buy.Debit(p, date, clock, mac)},
		{purse.SWState, purse.UpdateOverdraftLimit(1, date, clock, mac)},
		{purse.SWState, purse.APDU{CLA: 0x80, INS: 0xDC, P1: 1, P2: 0xBC, Data: []byte{1}}},
		{purse.SWClass, purse.APDU{CLA: 0x90, INS: 0x50}},
		{purse.SWInstruction, purse.APDU{CLA: 0x80, INS: 0x51}},
		{purse.SWInstruction, purse.APDU{CLA: 0x84, INS: 0x50}},
		{purse.SWParameters, initialize(0x06, purse.EP, 1, 1)},
		{purse.SWParameters, initialize(0x00, 3, 1, 1)},
		{purse.SWParameters, initialize(0x01, 0, 1, 1)},
		{purse.SWParameters, initialize(0x02, purse.EP, 1, 1)},
		{purse.SWParameters, initialize(0x03, purse.ED, 1, 1)},
		{purse.SWParameters, initialize(0x05, purse.EP, 1, 1)},
		{purse.SWParameters, changed(purse.InitializeForUpdate(p, terminal), func(a *purse.APDU) { a.P2 = 2 })},
		{purse.SWKeyIndex, initialize(0x00, purse.EP, 2, 1)},
		{purse.SWKeyIndex, initialize(0x01, purse.EP, 0, 1)},
		{purse.SWBalance, initialize(0x01, purse.EP, 1, 1001)},
		{purse.SWBalance, initialize(0x05, purse.ED, 1, 1001)},
		{purse.SWLength, changed(load, func(a *purse.APDU) { a.Data = a.Data[:10] })},
		{purse.SWLength, changed(load, func(a *purse.APDU) { a.Expect = 15 })},
		{purse.SWLength, changed(purse.InitializeForUpdate(p, terminal), func(a *purse.APDU) { a.Data = a.Data[:6] })},
		{purse.SWParameters, purse.APDU{CLA: 0x80, INS: 0x5C, P2: 3}},
		{purse.SWParameters, purse.APDU{CLA: 0x80, INS: 0x5A, P2: 8, Data: []byte{0, 1}}},
		{purse.SWLength, purse.APDU{CLA: 0x80, INS: 0x5A, P2: 2, Data: []byte{0}}},
		{purse.SWNotFound, purse.APDU{INS: 0xA4, P1: 4, Data: []byte{1, 2, 3, 4, 5}}},
	} {
		h := newHost(t, suite.TDES, p)
		before := h.snapshot()
		h.refused(c.want, plain(c.apdu))
		assert.Equal(t, before, h.snapshot())
	}
	h := newHost(t, suite.TDES, p)
	assert.Equal(t, "6700", upper(h.card.Transmit([]byte{0x80, 0x50})))
	assert.Equal(t, "6700", upper(h.card.Transmit(unhex(t, "80500002 0B 01"))))
	h.card.Reset()
	h.refused(purse.SWState, plain(load))
	h.ok(plain(purse.Challenge(p)))
}

// The parameters of a completion are the profile's, and a compound purchase needs its record.
func TestCompletionsFollowTheProfile(t *testing.T) {
	pboc, transport := profile(t, purse.ProfilePBOC), profile(t, purse.ProfileTransport)
	h := newHost(t, suite.TDES, transport)
	h.openLoad(purse.EP, 1)
	h.refused(purse.SWParameters, plain(purse.CreditForLoad(pboc, date, clock, purse.MAC{})))
	buy, _ := h.openPurchase(purse.TTIPurchaseEP, 1, 1)
	h.refused(purse.SWParameters, plain(buy.Debit(pboc, date, clock, purse.MAC{})))

	h.ok(built(purse.InitializeForPurchase(transport, purse.TTICompound, 1, terminal)))
	h.refused(purse.SWNotFound, built(purse.UpdateCAPPCache(0x01, 0x19<<3|4, []byte("gate 042"))))
	h.refused(purse.SWRecordNotFound, built(purse.UpdateCAPPCache(0x03, 0x17<<3|4, []byte("gate 042"))))
	h.refused(purse.SWLength, built(purse.UpdateCAPPCache(0x01, 0x17<<3|4, []byte("gate"))))
	h.refused(purse.SWParameters, built(purse.UpdateCAPPCache(0x01, 0x17<<3|5, []byte("gate 042"))))
	compound, err := purse.NewPurchase(purse.PurchaseInit{}, purse.TTICompound, 1, 1, terminal)
	require.NoError(t, err)
	h.refused(purse.SWState, plain(compound.Debit(transport, date, clock, purse.MAC{})))
}
