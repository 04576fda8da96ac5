package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// desk is a card in a reader, and who works with it through the signer. The demonstration and the commands for people share it.
type desk struct {
	trace
	ctx    context.Context //nolint:containedctx // one desk is one call
	signer pursekeeperv1connect.SignerServiceClient
	reader pursekeeperv1connect.ReaderServiceClient

	set      string
	serial   string
	card     *softcard.Card
	terminal string
	date     string // with time: "" is the signer's clock
	time     string

	keep  func() error // called after every command, before its answer is used: what the card took outlives us. nil keeps nothing
	tear  tearPoint    // of the command that completes a transaction
	steps int          // that the last such command reached

	receipts []*v1.VerifyTacRequest // the TACs that the card gave, with what they cover
}

// errPowerLost ends a command whose answer never came.
var errPowerLost = errors.New("the card lost its power before it answered")

// cardError is a status word that is not 9000.
type cardError struct {
	command string
	sw      purse.SW
}

func (e *cardError) Error() string { return fmt.Sprintf("the card refuses %s: %v", e.command, e.sw) }

// powerUp powers the card up and selects its application.
func (d *desk) powerUp() error {
	d.card.Reset()
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	if err != nil {
		return err
	}
	_, err = d.send("SELECT", aid, nil, nil)
	return err
}

// send gives the card a command and traces both ways.
func (d *desk) send(name string, a purse.APDU, command, answer layout) ([]byte, error) {
	d.say("to card", name, command.command(a))
	raw := d.card.Transmit(a.Bytes())
	return d.receive(name, raw, answer)
}

// receive keeps what the command changed, then reads the answer.
func (d *desk) receive(name string, raw []byte, answer layout) ([]byte, error) {
	if d.keep != nil {
		if err := d.keep(); err != nil {
			return nil, err
		}
	}
	if raw == nil {
		return nil, errPowerLost
	}
	data, sw, err := purse.SplitAnswer(raw)
	if err != nil {
		return nil, err
	}
	d.say("card", "  answers", answer.answered(data, sw))
	if sw != purse.SWOK {
		return nil, &cardError{name, sw}
	}
	return data, nil
}

// complete gives the card the signer's command, the one that moves money, and cuts the power where the fault that was ordered says.
// id is the transaction's, for whoever must find out what became of it.
func (d *desk) complete(name, id, command string, sent, answer layout) ([]byte, error) {
	a, err := parseCommand(command)
	if err != nil {
		return nil, err
	}
	d.say("to card", name, sent.command(a))
	d.card.TearAt(d.tear.step)
	raw := d.card.Transmit(a.Bytes())
	d.steps = d.card.Steps()
	if d.tear.last {
		raw = nil // the card has done all of it: its last step is the answer on its way
		d.card.Reset()
	}
	switch {
	case raw == nil:
		d.say("card", "  power is lost", fmt.Sprintf("at step %d", d.steps))
	case d.tear.step > 0:
		d.say("", "  the power stays on", fmt.Sprintf("the command has %d steps", d.steps))
	}
	d.tear = tearPoint{}
	data, err := d.receive(name, raw, answer)
	if errors.Is(err, errPowerLost) {
		err = fmt.Errorf("%w; \"card prove %s\" asks it whether it took the transaction", err, id)
	}
	return data, err
}

func parseCommand(text string) (purse.APDU, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return purse.APDU{}, fmt.Errorf("the signer's command: %w", err)
	}
	return purse.ParseAPDU(raw)
}

// balance asks the card.
func (d *desk) balance(p purse.Purse) (purse.Fen, error) {
	command, err := purse.QueryBalance(p)
	if err != nil {
		return 0, err
	}
	answer, err := d.send("GET BALANCE", command, nil, nil)
	if err != nil {
		return 0, err
	}
	return purse.ParseBalance(answer)
}

// terminalID is the desk's terminal number.
func (d *desk) terminalID() (purse.Terminal, error) { return purse.ParseTerminal(d.terminal) }

// apiPurse is a purse as the API names it.
func apiPurse(p purse.Purse) v1.Purse {
	if p == purse.ED {
		return v1.Purse_PURSE_ED
	}
	return v1.Purse_PURSE_EP
}
