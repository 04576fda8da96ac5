package testvectors

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// authentication is a cryptogram over a challenge, and the command that carries one of the two (EPURSE.md §6).
type authentication struct {
	in       *inputs
	internal bool
}

// newAuthentication reads the direction. A 4-byte challenge is followed by zeros, either way.
func newAuthentication(in *inputs) (task, error) {
	if err := in.need("direction", "challenge"); err != nil {
		return nil, err
	}
	switch in.direction {
	case "external":
		return authentication{in: in}, nil
	case "internal":
		return authentication{in: in, internal: true}, nil
	}
	return nil, fmt.Errorf(`in.direction: %q, expected "external" or "internal"`, in.direction)
}

// newAuthenticationCommand is an authentication by the name of its command.
func newAuthenticationCommand(in *inputs) (task, error) {
	if err := in.need("challenge"); err != nil {
		return nil, err
	}
	return authentication{in, in.command == internalAuthenticate}, nil
}

func (a authentication) kind() keyderive.Kind {
	if a.internal {
		return keyderive.KindInternalAuth
	}
	return keyderive.KindControl
}

func (a authentication) makes(value Value) error {
	switch value {
	case CardKeyValue, CryptogramValue:
		return nil
	case APDUValue: // its P2 is the card's number of the key
		return a.in.need("p2")
	}
	return errNotMade
}

func (authentication) certified() []byte { return nil }

func (a authentication) run(card keyderive.Card, values outputs, into *results) error {
	if !values.wantsAny(CryptogramValue, APDUValue) {
		return nil
	}
	challenge := [8]byte(append(a.in.challenge[:len(a.in.challenge):len(a.in.challenge)], make([]byte, 8)...)[:8])
	messaging, err := card.Messaging()
	if err != nil {
		return err
	}
	compute := purse.ExternalCryptogram
	if a.internal {
		compute = purse.InternalCryptogram
	}
	cryptogram, err := compute(a.in.profile, values.alg, challenge[:], messaging)
	if err != nil {
		return err
	}
	if values.wants(CryptogramValue) {
		into.compare(CryptogramValue, cryptogram, values)
	}
	if values.wants(APDUValue) {
		return a.compareAPDU(values, challenge, cryptogram, into)
	}
	return nil
}

// compareAPDU compares the command. EPURSE.md §6 draws INTERNAL AUTHENTICATE without the Le that it needs to be answered,
// so a vector may have it either way.
func (a authentication) compareAPDU(values outputs, challenge [8]byte, c purse.Cryptogram, into *results) error {
	if !a.internal {
		apdu, err := purse.ExternalAuthenticate(a.in.p2, c)
		if err != nil {
			return err
		}
		into.compare(APDUValue, apdu.Bytes(), values)
		return nil
	}
	apdu := purse.InternalAuthenticate(a.in.profile, values.alg, a.in.p2, challenge)
	if len(values.out[APDUValue]) < len(apdu.Bytes()) {
		apdu.Expect = 0
	}
	into.compare(APDUValue, apdu.Bytes(), values)
	return nil
}
