package main

import (
	"crypto/rand"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/purse"
)

// The commands that SignCommand makes, by their names in EPURSE.md §6.
var commandNames = map[v1.Command]string{
	v1.Command_COMMAND_CARD_BLOCK:          purse.CardBlock{}.Name(),
	v1.Command_COMMAND_APPLICATION_UNBLOCK: purse.ApplicationUnblock{}.Name(),
	v1.Command_COMMAND_APPLICATION_BLOCK:   purse.ApplicationBlock{}.Name(),
	v1.Command_COMMAND_PIN_UNBLOCK:         purse.PINUnblock{}.Name(),
	v1.Command_COMMAND_RELOAD_PIN:          purse.ReloadPIN{}.Name(),
	v1.Command_COMMAND_UPDATE_BINARY:       purse.UpdateBinary{}.Name(),
	v1.Command_COMMAND_UPDATE_RECORD:       purse.UpdateRecord{}.Name(),
}

// command has the signer make a command for the card's challenge, and gives it to the card. r is what the command alone has.
func (d *desk) command(r *v1.SignCommandRequest) error {
	r.KeySet, r.CardSerial = d.set, d.serial
	if r.Command != v1.Command_COMMAND_RELOAD_PIN {
		challenge, err := d.challenge()
		if err != nil {
			return err
		}
		r.Challenge = plainHex(challenge)
	}
	a, err := d.signer.SignCommand(d.ctx, r)
	if err != nil {
		return err
	}
	d.say("signer", "SignCommand", plain(a.Outcome)+keyed(a.Key, a.Boundary))
	if err := expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail); err != nil {
		return err
	}
	command, err := parseCommand(a.Command)
	if err != nil {
		return err
	}
	_, err = d.send(commandNames[r.Command], command, nil, nil)
	return err
}

func (d *desk) challenge() ([]byte, error) {
	return d.send("GET CHALLENGE", purse.Challenge(d.card.Profile()), nil, nil)
}

// pinCommand is a command that carries a PIN. The request holds it as text, which nothing can wipe: this is for test cards.
func (d *desk) pinCommand(command v1.Command, pin secret.Bytes) error {
	r := &v1.SignCommandRequest{Command: command}
	if command == v1.Command_COMMAND_RELOAD_PIN || d.card.Profile().PINUnblockEncrypted() {
		r.Pin = string(pin.Reveal("to have it put into a command for the card"))
	}
	return d.command(r)
}

// verifyPIN shows the card a PIN.
func (d *desk) verifyPIN(digits secret.Bytes) error {
	pin, err := parsePIN(digits)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	command, err := purse.VerifyPIN(pin)
	if err != nil {
		return err
	}
	defer clear(command.Data)
	_, err = d.send("VERIFY", command, nil, nil)
	return err
}

func parsePIN(digits secret.Bytes) (purse.PIN, error) {
	return purse.ParsePIN(string(digits.Reveal("to pack it as the card takes it")))
}

// authenticateHost proves the host to the card, by the signer's cryptogram (EXTERNAL AUTHENTICATE).
func (d *desk) authenticateHost() error {
	challenge, err := d.challenge()
	if err != nil {
		return err
	}
	a, err := d.signer.AuthenticateCard(d.ctx, &v1.AuthenticateCardRequest{
		KeySet: d.set, CardSerial: d.serial, Direction: v1.Direction_DIRECTION_EXTERNAL, Challenge: plainHex(challenge),
	})
	if err != nil {
		return err
	}
	d.say("signer", "AuthenticateCard", plain(a.Outcome)+keyed(a.Key, a.Boundary))
	if err := expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail); err != nil {
		return err
	}
	command, err := parseCommand(a.Command)
	if err != nil {
		return err
	}
	_, err = d.send("EXTERNAL AUTHENTICATE", command, nil, nil)
	return err
}

// authenticateCard has the card prove itself, and the signer check it (INTERNAL AUTHENTICATE).
func (d *desk) authenticateCard() error {
	var challenge [8]byte
	if _, err := rand.Read(challenge[:]); err != nil {
		return err
	}
	command := purse.InternalAuthenticate(d.card.Profile(), d.card.Algorithm(), 0x00, challenge)
	cryptogram, err := d.send("INTERNAL AUTHENTICATE", command, nil, nil)
	if err != nil {
		return err
	}
	a, err := d.signer.AuthenticateCard(d.ctx, &v1.AuthenticateCardRequest{
		KeySet: d.set, CardSerial: d.serial, Direction: v1.Direction_DIRECTION_INTERNAL, Challenge: plainHex(challenge[:]),
		Cryptogram: plainHex(cryptogram),
	})
	if err != nil {
		return err
	}
	d.say("signer", "AuthenticateCard", plain(a.Outcome)+keyed(a.Key, a.Boundary))
	return expect(a.Outcome, v1.Outcome_OUTCOME_VERIFIED, a.Detail)
}
