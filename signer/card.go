package signer

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// card is a card in its canonical form: what ids and records carry.
type card struct {
	factor keyderive.Factor
	issuer keyderive.Factor // only where the key set takes it from the card
	id     string           // 16 digits of the factor, with "ISSUER-" in front where issuer is used
}

// parseCard reads the card of a request.
func (s *keySet) parseCard(serial, issuerID string) (c card, err error) {
	factor, err := purse.ParseCardSerial(serial)
	if err != nil {
		return c, err
	}
	c.factor = factor
	c.id = c.factor.String()
	if issuerID == "" {
		if s.Issuer.FromCard {
			return c, &purse.FieldError{Field: "issuerId", Problem: "missing: this key set takes its issuer factor from the card"}
		}
		return c, nil
	}
	issuer, err := purse.ParseIssuerID(issuerID)
	if err != nil {
		return c, err
	}
	if !s.Issuer.FromCard {
		if _, last, ok := s.Issuer.Fixed.Split(); ok && last == keyderive.Factor(issuer) {
			return c, nil
		}
		return c, &purse.FieldError{Field: "issuerId", Problem: "is not the issuer factor of this key set"}
	}
	c.issuer = issuer
	c.id = c.issuer.String() + "-" + c.id
	return c, nil
}

// CardOf takes a recorded card apart into what a request names it by: its serial number, and its issuer id where the key set
// takes its issuer factor from the card, else "".
func CardOf(recorded string) (serial, issuerID string) {
	if issuer, serial, ok := strings.Cut(recorded, "-"); ok {
		return serial, issuer
	}
	return recorded, ""
}

// recordedCard reads the card of an id that parseCard wrote.
func (s *keySet) recordedCard(id string) (c card, err error) {
	serial, issuer := CardOf(id)
	c, err = s.parseCard(serial, issuer)
	if err == nil && c.id != id {
		err = fmt.Errorf("card %q is not in canonical form", id)
	}
	return c, err
}

// transaction is a transaction id taken apart: set/card/purse/operation/counter/random.
type transaction struct {
	purse     store.PurseKey
	operation string
	key       store.AttemptKey
}

func (t transaction) String() string {
	return fmt.Sprintf("%s/%s/%s/%s/%04X/%s",
		t.purse.KeySet, t.purse.Card, t.purse.Purse, t.operation, t.key.Counter, t.key.Random)
}

const transactionField = "transactionId"

// recordedCardID is a card as ids carry it: its factor, with the issuer's in front where the key set takes it from the card.
var recordedCardID = regexp.MustCompile(`^([0-9A-F]{16}-)?[0-9A-F]{16}$`)

// operations are those that an id can name.
var operations = []string{ledger.Load, ledger.Unload, ledger.Overdraft}

func parseTransaction(id string) (t transaction, err error) {
	return parseRecorded(transactionField, operations, id)
}

// parseRecorded reads the id of one of the operations, which the named field of a request holds.
func parseRecorded(field string, operations []string, id string) (t transaction, err error) {
	bad := func(part, problem string) (transaction, error) {
		return transaction{}, &purse.FieldError{
			Field: field, Problem: part + ": " + problem + "; expected SET/CARD/PURSE/OPERATION/COUNTER/RANDOM",
		}
	}
	parts := strings.Split(id, "/")
	if len(parts) != 6 {
		return bad("the id", fmt.Sprintf("%d parts", len(parts)))
	}
	if !keySetName.MatchString(parts[0]) {
		return bad("key set", "not a key set's name")
	}
	card := strings.ToUpper(parts[1])
	if !recordedCardID.MatchString(card) {
		return bad("card", "not 16 hex digits, nor two times 16 with a hyphen between")
	}
	if _, err := purse.ParsePurse(parts[2]); err != nil {
		return bad("purse", "neither ED nor EP")
	}
	if !slices.Contains(operations, parts[3]) {
		return bad("operation", fmt.Sprintf("not one of %v", operations))
	}
	counter, err := strconv.ParseUint(parts[4], 16, 16)
	if err != nil || len(parts[4]) != 4 {
		return bad("counter", "not four hex digits")
	}
	random := strings.ToUpper(parts[5])
	if raw, err := hex.DecodeString(random); err != nil || len(raw) != 4 {
		return bad("random", "not eight hex digits")
	}
	return transaction{
		purse:     store.PurseKey{KeySet: parts[0], Card: card, Purse: parts[2]},
		operation: parts[3],
		key:       store.AttemptKey{Counter: int(counter), Random: random},
	}, nil
}
