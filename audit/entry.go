// Package audit is the record: what was asked, by whom, with which key, and how it ended.
//
// An [Entry] commits in the same database transaction as the decision that it describes, so there is no MAC without its
// entry and no entry without its decision. Its index is gapless and in commit order. An entry holds all inputs that a
// replay needs, and never a key, a PIN or a clear secret: its types have no place for one.
//
// # The encoding
//
// An entry is one line of JSON (RFC 8259) in UTF-8, without a line end, of at most 65,535 bytes. It is canonical because one
// encoder writes it and a reader encodes again what it read and compares ([Decode]):
//
//	object    {"v":1,"time":…,"event":…, …}: the members in the order of [Entry], and of the structs in it in theirs; one that
//	          says omitempty or omitzero is left out when it is empty (docs/audit.md lists them all)
//	space     none outside texts
//	version   1
//	time      UTC, "2024-01-31T15:59:59.123456Z": microseconds, without the zeros that end a fraction
//	number    decimal, an integer, no leading zero, no sign, no exponent; a yes is true, a no is left out
//	text      " and \ as \" and \\; U+0008, 0009, 000A, 000C, 000D as \b \t \n \f \r; any other below U+0020 as \u00xx, and <, >, &,
//	          U+2028 and U+2029 as \u003c \u003e \u0026 \u2028 \u2029, with small hex digits; everything else as its bytes
//
// A later field is appended to its struct and is left out when empty, so older entries stay as they are; a change that is not
// of this kind is a new version.
//
// # The sealed log
//
// audit/tiles is the layout on disk, audit/sealer what writes it, audit/verifier what an auditor runs over it.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
)

// Version is the version of the encoding that this package writes.
const Version = 1

// Event is what an entry is about: an operation of the API, or something that the signer noticed.
type Event string

// Events that are no operation.
const (
	Started            Event = "Started"            // the service opened its token and store
	KeyExposure        Event = "KeyExposure"        // what the try to extract a card key from a master found
	UnexplainedCounter Event = "UnexplainedCounter" // alarm: a card's counter passed values at which nothing was authorised
	Contradiction      Event = "Contradiction"      // alarm: a right TAC for a transaction declared not applied
	CardLocked         Event = "CardLocked"         // alarm: repeated MAC1 failures locked a card
	Restored           Event = "Restored"           // a backup was put into this token and this store
	BackupMade         Event = "BackupMade"         // a backup file was sealed; the detail has its SHA-256
	LimitAlarm         Event = "LimitAlarm"         // alarm: a running total reached the alarm threshold of a limit
	MAC1Failures       Event = "MAC1Failures"       // alarm: a terminal or client had many wrong MAC1s in one hour
	MAC1Refused        Event = "MAC1Refused"        // alarm: a terminal or client is answered no MAC1 for the rest of the hour
	CounterConflicts   Event = "CounterConflicts"   // alarm: a terminal or client had many counter conflicts in one hour
	TACFailures        Event = "TACFailures"        // alarm: a terminal or client showed many wrong TACs or MAC3s in one hour
	KeyDiffers         Event = "KeyDiffers"         // alarm: the token has another key than the catalogue, or another than it may
	RulesUnusable      Event = "RulesUnusable"      // alarm: this program cannot decide by the rules of the catalogue, and decides nothing
	CheckpointKey      Event = "CheckpointKey"      // which key signs the sealed log's checkpoints, and where it is
	Pruned             Event = "Pruned"             // entries that are sealed leave the database
	SealingLate        Event = "SealingLate"        // alarm, no entry: entries have waited to be sealed for seconds
	SealingRefused     Event = "SealingRefused"     // alarm, no entry: the sealed log and the database disagree
	WitnessConflict    Event = "WitnessConflict"    // alarm, no entry: a witness signed another tree of the sealed log
	WitnessLate        Event = "WitnessLate"        // alarm, no entry: a witness has signed nothing for minutes

	CertificatesRefused Event = "CertificatesRefused" // alarm, no entry: new certificates or lists of revoked ones cannot be used
	RevocationListLate  Event = "RevocationListLate"  // alarm, no entry: a list of revoked certificates is out of date
)

// Alarms are the events that somebody must hear of at once. Each is counted, and has an alert in docs/alerts.
func Alarms() []Event {
	return []Event{
		UnexplainedCounter, Contradiction, CardLocked, LimitAlarm, MAC1Failures, MAC1Refused, CounterConflicts, TACFailures,
		KeyDiffers, RulesUnusable, SealingLate, SealingRefused, WitnessConflict, WitnessLate,
		CertificatesRefused, RevocationListLate,
	}
}

