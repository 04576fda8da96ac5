package signer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Sealed is the answer to Seal.
type Sealed struct {
	Outcome    ledger.Outcome
	Frame      string // hex digits, only when APPROVED
	Sequence   uint32
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// Opened is the answer to Open. Its Data, as that of Seal, is in no log, error or record: those have lengths and sequence numbers.
type Opened struct {
	Outcome    ledger.Outcome
	Data       string // hex digits, only when VERIFIED
	Last       bool
	Sequence   uint32
	Key        KeyUsed
	AuditIndex uint64
	Detail     string
}

// Seal makes the next frame to the module of 1 to 16,384 bytes. Its sequence number is taken in a transaction of its own before
// anything is encrypted with it, so that no keystream is used twice, whatever fails afterwards. A number whose frame was lost is a
// gap that the module refuses: the session is then at its end. Errors are as those of Authenticate.
func (s *Signer) Seal(ctx context.Context, caller policy.Caller, sessionID, data string, last bool) (Sealed, error) {
	signer := s
	return withKeys(ctx, s, func(s view) (Sealed, error) {
		u, err := s.useSession(ctx, caller, policy.Seal, sessionID)
		if err != nil {
			return Sealed{}, err
		}
		plain, err := secretHex("data", data, keyderive.MaxLineData)
		if err != nil {
			return Sealed{}, err
		}
		u.entry.Inputs.Length, u.entry.Inputs.Last = len(plain), last
		if !u.key.For(policy.Seal).Signs() {
			a, err := s.refuse(ctx, u.entry, u.used, detailReaderKey)
			return Sealed{Outcome: a.Outcome, Key: a.Key, AuditIndex: a.AuditIndex, Detail: a.Detail}, err
		}
		answer, session, err := s.takeSequence(ctx, u, last, len(plain))
		if err != nil || answer.Outcome != ledger.Approved {
			return answer, err
		}
		u.session = session
		frame, err := u.seal(ctx, answer.Sequence, last, plain)
		if err != nil {
			return Sealed{}, err
		}
		e := u.entry
		e.Outcome, e.Inputs.Sequence, e.Inputs.FrameDigest = string(answer.Outcome), answer.Sequence, frameDigest(frame[len(frame)-8:])
		if answer.AuditIndex, err = signer.recordFrame(ctx, s, caller, u, e); err != nil {
			return Sealed{}, err
		}
		answer.Frame = upperHex(frame)
		return answer, nil
	})
}

// recordFrame records a frame whose number is taken for good. When officers changed the catalogue since, it is recorded under the new
// revision if its key still signs there and the caller still may: to do all of it again would leave a gap, and end the session. If not, the
// operation is done again, and refused by the key's state or the policy.
func (s *Signer) recordFrame(ctx context.Context, v view, caller policy.Caller, u readerUse, e audit.Entry) (uint64, error) {
	for range mostRevisions {
		index, err := v.recordAt(ctx, e)
		if !errors.Is(err, store.ErrRevision) {
			return index, err
		}
		if err := s.follow(ctx, v.keys.revision); err != nil {
			return 0, err
		}
		v = s.view()
		set := v.keys.sets[u.set.Name]
		if set == nil {
			return 0, store.ErrRevision
		}
		key := set.version(keyderive.KindReader, u.session.KeyVersion)
		if !key.For(policy.Seal).Signs() || key.KCV != u.key.KCV {
			return 0, store.ErrRevision
		}
		grant, err := v.keys.policy.Decide(policy.Request{Caller: caller, Operation: policy.Seal, KeySet: u.set.Name, Context: v.context(set, policy.Context{})})
		if err != nil {
			return 0, store.ErrRevision
		}
		e.Policy, e.Role = grant.Policy(), v.keys.policy.Role(caller)
	}
	return 0, store.ErrRevision
}

// takeSequence takes the next number of the session for good, or records why there is none.
func (s view) takeSequence(ctx context.Context, u readerUse, last bool, length int) (Sealed, store.ReaderSession, error) {
	var answer Sealed
	var session store.ReaderSession // as it is in the transaction: it may have opened since it was read
	err := s.commit(ctx, store.Change{
		Purse: devicePlace(u.set.Name, u.session.Device), Session: u.session.ID,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			if p.Card.Locked {
				answer = Sealed{Outcome: ledger.CardLocked, Key: u.used, AuditIndex: index, Detail: detailDeviceLocked}
				e := u.entry
				e.Outcome, e.Detail = string(answer.Outcome), answer.Detail
				return []audit.Entry{e}, nil
			}
			sequence, outcome, reason := s.ledger.Send(p.Session(), u.passage(last, length), s.now())
			answer = Sealed{Outcome: outcome, Sequence: sequence, Key: u.used, AuditIndex: index, Detail: reason}
			session = *p.Session()
			if outcome == ledger.Approved {
				return nil, nil // its entry comes with its frame
			}
			e := u.entry
			e.Outcome, e.Detail = string(outcome), reason
			return []audit.Entry{e}, nil
		},
	})
	if err != nil {
		return Sealed{}, store.ReaderSession{}, err
	}
	return answer, session, nil
}

func (u readerUse) passage(last bool, length int) ledger.Passage {
	return ledger.Passage{
		Last: last, Blocks: keyderive.LineBlocks(u.set.Algorithm, length), Budget: keyderive.LineBudget(u.set.Algorithm),
	}
}

