package signer

import (
	"context"
	"errors"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Authenticated is the answer to Authenticate.
type Authenticated struct {
	Outcome    ledger.Outcome
	HostProof  string // 16 hex digits, only when VERIFIED
	ExpiresAt  time.Time
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// Authenticate takes the module's answer to the challenge, once: any try, right or wrong, uses the challenge up, and the same try
// again gets the same result. A right one proves the key of the device number; only then the signer's own proof is made.
// Errors are as those of Challenge, and those of the token.
func (s *Signer) Authenticate(ctx context.Context, caller policy.Caller, sessionID, deviceChallenge, deviceProof string) (Authenticated, error) {
	return withKeys(ctx, s, func(s view) (Authenticated, error) {
		u, err := s.useSession(ctx, caller, policy.Authenticate, sessionID)
		if err != nil {
			return Authenticated{}, err
		}
		challenge, err := purse.ParseHex("deviceChallenge", deviceChallenge, 8)
		if err != nil {
			return Authenticated{}, err
		}
		proof, err := purse.ParseHex("deviceProof", deviceProof, 8)
		if err != nil {
			return Authenticated{}, err
		}
		try := ledger.Try{Challenge: upperHex(challenge), Proof: upperHex(proof)}
		if !u.key.For(policy.Authenticate).Signs() {
			try.Refuse = ledger.KeyNotActive
		} else if err := u.prove(ctx, keyderive.Challenge(challenge), keyderive.Proof(proof), &try); err != nil {
			return Authenticated{}, err
		}
		return s.commitTry(ctx, u, try)
	})
}

// prove verifies the module's proof in constant time, and fills in the signer's when it is right.
func (u readerUse) prove(ctx context.Context, challenge keyderive.Challenge, proof keyderive.Proof, try *ledger.Try) error {
	result := new(keyderive.Proof) // not a result variable: after an early return the loan may still write it
	err := u.withSession(ctx, challenge, func(session keyderive.ReaderSession) error {
		a, err := session.Authentication()
		if err != nil {
			return err
		}
		*result, err = a.Answer(proof)
		return err
	})
	if errors.Is(err, keyderive.ErrMismatch) {
		return nil
	}
	if err != nil {
		return err
	}
	try.Right, try.HostProof = true, upperHex(result[:])
	return nil
}

// commitTry lets the ledger judge the try and records it; only then the signer's proof leaves.
func (s view) commitTry(ctx context.Context, u readerUse, try ledger.Try) (Authenticated, error) {
	var answer Authenticated
	var alarms []audit.Event
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: devicePlace(u.session.KeySet, u.session.Device), Session: u.session.ID, Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) (entries []audit.Entry, err error) {
			alarms = nil
			t, session := try, p.Session()
			if p.Card.Locked {
				t.Refuse = ledger.CardLocked
			}
			outcome, reason, recorded := s.ledger.Authenticate(session, t, s.now(), s.reader.session)
			answer = Authenticated{Outcome: outcome, Key: u.used, AuditIndex: index, Detail: reason}
			if outcome == ledger.Verified {
				answer.HostProof, answer.ExpiresAt = session.HostProof, session.ExpiresAt
			}
			if recorded {
				answer.AuditIndex = session.AuditIndex
				return nil, nil // its entry is there
			}
			switch outcome {
			case ledger.KeyNotActive:
				answer.Detail = detailReaderKey
			case ledger.CardLocked:
				answer.Detail = detailDeviceLocked
			}
			if session.DeviceChallenge == t.Challenge && session.DeviceProof == t.Proof {
				session.AuditIndex = index
			}
			e := u.entry
			e.Inputs.HostChallenge, e.Inputs.DeviceChallenge, e.Inputs.DeviceProof = session.HostChallenge, t.Challenge, t.Proof
			e.Outcome, e.Detail = string(outcome), answer.Detail
			entries, alarms = s.countProof(p, u, e, outcome)
			return entries, nil
		},
	})
	if err != nil {
		return Authenticated{}, err
	}
	return answer, nil
}

// countProof counts a wrong proof against the module as a wrong MAC1 counts against a card, and forgets the failures of one that
// has proved its key.
func (s view) countProof(p *store.Purse, u readerUse, e audit.Entry, outcome ledger.Outcome) ([]audit.Entry, []audit.Event) {
	switch {
	case outcome == ledger.Verified:
		p.Card.MAC1Failures = 0
	case outcome == ledger.MACMismatch && s.ledger.MAC1Failed(p, u.set.MAC1Failures):
		return []audit.Entry{e, alarmEntry(e, audit.CardLocked, detailDeviceLocked)}, []audit.Event{audit.CardLocked}
	}
	return []audit.Entry{e}, nil
}
