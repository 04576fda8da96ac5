package softcard

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Algorithm is the suite of the card's keys.
func (c *Card) Algorithm() suite.Algorithm { return c.state.Algorithm }

// Profile is the card profile that the card follows.
func (c *Card) Profile() purse.Profile { return c.profile }

// Serial is the application serial number, 20 hex digits, leading zeros with it.
func (c *Card) Serial() string { return fmt.Sprintf("%X", c.serial()) }

// Condition is what a person may see of a card without a command to it: no key and no PIN.
type Condition struct {
	ED, EP       Account
	PIN          bool // it has one
	PINTries     int  // left
	ControlTries int  // of EXTERNAL AUTHENTICATE, left
	CardBlocked  bool
	Blocked      bool // the application, until it is unblocked
	Locked       bool // the application, for ever
}

// Condition shows the card as it would be with the power off.
func (c *Card) Condition() Condition {
	s := c.state
	return Condition{
		ED: Account(s.ED), EP: Account(s.EP), PIN: len(s.PIN) > 0, PINTries: s.PINTries, ControlTries: s.ControlTries,
		CardBlocked: s.CardBlocked, Blocked: s.Lock == lockTemporary, Locked: s.Lock == lockPermanent,
	}
}
