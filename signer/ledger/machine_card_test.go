package ledger_test

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"

	"github.com/pursekeeper/pursekeeper/purse"
)

// Published test masters (testvectors, computed.json). Never real keys.
const (
	loadMaster   = "F7C1734AABB56E2CE6E3AE76862FDC3B"
	tacMaster    = "7FA79B75451FCDF820734AE367923E85"
	issuerFactor = "1000100010001000"
)

// card is a wallet card for the machine: the ground truth of what was taken. Its cryptography is written from EPURSE.md §2 to
// §4 on the standard library, apart from the code under test. Beyond a card's duties (EPURSE.md §5.6) it can be told to
// draw a random again, which no good card does.
type card struct {
	serial      string
	load, tac   []byte // DLK, DTK
	purses      map[purse.Purse]*cardPurse
	session     *session
	drawn       uint32
	drawnBefore []purse.Random
}

type cardPurse struct {
	balance purse.Fen
	counter purse.Counter
	taken   map[purse.Counter]taking
}

// session is what INITIALIZE leaves behind, until the next one, a purchase, a completion or a loss of power.
type session struct {
	purse    purse.Purse
	random   purse.Random
	amount   purse.Fen
	terminal purse.Terminal
	unload   bool
}

// taking is one transaction that the card took.
type taking struct {
	random  purse.Random
	tac     purse.MAC
	foreign bool // authorised by another than the signer
}

// offer is an answer to INITIALIZE with what was asked of the card.
type offer struct {
	init     purse.LoadInit
	purse    purse.Purse
	amount   purse.Fen
	terminal purse.Terminal
}

func newCard(serial string) *card {
	c := &card{serial: serial, purses: map[purse.Purse]*cardPurse{}}
	factor := []byte(mustHex(serial))
	c.load = diversify(diversify(mustHex(loadMaster), mustHex(issuerFactor)), factor)
	c.tac = diversify(diversify(mustHex(tacMaster), mustHex(issuerFactor)), factor)
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		c.purses[p] = &cardPurse{balance: 1000, counter: 7, taken: map[purse.Counter]taking{}}
	}
	return c
}

// initialise answers INITIALIZE FOR LOAD, or FOR UNLOAD, whose MAC1 nobody verifies here. again draws an earlier random.
func (c *card) initialise(p purse.Purse, amount purse.Fen, terminal purse.Terminal, unload, again bool) offer {
	at := c.purses[p]
	var random purse.Random
	if again && len(c.drawnBefore) > 0 {
		random = c.drawnBefore[len(c.drawnBefore)-1]
	} else {
		c.drawn++
		binary.BigEndian.PutUint32(random[:], c.drawn*0x9E3779B1)
		c.drawnBefore = append(c.drawnBefore, random)
	}
	c.session = &session{purse: p, random: random, amount: amount, terminal: terminal, unload: unload}
	o := offer{purse: p, amount: amount, terminal: terminal, init: purse.LoadInit{
		Balance: at.balance, Counter: at.counter, KVER: 1, Random: random,
	}}
	data := slices.Concat(at.balance.Bytes(), amount.Bytes(), []byte{byte(p)}, terminal[:])
	o.init.MAC1 = sessionMAC(c.load, random, at.counter, data)
	return o
}

// mac2 is what the host answers to an offer (EPURSE.md §5.1).
func (c *card) mac2(o offer, d purse.Date, t purse.Time) purse.MAC {
	data := slices.Concat(o.amount.Bytes(), []byte{byte(o.purse)}, o.terminal[:], d[:], t[:])
	return sessionMAC(c.load, o.init.Random, o.init.Counter, data)
}

// credit is CREDIT FOR LOAD: all or nothing, and only within the session of the last INITIALIZE.
func (c *card) credit(d purse.Date, t purse.Time, mac2 purse.MAC) (tac purse.MAC, took bool) {
	s := c.session
	c.session = nil
	if s == nil || s.unload {
		return tac, false
	}
	at := c.purses[s.purse]
	o := offer{init: purse.LoadInit{Counter: at.counter, Random: s.random}, purse: s.purse, amount: s.amount, terminal: s.terminal}
	if mac2 != c.mac2(o, d, t) || s.amount > math.MaxUint32-at.balance || at.counter == purse.CounterExhausted {
		return tac, false
	}
	tac = c.tacOf(s.purse, at.balance+s.amount, at.counter, s.amount, s.terminal, d, t)
	at.balance += s.amount
	at.taken[at.counter] = taking{random: s.random, tac: tac}
	at.counter++
	return tac, true
}

// debit is DEBIT FOR UNLOAD, its MAC2 believed: unloads are the ledger's matter here.
func (c *card) debit(random purse.Random) (took bool) {
	s := c.session
	c.session = nil
	if s == nil || !s.unload || s.random != random {
		return false
	}
	at := c.purses[s.purse]
	at.balance -= s.amount
	at.taken[at.counter] = taking{random: random}
	at.counter++
	return true
}

func (c *card) tacOf(
	p purse.Purse, balance purse.Fen, n purse.Counter, amount purse.Fen, terminal purse.Terminal, d purse.Date, t purse.Time,
) purse.MAC {
	counter := binary.BigEndian.AppendUint16(nil, uint16(n))
	data := slices.Concat(balance.Bytes(), counter, amount.Bytes(), []byte{byte(p)}, terminal[:], d[:], t[:])
	folded := make([]byte, 8)
	for i := range folded {
		folded[i] = c.tac[i] ^ c.tac[i+8]
	}
	return cbcMAC(folded, data)
}

// prove is GET TRANSACTION PROVE for the last online transaction.
func (c *card) prove(p purse.Purse) (tac purse.MAC, found bool) {
	at := c.purses[p]
	last, found := at.taken[at.counter-1]
	return last.tac, found && last.tac != purse.MAC{}
}

// spend is an offline purchase: the balance falls and the online counter stays.
func (c *card) spend(p purse.Purse, amount purse.Fen) {
	c.session = nil
	if at := c.purses[p]; at.balance >= amount {
		at.balance -= amount
	}
}

func (c *card) losePower() { c.session = nil }

func diversify(key, factor []byte) []byte {
	block, err := des.NewTripleDESCipher(slices.Concat(key, key[:8]))
	must(err)
	out := make([]byte, 16)
	block.Encrypt(out[:8], factor)
	inverted := make([]byte, 8)
	for i, b := range factor {
		inverted[i] = ^b
	}
	block.Encrypt(out[8:], inverted)
	return out
}

func sessionMAC(key []byte, r purse.Random, n purse.Counter, data []byte) purse.MAC {
	block, err := des.NewTripleDESCipher(slices.Concat(key, key[:8]))
	must(err)
	in := append(binary.BigEndian.AppendUint16(slices.Clone(r[:]), uint16(n)), 0x80, 0x00)
	session := make([]byte, 8)
	block.Encrypt(session, in)
	return cbcMAC(session, data)
}

func cbcMAC(key, data []byte) purse.MAC {
	block, err := des.NewCipher(key)
	must(err)
	padded := append(slices.Clone(data), 0x80)
	padded = append(padded, make([]byte, (8-len(padded)%8)%8)...)
	cipher.NewCBCEncrypter(block, make([]byte, 8)).CryptBlocks(padded, padded)
	return purse.MAC(padded[len(padded)-8:])
}

func mustHex(text string) []byte {
	b, err := hex.DecodeString(text)
	must(err)
	return b
}

// must stops a test at something that is no finding.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
