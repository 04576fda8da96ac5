package testvectors

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// newTask makes the task of an operation.
func newTask(operation Operation, in *inputs) (task, error) {
	switch operation {
	case OperationDiversify:
		return diversification{}, nil
	case OperationCommand:
		return newCommand(in)
	case OperationAuthenticate:
		return newAuthentication(in)
	}
	return newTransaction(operation, in)
}

// diversification makes the card key alone, as a key for general use: what it is for is not said.
type diversification struct{}

func (diversification) kind() keyderive.Kind { return keyderive.KindMaintenance }

func (diversification) makes(value Value) error {
	if value != CardKeyValue {
		return errNotMade
	}
	return nil
}

func (diversification) certified() []byte { return nil }

func (diversification) run(keyderive.Card, outputs, *results) error { return nil }

// command is one command under a key of the card (EPURSE.md §6), by its name there.
type command struct {
	keyKind keyderive.Kind
	build   func(card keyderive.Card) (purse.APDU, error)
}

// The names of §6 that are no purse.Command.
const (
	externalAuthenticate = "EXTERNAL AUTHENTICATE"
	internalAuthenticate = "INTERNAL AUTHENTICATE"
)

func newCommand(in *inputs) (task, error) {
	if err := in.need("command"); err != nil {
		return nil, err
	}
	switch in.command {
	case (purse.ReloadPIN{}).Name():
		return newReload(in)
	case externalAuthenticate, internalAuthenticate:
		return newAuthenticationCommand(in)
	}
	secure, err := secureCommand(in)
	if err != nil {
		return nil, err
	}
	if err := in.need("challenge"); err != nil {
		return nil, err
	}
	kind, err := keyderive.ParseKind(string(secure.Key()))
	if err != nil {
		return nil, err
	}
	return command{kind, func(card keyderive.Card) (purse.APDU, error) {
		messaging, err := card.Messaging()
		if err != nil {
			return purse.APDU{}, err
		}
		return secure.Build(in.profile, in.challenge, messaging)
	}}, nil
}

func secureCommand(in *inputs) (purse.SecureCommand, error) {
	switch in.command {
	case (purse.CardBlock{}).Name():
		return purse.CardBlock{}, nil
	case (purse.ApplicationBlock{}).Name():
		return purse.ApplicationBlock{Permanent: in.permanent}, nil
	case (purse.ApplicationUnblock{}).Name():
		return purse.ApplicationUnblock{}, nil
	case (purse.PINUnblock{}).Name():
		if !in.profile.PINUnblockEncrypted() {
			return purse.PINUnblock{}, nil
		}
		return purse.PINUnblock{PIN: in.pin}, in.need("pin")
	case (purse.UpdateBinary{}).Name():
		return purse.UpdateBinary{P1: in.p1, P2: in.p2, Data: in.data}, in.need("p1", "p2", "data")
	case (purse.UpdateRecord{}).Name():
		return purse.UpdateRecord{P1: in.p1, P2: in.p2, Data: in.data}, in.need("p1", "p2", "data")
	case (purse.WriteKey{}).Name():
		return newWriteKey(in)
	}
	return nil, fmt.Errorf("in.command: %q is no command of EPURSE.md §6", in.command)
}

// newWriteKey is WRITE KEY; a header that is left out is the control key's of the profile.
func newWriteKey(in *inputs) (purse.SecureCommand, error) {
	if err := in.need("p1", "p2", "key"); err != nil {
		return nil, err
	}
	row := purse.KeyRow{P1: in.p1, P2: in.p2, Header: in.header}
	if !in.given["header"] {
		control, err := in.profile.KeyRow(purse.KeyControl)
		if err != nil {
			return nil, err
		}
		row.Header = control.Header
	}
	return purse.WriteKey{Row: row, KeyValue: publicKey(in.key)}, nil
}

// publicKey is the key that a vector has a card receive. It is printed in the vector's file.
type publicKey []byte

func (k publicKey) Reveal(string) []byte { return k }

func newReload(in *inputs) (task, error) {
	if err := in.need("pin"); err != nil {
		return nil, err
	}
	return command{keyderive.KindPINReload, func(card keyderive.Card) (purse.APDU, error) {
		reload, err := card.Reload()
		if err != nil {
			return purse.APDU{}, err
		}
		return purse.ReloadPIN{PIN: in.pin}.Build(in.profile, reload)
	}}, nil
}

func (c command) kind() keyderive.Kind { return c.keyKind }

func (command) makes(value Value) error {
	if value != CardKeyValue && value != APDUValue {
		return errNotMade
	}
	return nil
}

func (command) certified() []byte { return nil }

func (c command) run(card keyderive.Card, values outputs, into *results) error {
	if !values.wants(APDUValue) {
		return nil
	}
	apdu, err := c.build(card)
	if err != nil {
		return err
	}
	into.compare(APDUValue, apdu.Bytes(), values)
	return nil
}
