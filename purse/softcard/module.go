package softcard

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Module is a secure module in software: of a reader, whose keys WRITE KEY puts there, and of a terminal that has purchase keys of
// its own (PSAM, EPURSE.md §7). Like a card it must not be used by two goroutines at once, it is no secure element, and it lays out
// and computes every MAC itself. What it holds lives as long as the value: a TSN goes on where ModuleOptions.LastTSN says.
type Module struct {
	ring     keyring // the reader's keys
	profile  purse.Profile
	device   [8]byte
	terminal purse.Terminal
	purchase map[purse.KVER]KeyValue
	levels   int
	last     purse.TSN
	random   io.Reader

	challenge []byte       // of the command just before
	open      *samPurchase // between 80 70 and 80 72
}

// samPurchase is what 80 72 verifies MAC2 with.
type samPurchase struct {
	card   storedKey // DPK
	in     [8]byte
	amount []byte
}

// ModuleOptions is a module as it leaves its maker.
type ModuleOptions struct {
	Algorithm suite.Algorithm
	Profile   purse.Profile
	Device    [8]byte        // the device number, which diversifies the reader's keys
	Terminal  purse.Terminal // the terminal number, which MAC1 covers
	Control   KeyValue       // the reader-control key, diversified already: WRITE KEY replaces it

	// Purchase is the purchase masters (MPK) by KVER, for terminals that need no network; none refuses 80 70 with 9403.
	Purchase map[purse.KVER]KeyValue
	Levels   int       // factors of 80 70, the card's among them: 1 to 3; 0 is 1
	LastTSN  purse.TSN // the last serial that was used

	Random io.Reader // challenges come from here; required
}

// NewModule makes a module that has its control key and no reader key yet.
func NewModule(o ModuleOptions) (*Module, error) {
	if o.Levels == 0 {
		o.Levels = 1
	}
	switch {
	case !o.Algorithm.Valid():
		return nil, fmt.Errorf("softcard module: algorithm: %v", o.Algorithm)
	case o.Profile.Name() == "":
		return nil, errors.New("softcard module: profile: missing")
	case o.Levels < 1 || o.Levels > 3:
		return nil, fmt.Errorf("softcard module: levels: %d, expected 1 to 3", o.Levels)
	case o.Random == nil:
		return nil, errors.New("softcard module: random: missing")
	}
	m := &Module{
		ring: keyring{Algorithm: o.Algorithm}, profile: o.Profile, device: o.Device, terminal: o.Terminal,
		purchase: make(map[purse.KVER]KeyValue, len(o.Purchase)), levels: o.Levels, last: o.LastTSN, random: o.Random,
	}
	for version, master := range o.Purchase {
		m.purchase[version] = master
	}
	m.ring.put(storedKey{Kind: purse.KeyReaderControl, Version: 1, Value: slices.Clone(o.Control[:])})
	return m, nil
}

// Format prints the module's device number and nothing else.
func (m *Module) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "softcard module %X", m.device) }

// Device is the device number.
func (m *Module) Device() [8]byte { return m.device }

// LastTSN is the last transaction serial that the module gave, ModuleOptions.LastTSN of the one that follows it.
func (m *Module) LastTSN() purse.TSN { return m.last }

// TestOnlyKey is the module's key of a kind, as a reader in software needs it to speak to the signer; ok is false when it was
// never written.
func (m *Module) TestOnlyKey(kind purse.KeyKind) (value KeyValue, ok bool) {
	key, err := m.ring.firstKey(kind)
	if err != nil {
		return value, false
	}
	return KeyValue(key.Value), true
}

// Reset is a power cycle.
func (m *Module) Reset() { m.challenge, m.open = nil, nil }

// Transmit gives the module one command and returns its answer, data and status word.
func (m *Module) Transmit(apdu []byte) []byte {
	data, err := m.run(apdu)
	sw := purse.SWOK
	var refused refusal
	switch {
	case errors.As(err, &refused):
		data, sw = nil, purse.SW(refused)
	case err != nil:
		data, sw = nil, purse.SWFault
	}
	return append(slices.Clone(data), byte(sw>>8), byte(sw))
}

