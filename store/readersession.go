package store

import (
	"errors"
	"fmt"
	"time"
)

// ReaderSession is one session with a reader's secure module. It holds no key and no data: the keys are derived anew from the
// challenges for each frame. Everything above State is fixed when it is made.
type ReaderSession struct {
	ID            string
	KeySet        string
	Device        string // device number, 16 hex digits
	Client        string // the one that began it, the only one that may use it
	KeyVersion    int
	HostChallenge string // 16 hex digits

	State     SessionState
	ExpiresAt time.Time // of the challenge, then of the session

	// The one try to authenticate, and how it ended.
	DeviceChallenge string // 16 hex digits
	DeviceProof     string // 16 hex digits
	HostProof       string // 16 hex digits; "" unless the try was right
	Outcome         string
	AuditIndex      uint64 // of the try's entry

	Sent, Received Direction
}

// Direction is how far the frames of one direction have come.
type Direction struct {
	Sequence uint32 // of the last frame, 0 before the first
	Blocks   uint64 // that the direction's keys have enciphered
	Last     bool   // the last frame is through
}

// SessionState is where a session stands. The zero value is invalid.
type SessionState string

// The states of a session.
const (
	SessionChallenged SessionState = "CHALLENGED" // the module has not answered yet
	SessionOpen       SessionState = "OPEN"       // both have proved the key
	SessionEnded      SessionState = "ENDED"
)

// Session returns the session that the Change named, nil when there is none. It panics when it named none.
func (p *Purse) Session() *ReaderSession {
	if p.named.Session == "" {
		panic("store: a decision looked at a session that its change did not name")
	}
	return p.session
}

// BeginSession makes the session that the Change named. It panics when it is there, and when s is another one.
func (p *Purse) BeginSession(s *ReaderSession) {
	if p.Session() != nil {
		panic("store: a decision began one session twice")
	}
	if s.ID != p.named.Session {
		panic("store: a decision began a session that its change did not name")
	}
	p.session = s
}

func (s *ReaderSession) copied() *ReaderSession {
	if s == nil {
		return nil
	}
	c := *s
	return &c
}

// restore gives back everything that is fixed when a session is made.
func (s *ReaderSession) restore(made *ReaderSession) {
	s.ID, s.KeySet, s.Device, s.Client = made.ID, made.KeySet, made.Device, made.Client
	s.KeyVersion, s.HostChallenge = made.KeyVersion, made.HostChallenge
}

func (s *ReaderSession) check() error {
	if s.State == "" {
		return errors.New("bug: a session has no state")
	}
	if !isText(s.Client) {
		return fmt.Errorf("bug: a session is of client %q, which is no text", s.Client)
	}
	return nil
}