// Events about what officers decide on (custody.Office). The one who asked is the entry's client.
const (
	OfficersRegistered Event = "OfficersRegistered" // the first officers, or those of a restore; Bytes are the catalogue with officers and quorum alone
	RulesRegistered    Event = "RulesRegistered"    // after it: Bytes are rules, or a part of them
	ChangeProposed     Event = "ChangeProposed"
	ChangeApproved     Event = "ChangeApproved" // with the signature
	ChangeRejected     Event = "ChangeRejected"
	ChangeCancelled    Event = "ChangeCancelled"
	ChangeClaimed      Event = "ChangeClaimed" // a node goes on with work in the token that was interrupted
	ChangeApplied      Event = "ChangeApplied"
	ChangeRefused      Event = "ChangeRefused" // any of these that was asked for in vain, or a change that came to nothing
)

// Entry is one line of the record. Empty fields are left out of the encoding.
type Entry struct {
	Version int       `json:"v"`
	Time    time.Time `json:"time"` // by the signer's clock, UTC; order is the index, never this
	Event   Event     `json:"event"`

	Client string      `json:"client,omitempty"` // as its certificate proved
	Role   policy.Role `json:"role,omitempty"`
	Policy string      `json:"policy,omitempty"` // digest of the policy that decided

	KeySet      string `json:"keySet,omitempty"`
	Card        string `json:"card,omitempty"`   // 16 hex digits of the card's factor
	Device      string `json:"device,omitempty"` // 16 hex digits of a reader's device number
	Purse       string `json:"purse,omitempty"`  // ED or EP
	Transaction string `json:"transaction,omitempty"`
	Settlement  string `json:"settlement,omitempty"`
	Session     string `json:"session,omitempty"` // of a reader's secure module

	Key      *Key   `json:"key,omitempty"`
	Boundary string `json:"boundary,omitempty"`
	// The tac key, where another key answers and a TAC was verified too.
	TACKey      *Key   `json:"tacKey,omitempty"`
	TACBoundary string `json:"tacBoundary,omitempty"`
	Inputs      Inputs `json:"inputs,omitzero"`

	Outcome string     `json:"outcome"`
	Detail  string     `json:"detail,omitempty"`
	MAC2    string     `json:"mac2,omitempty"` // only of an approved request
	MAC1    string     `json:"mac1,omitempty"` // only of an approved purchase: the terminal's
	Settled []Settled  `json:"settled,omitempty"`
	Command string     `json:"command,omitempty"` // the whole APDU that was made; never one that carries a PIN
	Batch   *Batch     `json:"batch,omitempty"`   // only of a batch
	Writes  []KeyWrite `json:"writes,omitempty"`  // of a personalisation, in order
	Change  *Change    `json:"change,omitempty"`  // of what officers decide on
}

// Change is what an entry says of a change request. An approval can be verified from its entry alone: Signature is by OfficerKey, over Bytes, in
// the namespace of custody. Whether the key was the officer's is in the entries before.
type Change struct {
	ID         string `json:"id,omitempty"`
	Act        string `json:"act,omitempty"`
	Bytes      string `json:"bytes,omitempty"`      // exactly what officers sign
	Officer    string `json:"officer,omitempty"`    // of an approval
	OfficerKey string `json:"officerKey,omitempty"` // its SSH key
	Signature  string `json:"signature,omitempty"`  // armoured, as ssh-keygen -Y verify reads it
	Revision   uint64 `json:"revision,omitempty"`   // of the catalogue that it made
	Catalogue  string `json:"catalogue,omitempty"`  // digest of that catalogue
}

// Batch is what one entry says of many TACs. Those that were not verified have entries of their own, just after it.
type Batch struct {
	Items      int        `json:"items"`
	Verified   int        `json:"verified"`
	Mismatched int        `json:"mismatched"`
	Failed     int        `json:"failed"`
	Digest     string     `json:"digest"` // over items and outcomes, in hex; VerifyTacs says over which bytes
	Keys       []BatchKey `json:"keys,omitempty"`
}

// BatchKey is one key of a batch, in the order of its first item.
type BatchKey struct {
	Key
	Boundary string `json:"boundary,omitempty"`
	Items    int    `json:"items"`
}

