package softcard

import (
	"errors"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/purse"
)

// Card is one card in a reader. It serves one command at a time: like a real one it must not be used by two goroutines at
// once.
type Card struct {
	state   *state // what outlives the power; replaced by commit alone
	session session
	profile purse.Profile
	random  io.Reader
	power   power
}

// session is what a power cycle forgets.
type session struct {
	selected  bool
	verified  bool         // PIN
	challenge []byte       // of the command just before
	open      *transaction // initialised and not completed
}

// power counts the steps of a command and cuts the power at one of them.
type power struct {
	steps  int
	tearAt int // 0 is never
}

// refusal is a status word that ends a command.
type refusal purse.SW

func (r refusal) Error() string { return purse.SW(r).String() }

var errPowerLost = errors.New("power lost")

func newCard(s *state, profile purse.Profile, random io.Reader) *Card {
	return &Card{state: s, profile: profile, random: random}
}

// Format prints the card's serial number and nothing else.
func (c *Card) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "softcard %X", c.serial()) }

func (c *Card) serial() []byte { return c.state.Binaries[publicFile][10:20] }

// Reset is a power cycle: the session is forgotten and what is stored stays.
func (c *Card) Reset() { c.session = session{} }

// TearAt cuts the power when the next command reaches its numbered step, counted from 1: Transmit answers nothing and the
// card is reset. Steps lie before and after every change and every commit, and the last one is after everything, when the
// answer is lost on its way. A command with fewer steps is not cut. 0 takes the order back.
func (c *Card) TearAt(step int) { c.power.tearAt = step }

// Steps is how many steps the last command reached.
func (c *Card) Steps() int { return c.power.steps }

// step is a point at which the power may go.
func (c *Card) step() error {
	c.power.steps++
	if c.power.steps == c.power.tearAt {
		return errPowerLost
	}
	return nil
}

// commit puts next in the place of the card's state, whole.
func (c *Card) commit(next *state) error {
	if err := c.step(); err != nil {
		return err
	}
	c.state = next
	return c.step()
}

// Transmit gives the card one command and returns its answer, data and status word; nothing when the power was lost.
func (c *Card) Transmit(apdu []byte) []byte {
	c.power.steps = 0
	data, err := c.run(apdu)
	if err == nil || !errors.Is(err, errPowerLost) {
		if lost := c.step(); lost != nil { // the answer is on its way
			err = lost
		}
	}
	c.power.tearAt = 0
	sw := purse.SWOK
	var refused refusal
	switch {
	case errors.Is(err, errPowerLost):
		c.Reset()
		return nil
	case errors.As(err, &refused):
		data, sw = nil, purse.SW(refused)
	case err != nil:
		data, sw = nil, purse.SWFault
	}
	return append(append([]byte(nil), data...), byte(sw>>8), byte(sw))
}

// Send is Transmit of a built command, with the answer split. A lost answer is an error.
func (c *Card) Send(a purse.APDU) ([]byte, purse.SW, error) {
	answer := c.Transmit(a.Bytes())
	if answer == nil {
		return nil, 0, fmt.Errorf("softcard: %w", errPowerLost)
	}
	return purse.SplitAnswer(answer)
}

// run dispatches one command.
func (c *Card) run(apdu []byte) ([]byte, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	challenge := c.session.challenge
	c.session.challenge = nil // good for the command after it alone
	a, err := purse.ParseAPDU(apdu)
	if err != nil {
		return nil, refusal(purse.SWLength)
	}
	command, err := find(a)
	if err != nil {
		return nil, err
	}
	if err := c.admit(command); err != nil {
		return nil, err
	}
	return command.run(c, a, challenge)
}

// admit refuses what the card's locks and the selection do not let pass (EPURSE.md §5.6, §6).
func (c *Card) admit(command command) error {
	switch {
	case c.state.CardBlocked:
		return refusal(purse.SWFunction)
	case command.always:
		return nil
	case !c.session.selected:
		return refusal(purse.SWState)
	case c.state.Lock == lockPermanent:
		return refusal(purse.SWLocked)
	case c.state.Lock == lockTemporary && !command.whileBlocked:
		return refusal(purse.SWFunction)
	}
	return nil
}
