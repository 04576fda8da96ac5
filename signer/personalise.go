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
	"github.com/pursekeeper/pursekeeper/store"
)

// CardKeysRequest is PersonaliseCard as the caller wrote it; the fields are those of the API.
type CardKeysRequest struct {
	KeySet     string
	CardSerial string
	IssuerID   string
	KeyWrites
}

// ModuleKeysRequest is PersonalisePSAM as the caller wrote it.
type ModuleKeysRequest struct {
	KeySet       string
	DeviceNumber string
	KeyWrites
}

// KeyWrites is what both ask for.
type KeyWrites struct {
	KeyVersion        uint32
	ControlKeyVersion uint32
	Kinds             []string
	Challenges        []string
}

// Personalisation is the answer: the keys to write, in order, each with its command unless the answer is a plan.
type Personalisation struct {
	Outcome    ledger.Outcome
	Writes     []KeyWrite
	Key        KeyUsed // the control key; of KEY_NOT_ACTIVE the key that is not
	AuditIndex uint64
	Detail     string
}

// KeyWrite is one key to write.
type KeyWrite struct {
	Key     KeyUsed // the master
	Command string  // the whole WRITE KEY; "" in a plan
}

// BoundaryError says that a master's card keys never leave its token: they can be used there, and not written to a card.
type BoundaryError struct{ Key audit.Key }

func (e *BoundaryError) Error() string {
	return fmt.Sprintf("key set %s: the %s key, version %d, has the TOKEN boundary: its card keys never leave the token; "+
		"personalise with a signer whose key set has it at CARD or PROCESS", e.Key.Set, e.Key.Kind, e.Key.Version)
}

// PersonaliseCard makes the WRITE KEY commands that put a card's keys on it under its control key (EPURSE.md §6).
//
// The commands have nothing to do with a purse: no counter, no amount, no lock of a card. The same request gets the same commands.
// Errors are those of AuthorizeLoad, and *BoundaryError.
func (s *Signer) PersonaliseCard(ctx context.Context, caller policy.Caller, r CardKeysRequest) (Personalisation, error) {
	return withKeys(ctx, s, func(s view) (Personalisation, error) {
		set, grant, err := s.permit(ctx, caller, policy.PersonaliseCard, r.KeySet, audit.Entry{KeySet: r.KeySet}, policy.Context{})
		if err != nil {
			return Personalisation{}, err
		}
		p := issuance{op: policy.PersonaliseCard, set: set, control: keyderive.KindControl}
		if p.at, err = set.parseCard(r.CardSerial, r.IssuerID); err != nil {
			return Personalisation{}, err
		}
		if err := p.read(r.KeyWrites); err != nil {
			return Personalisation{}, err
		}
		return s.personalise(ctx, caller, grant, audit.Entry{KeySet: set.Name, Card: p.at.id}, p)
	})
}

// PersonalisePSAM is PersonaliseCard for a reader's secure module: its device number stands where the card's serial number does,
// below the issuer levels of the key set.
func (s *Signer) PersonalisePSAM(ctx context.Context, caller policy.Caller, r ModuleKeysRequest) (Personalisation, error) {
	return withKeys(ctx, s, func(s view) (Personalisation, error) {
		set, grant, err := s.permit(ctx, caller, policy.PersonalisePSAM, r.KeySet, audit.Entry{KeySet: r.KeySet}, policy.Context{})
		if err != nil {
			return Personalisation{}, err
		}
		device, err := purse.ParseHex("deviceNumber", r.DeviceNumber, len(keyderive.Factor{}))
		if err != nil {
			return Personalisation{}, err
		}
		if set.Issuer.FromCard {
			return Personalisation{}, &purse.FieldError{Field: "keySet", Problem: "takes its issuer factor from the card, and a reader has none"}
		}
		p := issuance{op: policy.PersonalisePSAM, set: set, control: keyderive.KindReaderControl, at: card{factor: keyderive.Factor(device)}}
		if err := p.read(r.KeyWrites); err != nil {
			return Personalisation{}, err
		}
		return s.personalise(ctx, caller, grant, audit.Entry{KeySet: set.Name, Device: upperHex(device)}, p)
	})
}