// Key names a key version.
type Key struct {
	Set     string `json:"set"`
	Kind    string `json:"kind"`
	Version int    `json:"version"`
	KCV     string `json:"kcv"`
}

// KeyWrite is one key that a personalisation put on a card or into a reader's module: the master that it was derived from. The
// command is not here: under the control key it is the card's key.
type KeyWrite struct {
	Key       Key    `json:"key"`
	Boundary  string `json:"boundary"`
	Challenge string `json:"challenge,omitempty"` // "" of a plan, which signs nothing
}

// Inputs are the values that a replay computes from, in upper-case hex where the card sends bytes.
type Inputs struct {
	Initialize string `json:"initialize,omitempty"` // the INITIALIZE answer as received
	AmountFen  uint64 `json:"amountFen,omitempty"`  // of an overdraft the new limit
	Terminal   string `json:"terminal,omitempty"`
	Date       string `json:"date,omitempty"`
	Time       string `json:"time,omitempty"`
	TAC        string `json:"tac,omitempty"`
	MAC3       string `json:"mac3,omitempty"`

	// What VerifyTac and VerifyTacs compute from, beside the above. A balance or a limit of 0 is left out: the type tells whether
	// there is one.
	Item           int    `json:"item,omitempty"`       // its place in its batch, from 1
	KeyVersion     int    `json:"keyVersion,omitempty"` // the KVER that the card answered; the entry's key is the TAC key
	Type           string `json:"type,omitempty"`       // TTI, two hex digits
	TerminalSerial string `json:"terminalSerial,omitempty"`
	Counter        string `json:"counter,omitempty"`
	BalanceFen     uint64 `json:"balanceFen,omitempty"`
	OldLimitFen    uint64 `json:"oldLimitFen,omitempty"`
	NewLimitFen    uint64 `json:"newLimitFen,omitempty"`

	// What SignCommand and AuthenticateCard compute from. A PIN has no place here.
	Command    string `json:"command,omitempty"` // its name in EPURSE.md §6
	KeyID      string `json:"keyId,omitempty"`
	Challenge  string `json:"challenge,omitempty"`
	Data       string `json:"data,omitempty"`       // of an update, before encryption
	Cryptogram string `json:"cryptogram,omitempty"` // that a card answered

	// Of a purchase, beside the above.
	MAC2 string `json:"mac2,omitempty"` // that the card answered

	// Of a reader's session. Data is in none of them: a frame is known by its number, its length, and a hash of its MAC.
	Device          string `json:"device,omitempty"`
	HostChallenge   string `json:"hostChallenge,omitempty"`
	DeviceChallenge string `json:"deviceChallenge,omitempty"`
	DeviceProof     string `json:"deviceProof,omitempty"`
	Sequence        uint32 `json:"sequence,omitempty"`
	Length          int    `json:"length,omitempty"`
	Last            bool   `json:"last,omitempty"`
	FrameDigest     string `json:"frameDigest,omitempty"` // SHA-256 over the frame's MAC, the leftmost eight bytes
}

// Settled is what an answer proved about an earlier transaction.
type Settled struct {
	Transaction string `json:"transaction"`
	Outcome     string `json:"outcome"`
	Evidence    string `json:"evidence"`
}

// MaxSize is the most bytes that an entry's encoding may have: a bundle of the sealed log writes its length in two bytes.
const MaxSize = 1<<16 - 1

// ErrNotCanonical is the error of bytes that mean an entry and are not its encoding.
var ErrNotCanonical = errors.New("not the canonical encoding")

// Decode reads what Encode wrote, and nothing else: another version, an unknown field, something after the entry, and any other
// way to write the same entry are errors.
func Decode(line []byte) (e Entry, err error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&e)
	var version struct {
		Version int `json:"v"`
	}
	if err != nil && json.Unmarshal(line, &version) == nil {
		e.Version = version.Version // one of another version may have fields that this one has not
	}
	if e.Version != Version && (err == nil || version.Version != 0) {
		return Entry{}, fmt.Errorf("audit entry: version %d, expected %d", e.Version, Version)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("audit entry: %w", err)
	}
	if same, err := e.Encode(); err != nil {
		return Entry{}, err
	} else if !bytes.Equal(same, line) {
		return Entry{}, fmt.Errorf("audit entry: %w", ErrNotCanonical)
	}
	return e, nil
}
