package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Sessions with a reader's secure module, by the construction of docs/line-protection.md. The keys of a session are derived anew
// for each use: no state between requests but the session's row, so any signer on the store goes on with it.

// readerLives are how long a challenge and a session are good for.
type readerLives struct{ challenge, session time.Duration }

const (
	sessionField = "sessionId"
	deviceField  = "deviceNumber"
)

// sessionShape is what newSession writes.
var sessionShape = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}/READER/[0-9A-F]{16}/[0-9A-F]{16}$`)

// Challenged is the answer to Challenge.
type Challenged struct {
	Outcome    ledger.Outcome
	SessionID  string // only when APPROVED
	Challenge  string // 16 hex digits, only when APPROVED
	ExpiresAt  time.Time
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// Challenge begins a session with the module of a device number: it draws a challenge that the module must answer, once. version
// 0 is the newest active version of the reader key. The session belongs to the caller.
//
// Errors: *purse.FieldError for malformed input and for a key set that takes its issuer factor from cards, *NotFoundError,
// *policy.Denied, and those of the store. Every other refusal is an Outcome.
func (s *Signer) Challenge(ctx context.Context, caller policy.Caller, keySetName, deviceNumber string, version uint32) (Challenged, error) {
	return withKeys(ctx, s, func(s view) (Challenged, error) {
		set, grant, err := s.permit(ctx, caller, policy.Challenge, keySetName, audit.Entry{KeySet: keySetName}, policy.Context{})
		if err != nil {
			return Challenged{}, err
		}
		if set.Issuer.FromCard {
			return Challenged{}, &purse.FieldError{Field: "keySet", Problem: "takes its issuer factor from the card, and a reader has none"}
		}
		device, err := purse.ParseHex(deviceField, deviceNumber, 8)
		if err != nil {
			return Challenged{}, err
		}
		if version > 255 {
			return Challenged{}, &purse.FieldError{Field: "keyVersion", Problem: fmt.Sprintf("is %d, expected 1 to 255, or 0", version)}
		}
		return s.challenge(ctx, caller, grant, set, keyderive.Factor(device), int(version))
	})
}

func (s view) challenge(
	ctx context.Context, caller policy.Caller, grant policy.Grant, set *keySet, device keyderive.Factor, version int,
) (Challenged, error) {
	if !grant.Allows(policy.Challenge, set.Name) {
		return Challenged{}, errNoGrant
	}
	entry := s.entry(caller, grant, policy.Challenge, audit.Entry{KeySet: set.Name, Inputs: audit.Inputs{Device: device.String()}})
	if version == 0 {
		version = set.newest(keyderive.KindReader)
	}
	key := set.version(keyderive.KindReader, version)
	if !key.For(policy.Challenge).Signs() {
		a, err := s.refuse(ctx, entry, set.refusedKey(keyderive.KindReader, version), "no such reader key is active")
		return Challenged{Outcome: a.Outcome, Key: a.Key, AuditIndex: a.AuditIndex, Detail: a.Detail}, err
	}
	used := set.used(key)
	entry.Key, entry.Boundary = &used.Key, used.Boundary
	begun, err := s.newSession(set, device, caller, version)
	if err != nil {
		return Challenged{}, err
	}
	var answer Challenged
	err = s.commit(ctx, store.Change{
		Purse: devicePlace(set.Name, begun.Device), Session: begun.ID,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			e := entry
			if p.Card.Locked {
				answer = Challenged{Outcome: ledger.CardLocked, Key: used, AuditIndex: index, Detail: detailDeviceLocked}
				e.Outcome, e.Detail = string(answer.Outcome), answer.Detail
				return []audit.Entry{e}, nil
			}
			made := begun
			p.BeginSession(&made)
			answer = Challenged{
				Outcome: ledger.Approved, SessionID: made.ID, Challenge: made.HostChallenge, ExpiresAt: made.ExpiresAt, Key: used,
				AuditIndex: index,
			}
			e.Outcome, e.Session, e.Inputs.HostChallenge = string(answer.Outcome), made.ID, made.HostChallenge
			return []audit.Entry{e}, nil
		},
	})
	if err != nil {
		return Challenged{}, err
	}
	return answer, nil
}

const detailDeviceLocked = "repeated wrong proofs locked this reader; an officer must lift the lock"

// deviceMark is in front of a device number where a card's number could stand: a module's failures are counted as a card's are,
// and an officer lifts its lock as a card's.
const deviceMark = "READER-"

// devicePlace is where a module's failures are counted. It is no card's: a card's number is hex digits.
func devicePlace(keySetName, device string) store.PurseKey {
	return store.PurseKey{KeySet: keySetName, Card: deviceMark + device}
}

// parseLocked reads what a lock is on: a card, or a reader's module as READER- and its device number.
func (s *keySet) parseLocked(serial, issuerID string) (card, error) {
	device, ok := strings.CutPrefix(serial, deviceMark)
	if !ok {
		return s.parseCard(serial, issuerID)
	}
	if issuerID != "" {
		return card{}, &purse.FieldError{Field: "issuerId", Problem: "is not of a reader"}
	}
	number, err := purse.ParseHex("cardSerial", device, 8)
	if err != nil {
		return card{}, err
	}
	return card{id: devicePlace(s.Name, upperHex(number)).Card}, nil
}

// newSession draws the challenge and the id: 8 bytes of randomness each.
func (s view) newSession(set *keySet, device keyderive.Factor, caller policy.Caller, version int) (store.ReaderSession, error) {
	var drawn [16]byte
	if _, err := io.ReadFull(s.random, drawn[:]); err != nil {
		return store.ReaderSession{}, fmt.Errorf("random for a session: %w", err)
	}
	return store.ReaderSession{
		ID:     fmt.Sprintf("%s/READER/%v/%X", set.Name, device, drawn[8:]),
		KeySet: set.Name, Device: device.String(), Client: caller.Name(), KeyVersion: version, HostChallenge: upperHex(drawn[:8]),
		State: store.SessionChallenged, ExpiresAt: s.now().Add(s.reader.challenge).UTC().Truncate(time.Microsecond),
	}, nil
}

// readerUse is one use of a session that its own client asked for.
type readerUse struct {
	set     *keySet
	session store.ReaderSession
	key     Version
	used    KeyUsed // as far as the key is known
	entry   audit.Entry
}

// useSession finds a session for the client that began it; another client is denied, and the record says so.
func (s view) useSession(ctx context.Context, caller policy.Caller, op policy.Operation, id string) (u readerUse, err error) {
	if !sessionShape.MatchString(id) {
		return u, &purse.FieldError{Field: sessionField, Problem: "expected SET/READER/DEVICE/NUMBER"}
	}
	name, _, _ := strings.Cut(id, "/")
	about := audit.Entry{KeySet: name, Session: id}
	set, grant, err := s.permit(ctx, caller, op, name, about, policy.Context{})
	if err != nil {
		return u, err
	}
	if !grant.Allows(op, set.Name) {
		return u, errNoGrant
	}
	u.set = set
	u.session, err = s.store.ReaderSession(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return u, &NotFoundError{Field: sessionField, Name: id}
	}
	if err != nil {
		return u, err
	}
	about.Inputs.Device = u.session.Device
	u.entry = s.entry(caller, grant, op, about)
	if u.session.Client != caller.Name() {
		return u, s.denied(ctx, u.entry, fmt.Sprintf("client %s did not begin this session", caller.Name()))
	}
	u.key = set.version(keyderive.KindReader, u.session.KeyVersion)
	u.used = set.refusedKey(keyderive.KindReader, u.session.KeyVersion)
	u.entry.Key, u.entry.Boundary = &u.used.Key, u.used.Boundary
	return u, nil
}

// withSession lends the session's keys to use; module is the module's challenge.
func (u readerUse) withSession(ctx context.Context, module keyderive.Challenge, use func(keyderive.ReaderSession) error) error {
	device, err := keyderive.ParseFactor(u.session.Device)
	if err != nil {
		return err
	}
	host, err := keyderive.ParseFactor(u.session.HostChallenge)
	if err != nil {
		return err
	}
	return keyderive.NewMaster(u.key.Key, u.set.Issuer.Fixed).WithReader(ctx, device, func(r keyderive.Reader) error {
		session, err := r.Session(keyderive.Challenge(host), module)
		if err != nil {
			return err
		}
		return use(session)
	})
}

const detailReaderKey = "the reader key of this session is not active"
