package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"os"

	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// cardNewCmd makes a test card, as a card maker that has the masters would.
type cardNewCmd struct {
	cardFlags
	KeySet   string `help:"Key set of the card, which fixes its algorithm." default:"demo"`
	Serial   string `help:"Application serial number, 1 to 20 hex digits. By default drawn at random: a signer remembers a card's counters." placeholder:"DIGITS"`
	Profile  string `help:"Card profile, as the signer has it for the key set." default:"pboc-ep"`
	TestKeys string `help:"JSON file with the key set's clear test keys, as for dev, when it is not a built-in one." type:"existingfile" placeholder:"FILE"`
	WithPIN  bool   `name:"with-pin" help:"Ask the terminal for the card holder's PIN. Without a PIN the card answers 6985 to VERIFY."`
	pinFlags
}

// Run makes the card and its file. A file that is there is not touched.
func (c *cardNewCmd) Run(ctx context.Context) error {
	if err := secret.Available(); err != nil {
		return err
	}
	card, err := c.personalise(ctx)
	if err != nil {
		return err
	}
	if err := createCard(c.File, c.KeySet, card); err != nil {
		return err
	}
	showCard(os.Stdout, c.File, c.KeySet, card)
	return nil
}

func (c *cardNewCmd) personalise(ctx context.Context) (*softcard.Card, error) {
	sets := demoKeySets()
	if c.TestKeys != "" {
		more, err := readTestKeys(c.TestKeys)
		if err != nil {
			return nil, err
		}
		sets = append(sets, more...)
	}
	set, err := keySetNamed(sets, c.KeySet)
	if err != nil {
		return nil, err
	}
	profile, err := purse.ShippedProfile(c.Profile)
	if err != nil {
		return nil, err
	}
	made := testCard{set: set, profile: profile, serial: c.Serial, random: rand.Reader}
	if made.serial == "" {
		if made.serial, err = randomSerial(); err != nil {
			return nil, err
		}
	}
	if c.WithPIN || c.given() {
		digits, err := c.pin(ctx, "PIN of the new card")
		if err != nil {
			return nil, err
		}
		defer digits.Wipe()
		if made.pin, err = parsePIN(digits); err != nil {
			return nil, err
		}
		defer made.pin.Wipe()
	}
	return made.personalise()
}

// randomSerial is a number like the demonstration card's that no other test card has.
func randomSerial() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1e9))
	return fmt.Sprintf("3105228%09d", n), err
}

// cardShowCmd shows the card without a command to it.
type cardShowCmd struct{ cardFlags }

// Run prints what is on the card; its file stays as it is.
func (c *cardShowCmd) Run() error {
	return c.with(func(file *cardFile) error {
		showCard(os.Stdout, c.File, file.keySet, file.card)
		return nil
	})
}

func showCard(out io.Writer, path, set string, card *softcard.Card) {
	fmt.Fprintf(out, "card         %s, of key set %s, %v, profile %v, in %s\n", card.Serial(), set, card.Algorithm(), card.Profile(), path)
	is := card.Condition()
	for _, p := range []struct {
		name string
		softcard.Account
	}{{"purse EP", is.EP}, {"passbook ED", is.ED}} {
		fmt.Fprintf(out, "%-12s %d fen, overdraft limit %d fen, counters %v online and %v offline\n",
			p.name, p.Balance, p.Overdraft, p.Online, p.Offline)
	}
	pin := "none"
	if is.PIN {
		pin = fmt.Sprintf("%d tries left", is.PINTries)
	}
	fmt.Fprintf(out, "PIN          %s\n", pin)
	state := "in use"
	switch {
	case is.CardBlocked:
		state = "the card is blocked for ever"
	case is.Locked:
		state = "blocked for ever"
	case is.Blocked:
		state = "blocked"
	}
	fmt.Fprintf(out, "application  %s\n", state)
}
