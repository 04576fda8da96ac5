package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// The demonstration card and terminal (DESIGN §4).
const (
	storySerial   = "3105228000001117"
	storyTerminal = "112233445566"
	storyDate     = "20240131"
	storyTime     = "235959"
	storyAmount   = 100
)

// storyPIN is the demonstration card's. No trace shows it all the same, as none shows another.
const storyPIN = "495162"

// story is one card, the platform and the terminal that work with it, and the trace of what they say. The first thing that is not
// as it should be is an error: the demonstration is a test of the signer.
type story struct{ *desk }

// newStory begins the story of one key set's card.
func newStory(ctx context.Context, out io.Writer, on services, set string) (*story, error) {
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	if err != nil {
		return nil, err
	}
	keys, err := keySetNamed(demoKeySets(), set)
	if err != nil {
		return nil, err
	}
	card, err := storyCard(keys, profile)
	if err != nil {
		return nil, err
	}
	s := &story{&desk{
		trace: trace{out}, ctx: ctx, signer: on.signer, reader: on.reader, set: set, serial: storySerial, card: card,
		terminal: storyTerminal, date: storyDate, time: storyTime,
	}}
	fmt.Fprintf(out, "\n== Key set %s: %v, card %s, balance 10.00 yuan ==\n", set, keys.Algorithm, storySerial)
	return s, s.powerUp()
}

// storyCard personalises the card. Its randomness is fixed, so that every demonstration prints the same MACs; a real card's
// is not.
func storyCard(set testKeySet, profile purse.Profile) (*softcard.Card, error) {
	pin, err := purse.ParsePIN(storyPIN)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	random := rand.NewChaCha8([32]byte{1})
	return testCard{
		set: set, profile: profile, serial: storySerial, pin: pin,
		ep:     softcard.Account{Balance: 1000, Online: 7},
		ed:     softcard.Account{Balance: 1000, Online: 3},
		random: io.MultiReader(bytes.NewReader([]byte{0xA1, 0xB2, 0xC3, 0xD4}), random),
	}.personalise()
}

func (s *story) title(text string) { fmt.Fprintf(s.out, "\n-- %s\n", text) }

// begun is a load that the signer has approved and the card has not taken.
type begun struct {
	init    purse.LoadInit
	request *v1.AuthorizeLoadRequest
	answer  *v1.AuthorizeLoadResponse
}

// approved initialises a load of EP and authorises it, where nothing else than APPROVED will do.
func (s *story) approved() (b begun, err error) {
	terminal, err := s.terminalID()
	if err != nil {
		return b, err
	}
	if b.init, err = s.initializeLoad(purse.EP, storyAmount, terminal); err != nil {
		return b, err
	}
	b.request = s.loadRequest(purse.EP, storyAmount, b.init)
	if b.answer, err = s.authorizeLoad(b.request); err != nil {
		return b, err
	}
	return b, expect(b.answer.Outcome, v1.Outcome_OUTCOME_APPROVED, b.answer.Detail)
}

// take gives the card the approved command and the signer the card's TAC.
func (s *story) take(b begun) error { return s.completeLoad(purse.EP, storyAmount, b.init, b.answer) }

// has asks the card for a balance and compares.
func (s *story) has(p purse.Purse, want purse.Fen) error {
	got, err := s.balance(p)
	if err == nil && got != want {
		err = fmt.Errorf("balance %d fen, expected %d", got, want)
	}
	return err
}

// refused expects that the card refuses with one status word.
func refused(err error, want purse.SW) error {
	var answered *cardError
	switch {
	case errors.As(err, &answered) && answered.sw == want:
		return nil
	case err == nil:
		return fmt.Errorf("the card did not refuse: expected %v", want)
	}
	return err
}

// digits puts a PIN of the story where verifyPIN takes it from.
func digits(text string) secret.Bytes { return secret.Copy([]byte(text)) }