// Send is Transmit of a built command, with the answer split.
func (m *Module) Send(a purse.APDU) ([]byte, purse.SW, error) {
	return purse.SplitAnswer(m.Transmit(a.Bytes()))
}

func (m *Module) run(apdu []byte) ([]byte, error) {
	challenge := m.challenge
	m.challenge = nil // good for the command after it alone
	a, err := purse.ParseAPDU(apdu)
	if err != nil {
		return nil, refusal(purse.SWLength)
	}
	switch (instruction{a.CLA, a.INS}) {
	case instruction{0x00, 0x84}:
		m.challenge, err = drawChallenge(a, m.profile, m.random)
		return m.challenge, err
	case instruction{0x84, 0xD4}:
		return nil, m.writeKey(a, challenge)
	case instruction{0x80, 0x70}:
		return m.initPurchase(a)
	case instruction{0x80, 0x72}:
		return nil, m.creditPurchase(a)
	}
	if !slices.Contains([]byte{0x00, 0x80, 0x84}, a.CLA) {
		return nil, refusal(purse.SWClass)
	}
	return nil, refusal(purse.SWInstruction)
}

// writeKey is WRITE KEY under the reader-control key; a kind that goes on cards is 6A86.
func (m *Module) writeKey(a purse.APDU, challenge []byte) error {
	control, err := m.ring.firstKey(purse.KeyReaderControl)
	if err != nil {
		return err
	}
	data, err := m.ring.unseal(m.profile, a, control, challenge)
	if err != nil {
		return err
	}
	kind, value, err := m.ring.received(m.profile, a, control, data)
	if err != nil {
		return err
	}
	if !kind.OfModule() {
		return refusal(purse.SWParameters)
	}
	m.ring.put(storedKey{Kind: kind, Version: 1, Value: value})
	return nil
}

// initPurchase is INIT_SAM_FOR_PURCHASE: it takes the next TSN, whatever becomes of the purchase, and makes MAC1.
func (m *Module) initPurchase(a purse.APDU) ([]byte, error) {
	m.open = nil
	if err := first(parameters(a, 0x00, 0x00), want(a, 8)); err != nil {
		return nil, err
	}
	if len(a.Data) != 20+8*m.levels {
		return nil, refusal(purse.SWLength)
	}
	v, err := purse.ParseSAMPurchase(a.Data)
	if err != nil || !m.profile.AcceptsALG(v.ALG) {
		return nil, refusal(purse.SWData)
	}
	master, ok := m.purchase[v.KVER]
	if !ok {
		return nil, refusal(purse.SWKeyIndex)
	}
	if m.last == math.MaxUint32 {
		return nil, refusal(purse.SWCounterExhausted)
	}
	card, err := Diversify(m.ring.Algorithm, master, v.Factors.RootFirst()...)
	if err != nil {
		return nil, err
	}
	m.last++
	tsn := m.last
	open := &samPurchase{card: storedKey{Value: card[:]}, amount: a.Data[6:10]}
	open.in = [8]byte(concat(a.Data[0:6], []byte{byte(tsn >> 8), byte(tsn)})) // R OFFSN TSN[2..3] (§3)
	block, err := m.ring.sessionCipher(open.card, open.in)
	if err != nil {
		return nil, err
	}
	mac1, err := mac(block, open.amount, []byte{byte(v.TTI)}, m.terminal[:], v.Date[:], v.Time[:]) // §5.2
	if err != nil {
		return nil, err
	}
	m.open = open
	return purse.SAMAnswer{TSN: tsn, MAC1: mac1}.Bytes(), nil
}

// creditPurchase is CREDIT_SAM_FOR_PURCHASE: one try at the card's MAC2, over AMT (§5.2); wrong is 9302.
func (m *Module) creditPurchase(a purse.APDU) error {
	open := m.open
	m.open = nil
	if err := first(parameters(a, 0x00, 0x00), length(a, macLen)); err != nil {
		return err
	}
	if open == nil {
		return refusal(purse.SWState)
	}
	block, err := m.ring.sessionCipher(open.card, open.in)
	if err != nil {
		return err
	}
	return verifyMAC(block, purse.MAC(a.Data), purse.SWMAC, open.amount)
}
