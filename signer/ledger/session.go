package ledger

import (
	"math"
	"time"

	"github.com/pursekeeper/pursekeeper/store"
)

// Try is one try to authenticate: what the module answered to the challenge, and whether it is right.
type Try struct {
	Challenge string // the module's own
	Proof     string
	Right     bool
	HostProof string  // to answer when it is right
	Refuse    Outcome // a refusal found before the proof was looked at (key, lock); "" none
}

// Authenticate decides on a try. The first one, whatever it is, uses the challenge up, too late a one too; the same try again gets
// the same result, and recorded is true then. life is of the session that a right one opens.
func (l Ledger) Authenticate(s *store.ReaderSession, t Try, now time.Time, life time.Duration) (outcome Outcome, reason string, recorded bool) {
	if s.State != store.SessionChallenged {
		if s.DeviceChallenge == t.Challenge && s.DeviceProof == t.Proof {
			return Outcome(s.Outcome), "", true
		}
		return SessionExpired, "the challenge is used up", false
	}
	s.DeviceChallenge, s.DeviceProof = t.Challenge, t.Proof
	outcome, s.State = Verified, store.SessionEnded
	switch {
	case now.After(s.ExpiresAt):
		outcome, reason = SessionExpired, "the challenge is too old"
	case t.Refuse != "":
		outcome = t.Refuse
	case !t.Right:
		outcome = MACMismatch
	default:
		s.State, s.HostProof = store.SessionOpen, t.HostProof
		s.ExpiresAt = now.Add(life).UTC().Truncate(time.Microsecond)
	}
	s.Outcome = string(outcome)
	return outcome, reason, false
}

// Passage is one frame that is to pass.
type Passage struct {
	Last   bool
	Blocks uint64 // that it costs
	Budget uint64 // that the keys of its direction may encipher in all
}

// usable reports why a session passes no more frames in a direction, "" when it does.
func usable(s *store.ReaderSession, d store.Direction, p Passage, now time.Time) (reason string) {
	switch {
	case s.State == store.SessionChallenged:
		return "the module has not proved its key"
	case s.State != store.SessionOpen:
		return "the session has ended"
	case now.After(s.ExpiresAt):
		return "the session is too old"
	case d.Last:
		return "the last frame is through"
	case d.Sequence == math.MaxUint32 || d.Blocks+p.Blocks > p.Budget:
		return "the session's keys have protected as much as they may; begin another"
	}
	return ""
}

// pass counts a frame, and ends the session when it was the last of both directions.
func pass(s *store.ReaderSession, d *store.Direction, p Passage) {
	d.Sequence++
	d.Blocks += p.Blocks
	d.Last = p.Last
	if s.Sent.Last && s.Received.Last {
		s.State = store.SessionEnded
	}
}

// Send takes the number of the next frame to the module for good: it is not given again, whatever becomes of the frame.
func (l Ledger) Send(s *store.ReaderSession, p Passage, now time.Time) (sequence uint32, outcome Outcome, reason string) {
	if reason = usable(s, s.Sent, p, now); reason != "" {
		return 0, SessionExpired, reason
	}
	pass(s, &s.Sent, p)
	return s.Sent.Sequence, Approved, ""
}

// Receive decides on a frame from the module. right says that its MAC was: nothing that a frame says is believed before.
func (l Ledger) Receive(s *store.ReaderSession, sequence uint32, right bool, p Passage, now time.Time) (Outcome, string) {
	over := usable(s, s.Received, p, now)
	switch {
	case s.State != store.SessionOpen || now.After(s.ExpiresAt):
		return SessionExpired, over
	case !right:
		return MACMismatch, ""
	case sequence <= s.Received.Sequence:
		return CounterStale, "the frame was taken before"
	case over != "":
		return SessionExpired, over
	case sequence-1 > s.Received.Sequence:
		return CounterConflict, "a frame before it is missing"
	}
	pass(s, &s.Received, p)
	return Verified, ""
}
