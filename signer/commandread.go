package signer

import (
	"fmt"
	"sync/atomic"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Command is a command of EPURSE.md §6 that SignCommand makes: every one but WRITE KEY, which PersonaliseCard makes, and the two
// of authentication, which AuthenticateCard does. The zero value is invalid.
type Command uint8

// The commands.
const (
	CardBlock Command = iota + 1
	ApplicationUnblock
	ApplicationBlock
	PINUnblock
	ReloadPIN
	UpdateBinary
	UpdateRecord
)

// String is the name of §6; a command that is none says so.
func (c Command) String() string {
	switch c {
	case CardBlock:
		return purse.CardBlock{}.Name()
	case ApplicationUnblock:
		return purse.ApplicationUnblock{}.Name()
	case ApplicationBlock:
		return purse.ApplicationBlock{}.Name()
	case PINUnblock:
		return purse.PINUnblock{}.Name()
	case ReloadPIN:
		return purse.ReloadPIN{}.Name()
	case UpdateBinary:
		return purse.UpdateBinary{}.Name()
	case UpdateRecord:
		return purse.UpdateRecord{}.Name()
	}
	return fmt.Sprintf("invalid command %d", uint8(c))
}

// command is a CommandRequest that was read: it can be built, but for the key.
type command struct {
	profile   purse.Profile
	card      card
	number    int // of the key; 0 is the newest active
	kind      keyderive.Kind
	what      purse.Command
	challenge []byte // none of RELOAD PIN
	data      []byte // of the two updates
	pin       *lentPIN
}

// readCommand is the only reader of a CommandRequest. The caller ends c.pin whatever comes back.
func (s *keySet) readCommand(r CommandRequest) (c command, err error) {
	c = command{profile: s.Profile}
	if c.card, err = s.parseCard(r.CardSerial, r.IssuerID); err != nil {
		return c, err
	}
	if r.KeyVersion > maxKeyVersion {
		return c, keyVersionError(r.KeyVersion, 0)
	}
	c.number = int(r.KeyVersion)
	if r.Command < CardBlock || r.Command > UpdateRecord {
		return c, &purse.FieldError{Field: "command", Problem: "missing, expected one of those of the API"}
	}
	if err := r.checkFields(s.Profile); err != nil {
		return c, err
	}
	if r.Command != ReloadPIN {
		if c.challenge, err = purse.ParseHex("challenge", r.Challenge, s.Profile.ChallengeLen()); err != nil {
			return c, err
		}
	}
	if r.needsPIN(s.Profile) {
		c.pin = &lentPIN{}
		if c.pin.pin, err = purse.ParsePIN(r.PIN); err != nil {
			return c, err
		}
	}
	if c.what, err = r.what(c.pin); err != nil {
		return c, err
	}
	if c.kind, err = keyderive.ParseKind(string(c.what.Key())); err != nil {
		return c, err
	}
	return c, c.rehearse(s.Algorithm)
}

// rehearse builds the command without a key, so that what cannot be built is refused before the token is asked.
func (c *command) rehearse(alg suite.Algorithm) (err error) {
	switch update := c.what.(type) {
	case purse.UpdateBinary:
		c.data = update.Data
	case purse.UpdateRecord:
		c.data = update.Data
	}
	if secure, ok := c.what.(purse.SecureCommand); ok {
		_, err = secure.Build(c.profile, c.challenge, hollow{alg})
	}
	return err
}

// checkFields refuses the fields that a command has no use for. Those that it needs are missed where they are read.
func (r *CommandRequest) checkFields(profile purse.Profile) error {
	update := r.Command == UpdateBinary || r.Command == UpdateRecord
	if r.PIN != "" && r.Command == PINUnblock && !r.needsPIN(profile) {
		return &purse.FieldError{Field: "pin", Problem: "the card profile's PIN UNBLOCK carries none"}
	}
	for _, f := range [...]struct {
		name         string
		given, taken bool
	}{
		{"challenge", r.Challenge != "", r.Command != ReloadPIN},
		{"pin", r.PIN != "", r.needsPIN(profile)},
		{"p1", r.P1 != "", update},
		{"p2", r.P2 != "", update},
		{"data", r.Data != "", update},
		{"permanent", r.Permanent, r.Command == ApplicationBlock},
	} {
		if f.given && !f.taken {
			return &purse.FieldError{Field: f.name, Problem: fmt.Sprintf("has no place in %v", r.Command)}
		}
	}
	return nil
}

func (r *CommandRequest) needsPIN(profile purse.Profile) bool {
	return r.Command == ReloadPIN || r.Command == PINUnblock && profile.PINUnblockEncrypted()
}

// what is the command in the terms of package purse. A PIN stays where pin has it.
func (r *CommandRequest) what(pin *lentPIN) (purse.Command, error) {
	switch r.Command {
	case CardBlock:
		return purse.CardBlock{}, nil
	case ApplicationUnblock:
		return purse.ApplicationUnblock{}, nil
	case ApplicationBlock:
		return purse.ApplicationBlock{Permanent: r.Permanent}, nil
	case PINUnblock:
		if pin == nil {
			return purse.PINUnblock{}, nil
		}
		return purse.PINUnblock{PIN: pin.pin}, nil
	case ReloadPIN:
		return purse.ReloadPIN{PIN: pin.pin}, nil
	}
	p1, err := purse.ParseHex("p1", r.P1, 1)
	if err != nil {
		return nil, err
	}
	p2, err := purse.ParseHex("p2", r.P2, 1)
	if err != nil {
		return nil, err
	}
	if r.Data == "" {
		return nil, &purse.FieldError{Field: "data", Problem: fmt.Sprintf("missing: %v needs it", r.Command)}
	}
	data, err := purse.ParseHexRange("data", r.Data, 0, -1)
	if err != nil {
		return nil, err
	}
	if r.Command == UpdateBinary {
		return purse.UpdateBinary{P1: p1[0], P2: p2[0], Data: data}, nil
	}
	return purse.UpdateRecord{P1: p1[0], P2: p2[0], Data: data}, nil
}

// hollow is a key that is none: what it makes is zeros, of the right length.
type hollow struct{ alg suite.Algorithm }

func (h hollow) Algorithm() suite.Algorithm { return h.alg }

func (hollow) MAC(_, _ []byte) (purse.MAC, error) { return purse.MAC{}, nil }

func (hollow) Encrypt(blocks []byte) ([]byte, error) { return make([]byte, len(blocks)), nil }

// lentPIN is a PIN on its way into a command. A loan may begin, or still be running, after its request has ended, so whoever takes
// the PIN first wipes it: the loan when it has built the command, or the request when no loan came to that. nil is no PIN.
type lentPIN struct {
	pin   purse.PIN
	taken atomic.Bool
}

// take makes the PIN the caller's to use and wipe; false is too late.
func (l *lentPIN) take() bool { return l == nil || l.taken.CompareAndSwap(false, true) }

func (l *lentPIN) wipe() {
	if l != nil {
		l.pin.Wipe()
	}
}

// end is the request's own end.
func (l *lentPIN) end() {
	if l != nil && l.take() {
		l.wipe()
	}
}
