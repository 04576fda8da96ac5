package signer

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// Direction is who proves a key to whom. The zero value is invalid.
type Direction uint8

// The directions.
const (
	External Direction = iota + 1 // the host to the card, under the control key
	Internal                      // the card to the host, under the internal-auth key
)

// AuthenticateRequest is AuthenticateCard as the caller wrote it; the fields are those of the API.
type AuthenticateRequest struct {
	KeySet     string
	CardSerial string
	IssuerID   string
	KeyVersion uint32 // 0: the newest active
	Direction  Direction
	KeyID      string
	Challenge  string
	Cryptogram string
}

// Authentication is the answer to AuthenticateCard: APPROVED, VERIFIED, MAC_MISMATCH or KEY_NOT_ACTIVE.
type Authentication struct {
	Outcome    ledger.Outcome
	Cryptogram string // external, only when APPROVED, and so is the whole EXTERNAL AUTHENTICATE
	Command    string
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// authentication is an AuthenticateRequest that was read.
type authentication struct {
	card       card
	number     int // of the key; 0 is the newest active
	direction  Direction
	keyID      byte
	challenge  []byte
	cryptogram purse.Cryptogram // internal: what the card answered
}

// AuthenticateCard makes the cryptogram of EXTERNAL AUTHENTICATE, or checks what a card answered to INTERNAL AUTHENTICATE
// (EPURSE.md §6). One version of the key is used, and only an active one: what a card proves is that it is here now.
//
// Errors: as of AuthorizeLoad.
func (s *Signer) AuthenticateCard(ctx context.Context, caller policy.Caller, r AuthenticateRequest) (Authentication, error) {
	return withKeys(ctx, s, func(s view) (Authentication, error) {
		set, grant, err := s.permit(ctx, caller, policy.AuthenticateCard, r.KeySet, audit.Entry{KeySet: r.KeySet},
			policy.Context{Command: r.Direction.right()})
		if err != nil {
			return Authentication{}, err
		}
		a, err := set.readAuthentication(r)
		if err != nil {
			return Authentication{}, err
		}
		return s.authenticateCard(ctx, caller, grant, set, a)
	})
}

// readAuthentication is the only reader of an AuthenticateRequest.
func (s *keySet) readAuthentication(r AuthenticateRequest) (a authentication, err error) {
	if a.card, err = s.parseCard(r.CardSerial, r.IssuerID); err != nil {
		return a, err
	}
	if r.KeyVersion > maxKeyVersion {
		return a, keyVersionError(r.KeyVersion, 0)
	}
	a.number = int(r.KeyVersion)
	if a.direction = r.Direction; a.direction != External && a.direction != Internal {
		return a, &purse.FieldError{Field: "direction", Problem: "missing, expected DIRECTION_EXTERNAL or DIRECTION_INTERNAL"}
	}
	if r.KeyID != "" {
		id, err := purse.ParseHex("keyId", r.KeyID, 1)
		if err != nil {
			return a, err
		}
		a.keyID = id[0]
	}
	if a.direction == External {
		if r.Cryptogram != "" {
			return a, &purse.FieldError{Field: "cryptogram", Problem: "has no place in EXTERNAL AUTHENTICATE: the signer makes it"}
		}
		if a.challenge, err = purse.ParseHexRange("challenge", r.Challenge, 4, 8); err != nil {
			return a, err
		}
		if n := len(a.challenge); n != 4 && n != 8 {
			return a, &purse.FieldError{Field: "challenge", Problem: fmt.Sprintf("%d bytes, expected 4 or 8", n)}
		}
		if s.Algorithm == suite.TDES && len(a.challenge) == 8 && s.Profile.FramesKey([8]byte(a.challenge)) {
			return a, &purse.FieldError{Field: "challenge", Problem: "has the form of a block of WRITE KEY, whose key is the same; ask the card for another"}
		}
		return a, nil
	}
	if a.challenge, err = purse.ParseHex("challenge", r.Challenge, 8); err != nil {
		return a, err
	}
	a.cryptogram, err = purse.ParseHex("cryptogram", r.Cryptogram, s.Profile.CryptogramLen(s.Algorithm))
	return a, err
}

// name is the command of EPURSE.md §6, for the record.
func (d Direction) name() string {
	if d == External {
		return "EXTERNAL AUTHENTICATE"
	}
	return "INTERNAL AUTHENTICATE"
}

func (d Direction) kind() keyderive.Kind {
	if d == External {
		return keyderive.KindControl
	}
	return keyderive.KindInternalAuth
}

// authenticateCard is the operation behind the permission.
func (s view) authenticateCard(
	ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, a authentication,
) (Authentication, error) {
	if !grant.Allows(policy.AuthenticateCard, set.Name) {
		return Authentication{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.AuthenticateCard, audit.Entry{KeySet: set.Name, Card: a.card.id, Inputs: audit.Inputs{
		Command: a.direction.name(), KeyID: fmt.Sprintf("%02X", a.keyID), Challenge: upperHex(a.challenge), Cryptogram: upperHex(a.cryptogram),
	}})
	key, used := set.signing(policy.AuthenticateCard, a.direction.kind(), a.number)
	answer := Authentication{Outcome: ledger.KeyNotActive, Key: used, Detail: detailNoKey(a.direction.kind(), a.number)}
	if key.For(policy.AuthenticateCard).Signs() {
		var err error
		if answer, err = a.answer(ctx, set, key); err != nil {
			return Authentication{}, err
		}
		answer.Key = used
	}
	entry.Outcome, entry.Detail, entry.Command = string(answer.Outcome), answer.Detail, answer.Command
	entry.Key, entry.Boundary = &used.Key, used.Boundary
	record := s.recordAt
	if a.direction == Internal {
		record = s.recordJudged
	}
	index, err := record(ctx, entry)
	if err != nil {
		return Authentication{}, err
	}
	answer.AuditIndex = index
	return answer, nil
}

// answer makes the cryptogram, and compares it in constant time where the card made one. One that the card should have made does not
// leave this function.
func (a *authentication) answer(ctx context.Context, set *keySet, key Version) (Authentication, error) {
	made := new(purse.Cryptogram) // not a result variable: after an early return the loan may still write it
	err := set.master(key, a.card).WithCard(ctx, a.card.factor, func(c keyderive.Card) error {
		m, err := c.Messaging()
		if err != nil {
			return err
		}
		if a.direction == External {
			*made, err = purse.ExternalCryptogram(set.Profile, set.Algorithm, a.challenge, m)
		} else {
			*made, err = purse.InternalCryptogram(set.Profile, set.Algorithm, a.challenge, m)
		}
		return err
	})
	if err != nil {
		return Authentication{}, err
	}
	if a.direction == Internal {
		if !made.Equal(a.cryptogram) {
			return Authentication{Outcome: ledger.MACMismatch}, nil
		}
		return Authentication{Outcome: ledger.Verified}, nil
	}
	command, err := purse.ExternalAuthenticate(a.keyID, *made)
	if err != nil {
		return Authentication{}, err
	}
	return Authentication{Outcome: ledger.Approved, Cryptogram: upperHex(*made), Command: command.Hex()}, nil
}
