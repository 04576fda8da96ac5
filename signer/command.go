package signer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// CommandRequest is SignCommand as the caller wrote it; the fields are those of the API.
type CommandRequest struct {
	KeySet     string
	CardSerial string
	IssuerID   string
	KeyVersion uint32 // 0: the newest active
	Command    Command
	Challenge  string
	PIN        string
	P1, P2     string
	Data       string
	Permanent  bool
}

// SignedCommand is the answer to SignCommand: APPROVED or KEY_NOT_ACTIVE.
type SignedCommand struct {
	Outcome    ledger.Outcome
	Command    string // the whole APDU, only when APPROVED; with a PIN if it carries one
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// SignCommand makes a whole command of EPURSE.md §6 under a key of the card. One version is used: the one that the request names,
// or the newest active.
//
// Errors: as of AuthorizeLoad. A PIN, and what it is encrypted to, is in none of them, nor in the record.
func (s *Signer) SignCommand(ctx context.Context, caller policy.Caller, r CommandRequest) (SignedCommand, error) {
	return withKeys(ctx, s, func(s view) (SignedCommand, error) {
		set, grant, err := s.permit(ctx, caller, policy.SignCommand, r.KeySet, audit.Entry{KeySet: r.KeySet}, s.asksCommand(r))
		if err != nil {
			return SignedCommand{}, err
		}
		c, err := set.readCommand(r)
		defer c.pin.end()
		if err != nil {
			return SignedCommand{}, err
		}
		return s.signCommand(ctx, caller, grant, set, c)
	})
}

const detailPINLeftOut = "the command carries a PIN and is not in the record"

// signCommand is the operation behind the permission.
func (s view) signCommand(ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, c command) (SignedCommand, error) {
	if !grant.Allows(policy.SignCommand, set.Name) {
		return SignedCommand{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.SignCommand, audit.Entry{KeySet: set.Name, Card: c.card.id, Inputs: audit.Inputs{
		Command: c.what.Name(), Challenge: upperHex(c.challenge), Data: upperHex(c.data),
	}})
	key, used := set.signing(policy.SignCommand, c.kind, c.number)
	answer := SignedCommand{Outcome: ledger.KeyNotActive, Key: used, Detail: detailNoKey(c.kind, c.number)}
	if key.For(policy.SignCommand).Signs() {
		made, err := c.make(ctx, set, key)
		if err != nil {
			return SignedCommand{}, err
		}
		answer = SignedCommand{Outcome: ledger.Approved, Key: used, Command: made.Hex()}
		if c.pin == nil {
			entry.Command = answer.Command
		} else {
			clear(made.Data)
			entry.Detail = detailPINLeftOut
		}
	} else {
		entry.Detail = answer.Detail
	}
	entry.Outcome, entry.Key, entry.Boundary = string(answer.Outcome), &used.Key, used.Boundary
	index, err := s.recordAt(ctx, entry)
	if err != nil {
		return SignedCommand{}, err
	}
	answer.AuditIndex = index
	return answer, nil
}

// make builds the command under the card's key.
func (c *command) make(ctx context.Context, set *keySet, key Version) (purse.APDU, error) {
	made := new(purse.APDU) // not a result variable: after an early return the loan may still write it
	err := set.master(key, c.card).WithCard(ctx, c.card.factor, func(k keyderive.Card) (err error) {
		if !c.pin.take() {
			return errRequestEnded
		}
		defer c.pin.wipe()
		*made, err = c.build(k)
		return err
	})
	if err != nil {
		return purse.APDU{}, err
	}
	return *made, nil
}

// errRequestEnded is an answer to nobody: the request ended while its loan was waiting.
var errRequestEnded = errors.New("the request ended before its command was made")

// build is the last step of purse, with the card's key on loan.
func (c *command) build(k keyderive.Card) (purse.APDU, error) {
	if secure, ok := c.what.(purse.SecureCommand); ok {
		m, err := k.Messaging()
		if err != nil {
			return purse.APDU{}, err
		}
		return secure.Build(c.profile, c.challenge, m)
	}
	reload, ok := c.what.(purse.ReloadPIN)
	if !ok {
		return purse.APDU{}, fmt.Errorf("bug: no way to build %s", c.what.Name())
	}
	m, err := k.Reload()
	if err != nil {
		return purse.APDU{}, err
	}
	return reload.Build(c.profile, m)
}

// signing finds the key that signs for a card: the version with the number, or the newest active of the kind for 0. Where none may,
// the zero Version comes with the name of what was asked for.
func (s *keySet) signing(op policy.Operation, kind keyderive.Kind, number int) (Version, KeyUsed) {
	if number == 0 {
		number = s.newest(kind)
	}
	key := s.version(kind, number)
	if !key.For(op).Signs() {
		return Version{}, s.refusedKey(kind, number)
	}
	return key, s.used(key)
}

func detailNoKey(kind keyderive.Kind, number int) string {
	if number == 0 {
		return fmt.Sprintf("no %v key is active", kind)
	}
	return fmt.Sprintf("no active %v key has that version", kind)
}