// moduleChallenge is that of the try that opened the session.
func (u readerUse) moduleChallenge() (keyderive.Challenge, error) {
	c, err := keyderive.ParseFactor(u.session.DeviceChallenge)
	return keyderive.Challenge(c), err
}

func (u readerUse) seal(ctx context.Context, sequence uint32, last bool, data []byte) ([]byte, error) {
	challenge, err := u.moduleChallenge()
	if err != nil {
		return nil, err
	}
	frame := new([]byte) // not a result variable: after an early return the loan may still write it
	err = u.withSession(ctx, challenge, func(session keyderive.ReaderSession) error {
		down, err := session.Down()
		if err != nil {
			return err
		}
		*frame, err = down.Seal(sequence, last, data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return *frame, nil
}

// Open takes the module's next frame. Its MAC is compared before anything of it is believed or decrypted, and its data leaves only
// after the frame is recorded as taken, so that no frame is taken twice. Errors are as those of Authenticate.
func (s *Signer) Open(ctx context.Context, caller policy.Caller, sessionID, frame string) (Opened, error) {
	return withKeys(ctx, s, func(s view) (Opened, error) {
		u, err := s.useSession(ctx, caller, policy.Open, sessionID)
		if err != nil {
			return Opened{}, err
		}
		const frameField = "frame"
		raw, err := secretHex(frameField, frame, keyderive.MaxLineFrame)
		if err != nil {
			return Opened{}, err
		}
		f, err := keyderive.ParseUp(raw)
		if err != nil {
			return Opened{}, &purse.FieldError{Field: frameField, Problem: err.Error()}
		}
		u.entry.Inputs.Sequence, u.entry.Inputs.Length, u.entry.Inputs.Last = f.Sequence, f.Len(), f.Last
		u.entry.Inputs.FrameDigest = frameDigest(f.MAC())
		if !u.key.For(policy.Open).Signs() {
			a, err := s.refuse(ctx, u.entry, u.used, detailReaderKey)
			return Opened{Outcome: a.Outcome, Key: a.Key, AuditIndex: a.AuditIndex, Detail: a.Detail}, err
		}
		if u.session.State == store.SessionChallenged { // there are no keys yet, and nothing to judge a frame with
			return s.refuseFrame(ctx, u)
		}
		data, err := u.open(ctx, f)
		right, err := verdict(err)
		if err != nil {
			return Opened{}, err
		}
		return s.commitFrame(ctx, u, f, right, data)
	})
}

func (u readerUse) open(ctx context.Context, f keyderive.Frame) ([]byte, error) {
	challenge, err := u.moduleChallenge()
	if err != nil {
		return nil, err
	}
	data := new([]byte) // not a result variable: after an early return the loan may still write it
	err = u.withSession(ctx, challenge, func(session keyderive.ReaderSession) error {
		up, err := session.Up()
		if err != nil {
			return err
		}
		*data, err = up.Open(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return *data, nil
}

// refuseFrame records that a frame came for a session that nobody has authenticated.
func (s view) refuseFrame(ctx context.Context, u readerUse) (Opened, error) {
	answer := Opened{Outcome: ledger.SessionExpired, Key: u.used, Detail: "the session was not authenticated"}
	e := u.entry
	e.Outcome, e.Detail = string(answer.Outcome), answer.Detail
	var err error
	if answer.AuditIndex, err = s.recordAt(ctx, e); err != nil {
		return Opened{}, err
	}
	return answer, nil
}

// commitFrame lets the ledger judge the frame and records it; only then the data leaves.
func (s view) commitFrame(ctx context.Context, u readerUse, f keyderive.Frame, right bool, data []byte) (Opened, error) {
	var answer Opened
	ctx, cancel := judged(ctx)
	defer cancel()
	err := s.commit(ctx, store.Change{
		Purse: devicePlace(u.set.Name, u.session.Device), Session: u.session.ID,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			outcome, reason := ledger.CardLocked, detailDeviceLocked
			if !p.Card.Locked {
				outcome, reason = s.ledger.Receive(p.Session(), f.Sequence, right, u.passage(f.Last, f.Len()), s.now())
			}
			answer = Opened{Outcome: outcome, Key: u.used, AuditIndex: index, Detail: reason}
			if right {
				answer.Sequence = f.Sequence
			}
			e := u.entry
			e.Outcome, e.Detail = string(outcome), reason
			return []audit.Entry{e}, nil
		},
	})
	if err != nil {
		return Opened{}, err
	}
	if answer.Outcome == ledger.Verified {
		answer.Data, answer.Last = upperHex(data), f.Last
	}
	return answer, nil
}

// secretHex reads 1 to most bytes of hex digits, spaces allowed. Its errors quote nothing of them.
func secretHex(field, text string, most int) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	switch {
	case errors.Is(err, hex.ErrLength):
		return nil, &purse.FieldError{Field: field, Problem: "an odd number of hex digits"}
	case err != nil:
		return nil, &purse.FieldError{Field: field, Problem: "not hex digits"}
	case len(b) < 1 || len(b) > most:
		return nil, &purse.FieldError{Field: field, Problem: fmt.Sprintf("%d bytes, expected 1 to %d", len(b), most)}
	}
	return b, nil
}

// frameDigest names a frame in the record: a hash of its MAC, which nobody can make a frame of.
func frameDigest(mac []byte) string {
	sum := sha256.Sum256(mac)
	return upperHex(sum[:8])
}
