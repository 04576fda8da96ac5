package ledger_test

import (
	"encoding/binary"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// card is a wallet card in a reader, and the ground truth of what it took. Its random can be told to stand still, which no
// good card's does.
type card struct {
	*softcard.Card
	*hostKeys
	profile purse.Profile
	serial  string
	random  *dice
	purses  map[purse.Purse]*cardPurse
	open    *offer // what its session is about, if it has one
}

// cardPurse is what the world knows of a purse; the card's answers must agree.
type cardPurse struct {
	balance purse.Fen
	counter purse.Counter
	taken   map[purse.Counter]taking
}

// taking is one transaction that the card took.
type taking struct {
	random  purse.Random
	foreign bool // authorised by another than the signer
}

// offer is an answer to INITIALIZE with what was asked of the card.
type offer struct {
	init     purse.LoadInit
	purse    purse.Purse
	amount   purse.Fen
	terminal purse.Terminal
	unload   bool
}

// dice is the card's random source: it never repeats four bytes unless it stands still.
type dice struct {
	drawn  uint32
	stands bool
}

func (d *dice) Read(b []byte) (int, error) {
	if !d.stands {
		d.drawn++
	}
	for at := 0; at < len(b); at += 4 {
		copy(b[at:], binary.BigEndian.AppendUint32(nil, d.drawn*0x9E3779B1))
	}
	return len(b), nil
}

func newCard(serial string, profile purse.Profile) *card {
	factor, err := purse.ParseCardSerial(serial)
	must(err)
	keys, err := softcard.CardKeys(suite.TDES, softcard.TestOnlyMasters(), 1, [8]byte(mustHex(issuerFactor)), factor)
	must(err)
	c := &card{hostKeys: newHostKeys(factor), profile: profile, serial: serial, random: new(dice), purses: map[purse.Purse]*cardPurse{}}
	account := softcard.Account{Balance: 1000, Online: 7}
	c.Card, err = softcard.Personalise(softcard.Options{
		Algorithm: suite.TDES, Profile: profile, Serial: serial, Keys: keys, ED: account, EP: account, Random: c.random,
	})
	must(err)
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		c.purses[p] = &cardPurse{balance: account.Balance, counter: account.Online, taken: map[purse.Counter]taking{}}
	}
	c.losePower()
	return c
}

// mustSend is for commands that a card in good health takes.
func (c *card) mustSend(a purse.APDU, err error) []byte {
	must(err)
	data, sw, err := c.Send(a)
	must(err)
	if sw != purse.SWOK {
		panic(fmt.Sprintf("%v: %v", a, sw))
	}
	return data
}

// losePower is a power cut between commands; the reader selects the application again.
func (c *card) losePower() {
	c.Reset()
	c.open = nil
	c.mustSend(purse.SelectApplication(softcard.DefaultAID()))
}

// initialise answers INITIALIZE FOR LOAD, or FOR UNLOAD. again draws the last random once more.
func (c *card) initialise(p purse.Purse, amount purse.Fen, terminal purse.Terminal, unload, again bool) offer {
	c.random.stands = again
	command := purse.InitializeForLoad
	if unload {
		command = purse.InitializeForUnload
	}
	init, err := purse.ParseLoadInit(c.mustSend(command(c.profile, p, amount, terminal)))
	must(err)
	c.random.stands = false
	if at := c.purses[p]; init.Balance != at.balance || init.Counter != at.counter {
		panic(fmt.Sprintf("the card answers %d at %v, expected %d at %v", init.Balance, init.Counter, at.balance, at.counter))
	}
	o := offer{init: init, purse: p, amount: amount, terminal: terminal, unload: unload}
	c.open = &o
	return o
}

// credit is CREDIT FOR LOAD, with the power cut at a step, 0 for none. tac is what the card answered; took is the truth.
func (c *card) credit(d purse.Date, t purse.Time, mac2 purse.MAC, tear int) (tac purse.MAC, took bool) {
	o := c.open
	c.open = nil
	c.TearAt(tear)
	data, sw, err := c.Send(purse.CreditForLoad(c.profile, d, t, mac2))
	c.TearAt(0)
	if err != nil { // the power went: only the card knows how far it came
		c.losePower()
		if o == nil || o.unload {
			return tac, false
		}
		apdu, err := purse.TransactionProve(o.purse.LoadTTI(), o.init.Counter)
		must(err)
		if _, sw, err = c.Send(apdu); err != nil || sw != purse.SWOK {
			return tac, false
		}
	} else if sw != purse.SWOK {
		return tac, false
	} else {
		tac = purse.MAC(data)
	}
	c.take(o, o.amount)
	return tac, true
}

// debit is DEBIT FOR UNLOAD for an offer that the ledger has approved.
func (c *card) debit(approved offer) (took bool) {
	o := c.open
	c.open = nil
	d, t := unloadMoment()
	_, sw, err := c.Send(purse.DebitForUnload(d, t, c.unloadMAC2(approved, d, t)))
	must(err)
	if sw != purse.SWOK {
		return false
	}
	c.take(o, -o.amount)
	return true
}

func unloadMoment() (purse.Date, purse.Time) {
	return purse.Date{0x20, 0x24, 0x01, 0x31}, purse.Time{0x23, 0x59, 0x59}
}

func (c *card) take(o *offer, change purse.Fen) {
	at := c.purses[o.purse]
	at.taken[at.counter] = taking{random: o.init.Random}
	at.counter++
	at.balance += change
}

// prove is GET TRANSACTION PROVE for the last online transaction, if that was a load.
func (c *card) prove(p purse.Purse) (tac purse.MAC, found bool) {
	apdu, err := purse.TransactionProve(p.LoadTTI(), c.purses[p].counter-1)
	must(err)
	data, sw, err := c.Send(apdu)
	must(err)
	if sw != purse.SWOK {
		return tac, false
	}
	answer, err := purse.ParseProveAnswer(data)
	must(err)
	return answer.TAC, true
}

// spend is an offline purchase: the balance falls, the online counter stays, and the session is another.
func (c *card) spend(p purse.Purse, amount purse.Fen) {
	c.open = nil
	apdu, err := purse.InitializeForPurchase(c.profile, p.PurchaseTTI(), amount, purse.Terminal{})
	must(err)
	data, sw, err := c.Send(apdu)
	must(err)
	if sw != purse.SWOK {
		return // the balance is too low
	}
	init, err := purse.ParsePurchaseInit(data)
	must(err)
	bought, err := purse.NewPurchase(init, p.PurchaseTTI(), 1, amount, purse.Terminal{})
	must(err)
	d, t := unloadMoment()
	mac1 := sessionMAC(c.purchase, bought.SessionInput(), bought.MAC1Data(d, t))
	c.mustSend(bought.Debit(c.profile, d, t, mac1), nil)
	c.purses[p].balance -= amount
}
