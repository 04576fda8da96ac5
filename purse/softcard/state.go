package softcard

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// snapshotFormat names the form of a snapshot, so that another one is refused.
const snapshotFormat = "pursekeeper-softcard-v1"

// state is all that outlives the power. Commands change a clone and put it in its place in one step; a state that a card
// holds is never written to.
type state struct {
	Format string `json:"format"`
	keyring
	Profile    purse.ProfileFile `json:"profile"`
	ALG        byte              `json:"alg"`
	AID        hexBytes          `json:"aid"`
	RequirePIN bool              `json:"requirePin"`

	CardBlocked bool `json:"cardBlocked"`
	Lock        lock `json:"lock"`

	PIN          hexBytes `json:"testPin"`
	PINTries     int      `json:"pinTries"`
	ControlTries int      `json:"controlTries"`

	ED account `json:"ed"`
	EP account `json:"ep"`

	Log    []hexBytes          `json:"log"` // newest first
	Proves map[purse.TTI]prove `json:"proves"`

	Binaries map[byte]hexBytes   `json:"binaries"`
	Records  map[byte][]hexBytes `json:"records"`
}

// lock is whether the application is blocked.
type lock uint8

const (
	lockNone lock = iota
	lockTemporary
	lockPermanent
)

// account is one purse.
type account struct {
	Balance   purse.Fen     `json:"balance"`
	Overdraft purse.Limit   `json:"overdraft"`
	Online    purse.Counter `json:"online"`
	Offline   purse.Counter `json:"offline"`
}

// prove is what GET TRANSACTION PROVE answers for the last transaction of a type.
type prove struct {
	SN  purse.Counter `json:"sn"`
	MAC hexBytes      `json:"mac"`
	TAC hexBytes      `json:"tac"`
}

type storedKey struct {
	Kind    purse.KeyKind `json:"kind"`
	Index   byte          `json:"index"`
	Version purse.KVER    `json:"version"`
	Value   hexBytes      `json:"value"`
}

// hexBytes is bytes that a snapshot shows as upper-case hex digits.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) {
	return []byte(strings.ToUpper(hex.EncodeToString(h))), nil
}

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// clone copies everything that a command may change; byte slices are replaced, never written to, so they are shared.
func (s *state) clone() *state {
	next := *s
	next.Log = slices.Clone(s.Log)
	next.Proves = maps.Clone(s.Proves)
	next.Keys = slices.Clone(s.Keys)
	next.Binaries = maps.Clone(s.Binaries)
	next.Records = make(map[byte][]hexBytes, len(s.Records))
	for sfi, records := range s.Records {
		next.Records[sfi] = slices.Clone(records)
	}
	return &next
}

// account is the purse p of s, for reading and, in a clone, for writing.
func (s *state) account(p purse.Purse) *account {
	if p == purse.ED {
		return &s.ED
	}
	return &s.EP
}

// logLen is how many transactions the log keeps.
const logLen = 10

// record puts a transaction at the head of the log and keeps its prove.
func (s *state) record(r purse.LogRecord, p prove) {
	s.Log = slices.Insert(s.Log, 0, hexBytes(r.Bytes()))
	if len(s.Log) > logLen {
		s.Log = s.Log[:logLen]
	}
	s.Proves[r.TTI] = p
}

// Snapshot writes the card as it would be with the power off, as JSON. Its keys and its PIN are in it in the clear: they
// are test keys.
func (c *Card) Snapshot() ([]byte, error) { return json.MarshalIndent(c.state, "", "  ") }

// Restore makes a card of a snapshot, with the power just on. random is as in Options.
func Restore(snapshot []byte, random io.Reader) (*Card, error) {
	decoder := json.NewDecoder(bytes.NewReader(snapshot))
	decoder.DisallowUnknownFields()
	s := new(state)
	if err := decoder.Decode(s); err != nil {
		return nil, fmt.Errorf("softcard snapshot: %w", err)
	}
	if decoder.More() {
		return nil, errors.New("softcard snapshot: more than one value")
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("softcard snapshot: %w", err)
	}
	if random == nil {
		return nil, errors.New("softcard snapshot: random: missing")
	}
	profile, err := purse.NewProfile(s.Profile)
	if err != nil {
		return nil, fmt.Errorf("softcard snapshot: %w", err)
	}
	return newCard(s, profile, random), nil
}

// check refuses what no card could hold: a snapshot is a file that somebody may have edited.
func (s *state) check() error {
	switch {
	case s.Format != snapshotFormat:
		return fmt.Errorf("format %q, expected %q", s.Format, snapshotFormat)
	case !s.Algorithm.Valid():
		return fmt.Errorf("%v", s.Algorithm)
	case s.Lock > lockPermanent:
		return fmt.Errorf("lock %d", s.Lock)
	case s.PINTries < 0 || s.PINTries > pinTries || s.ControlTries < 0 || s.ControlTries > controlTries:
		return errors.New("more tries than there are")
	case s.ED.Overdraft > purse.MaxLimit || s.EP.Overdraft != 0:
		return errors.New("overdraft limit out of range")
	case len(s.Log) > logLen || s.Proves == nil || len(s.Binaries[publicFile]) != publicLen:
		return errors.New("log, proves or public data out of shape")
	case len(s.AID) < 5 || len(s.AID) > 16:
		return fmt.Errorf("aid of %d bytes", len(s.AID))
	}
	if len(s.PIN) > 0 {
		if _, err := purse.ParsePackedPIN(s.PIN); err != nil {
			return err
		}
	}
	for _, key := range s.Keys {
		if !goesOnCard(key.Kind) || len(key.Value) != suite.KeySize {
			return fmt.Errorf("a key of kind %q, %d bytes", string(key.Kind), len(key.Value))
		}
	}
	for _, record := range s.Log {
		if _, err := purse.ParseLogRecord(record); err != nil {
			return err
		}
	}
	for tti, p := range s.Proves {
		if !tti.Valid() || len(p.MAC) != macLen || len(p.TAC) != macLen {
			return fmt.Errorf("a prove of %v", tti)
		}
	}
	return nil
}