// personalise is both operations behind the permission.
func (s view) personalise(
	ctx context.Context, caller policy.Caller, grant policy.Grant, about audit.Entry, p issuance,
) (Personalisation, error) {
	if !grant.Allows(p.op, p.set.Name) {
		return Personalisation{}, errNoGrant
	}
	entry := s.entry(caller, grant, p.op, about)
	if refused, detail := p.choose(); detail != "" {
		return s.commitKeys(ctx, entry, Personalisation{Outcome: ledger.KeyNotActive, Key: refused, Detail: detail})
	}
	entry.Writes = p.recorded()
	answer := Personalisation{Outcome: ledger.Approved, Key: p.set.used(p.under)}
	if p.plan {
		answer.Detail = "a plan: no challenge was given, and nothing was signed"
	}
	for _, w := range p.writes {
		command, err := p.command(ctx, w)
		var stays *BoundaryError
		if errors.As(err, &stays) {
			return Personalisation{}, s.refuseBoundary(ctx, entry, p.set.used(w.key), stays)
		}
		if err != nil {
			return Personalisation{}, err
		}
		answer.Writes = append(answer.Writes, KeyWrite{Key: p.set.used(w.key), Command: command})
	}
	return s.commitKeys(ctx, entry, answer)
}

// command makes one WRITE KEY. The key's bytes are in locked memory from DangerousIssue to Wipe, and in the frame that is encrypted,
// which package purse zeroes. The master's loan is over before the control key's begins.
func (p issuance) command(ctx context.Context, w keyWrite) (string, error) {
	used := p.set.used(w.key)
	if w.key.Boundary == keyderive.BoundaryToken {
		return "", &BoundaryError{Key: used.Key}
	}
	if p.plan {
		return "", nil
	}
	issued, err := p.set.master(w.key, p.at).DangerousIssue(ctx, p.at.factor)
	if errors.Is(err, keyderive.ErrStays) {
		return "", &BoundaryError{Key: used.Key}
	}
	if err != nil {
		return "", err
	}
	defer issued.Wipe()
	result := new(purse.APDU) // not a result variable: after an early return the loan may still write it
	err = issued.Under(ctx, p.set.master(p.under, p.at), p.at.factor, func(key keyderive.KeyBytes, control keyderive.Messaging) error {
		built, err := purse.WriteKey{Row: w.row, KeyValue: key}.Build(p.set.Profile, w.challenge, control)
		*result = built
		return err
	})
	if err != nil {
		return "", err
	}
	return result.Hex(), nil
}

// commitKeys records an answer; it leaves when that is durable.
func (s view) commitKeys(ctx context.Context, entry audit.Entry, answer Personalisation) (Personalisation, error) {
	entry.Key, entry.Boundary = &answer.Key.Key, answer.Key.Boundary
	entry.Outcome, entry.Detail = string(answer.Outcome), answer.Detail
	err := s.commit(ctx, store.Change{Decide: func(_ *store.Purse, index uint64) ([]audit.Entry, error) {
		answer.AuditIndex = index
		return []audit.Entry{entry}, nil
	}})
	if err != nil {
		return Personalisation{}, err
	}
	return answer, nil
}

// outcomeBoundary is the recorded outcome of a request for keys that stay in their token.
const outcomeBoundary = "FAILED_PRECONDITION"

func (s view) refuseBoundary(ctx context.Context, entry audit.Entry, key KeyUsed, refusal *BoundaryError) error {
	entry.Key, entry.Boundary, entry.Writes = &key.Key, key.Boundary, nil
	entry.Outcome, entry.Detail = outcomeBoundary, refusal.Error()
	if err := s.record(ctx, entry); err != nil {
		return err
	}
	return refusal
}
