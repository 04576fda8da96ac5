package custody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Namespace is that of the SSH signatures over a change.
const Namespace = "pursekeeper-change@v1"

// changeFormat is the first member of a change's bytes: nothing else that is signed begins like it.
const changeFormat = "v1"

// Change is a change request as its author proposes it and officers sign it. Its bytes are one line of JSON with the members in this
// order, and empty ones left out; they never change after Propose made them.
type Change struct {
	Format   string     `json:"pursekeeper-change"` // "v1"
	ID       string     `json:"id"`                 // 32 hex digits, random: its name, and what makes it unlike any other
	Act      policy.Act `json:"act"`
	Author   string     `json:"author"`
	Reason   string     `json:"reason"`
	Proposed time.Time  `json:"proposed"`
	Expires  time.Time  `json:"expires"` // it is executed before, or not at all
	Base     string     `json:"base"`    // digest of what it is about, as it was when it was proposed (Catalogue.Base)

	// What is to be changed: the one that the act takes.
	Officer   *OfficerChange   `json:"officer,omitempty"`
	Quorum    *policy.Quorum   `json:"quorum,omitempty"`
	KeySet    *Definition      `json:"keySet,omitempty"`
	Keys      *KeysChange      `json:"keys,omitempty"`
	Transport *TransportChange `json:"transport,omitempty"`
	Backup    *BackupChange    `json:"backup,omitempty"`
	Purse     *PurseChange     `json:"purse,omitempty"`
	Client    *ClientChange    `json:"client,omitempty"`
	Policy    *PolicyChange    `json:"policy,omitempty"`
}

// OfficerChange is what officer.add, officer.remove and officer.replace take.
type OfficerChange struct {
	Name      string `json:"name"`
	Key       string `json:"key,omitempty"`       // not of officer.remove
	Recipient string `json:"recipient,omitempty"` // see Officer
}

// KeysChange is what the acts on keys take: one or several keys of one set.
type KeysChange struct {
	Set  string      `json:"set"`
	Keys []KeyChange `json:"keys"`
	// ActivateAt, of key.create, key.import and key.activate; zero: at once of key.activate, and never by itself of the others.
	ActivateAt time.Time `json:"activateAt,omitzero"`
	Due        time.Time `json:"due,omitzero"` // of key.create and key.import: the end of the cryptoperiod
	// Transport, of key.import from a key block and of key.export: under which transport key.
	Transport string `json:"transport,omitempty"`
	// Without a backup copy: said, never left out by accident (of key.create and key.import).
	WithoutBackup bool `json:"withoutBackup,omitempty"`
}

// KeyChange is one key in a change.
type KeyChange struct {
	Name
	Boundary keyderive.Boundary `json:"boundary,omitzero"` // of key.create and key.import
	KCV      string             `json:"kcv,omitempty"`     // of key.import: expected; of all others but key.create: that the key must have
	// Components is how many XOR components key.import takes, 2 or 3; 0: a key block.
	Components int `json:"components,omitempty"`
	// Custodians are the persons who enter them, in their order; empty: whom the file of the ceremony names.
	Custodians []string `json:"custodians,omitempty"`
}

// TransportChange is what transport.import and transport.destroy take.
type TransportChange struct {
	Name       string `json:"name"`
	Bits       int    `json:"bits,omitempty"` // AES: 128, 192 or 256; 3DES: 112 or 168
	KCV        string `json:"kcv"`
	Components int    `json:"components,omitempty"` // 2 or 3
	// Custodians as of KeyChange.
	Custodians []string `json:"custodians,omitempty"`
}

// BackupChange is what backup.create takes: Threshold shares of one for each of Holders, or Vault's transit key.
type BackupChange struct {
	Threshold int      `json:"threshold,omitempty"`
	Holders   []string `json:"holders,omitempty"` // officers, by name
	Vault     string   `json:"vault,omitempty"`   // the transit key's name
}

// PurseChange is what purse.reset takes.
type PurseChange struct {
	KeySet   string `json:"keySet"`
	Card     string `json:"cardSerial"`
	IssuerID string `json:"issuerId,omitempty"`
	Purse    string `json:"purse"` // ED or EP
}

// ClientChange is what the acts on clients take.
type ClientChange struct {
	Name     string      `json:"name"`
	Identity string      `json:"identity,omitempty"` // this and what follows: of client.add and client.replace
	Role     policy.Role `json:"role,omitempty"`
	KeySets  []string    `json:"keySets,omitempty"` // in order
	// Was is the client before the change; Propose fills it. Not of client.add.
	Was *policy.Client `json:"was,omitempty"`
}

// PolicyChange is what policy.set takes: documents that are new or replaced, documents that go, and the document of limits.
type PolicyChange struct {
	Put    []DocumentChange  `json:"put,omitempty"`    // by name
	Remove []DocumentRemoval `json:"remove,omitempty"` // by name
	Limits *LimitsChange     `json:"limits,omitempty"` // nil: as it is
}

// DocumentChange is one policy document, new or with another text.
type DocumentChange struct {
	Name string `json:"name"` // [a-z0-9][a-z0-9-]{0,62}
	Text string `json:"text"`
	// Was is SHA-256, hex, of the text before the change; "" when there is none. Propose fills it.
	Was string `json:"was,omitempty"`
}

// DocumentRemoval is one policy document that goes.
type DocumentRemoval struct {
	Name string `json:"name"`
	Was  string `json:"was,omitempty"` // as of DocumentChange
}

// LimitsChange is the document of limits: another text, or none from now on.
type LimitsChange struct {
	Text   string `json:"text,omitempty"`
	Remove bool   `json:"remove,omitempty"`
	Was    string `json:"was,omitempty"` // as of DocumentChange
}

// Bounds of a change.
const (
	DefaultLife = 72 * time.Hour
	longestLife = 30 * 24 * time.Hour
	maxReason   = 500      // bytes
	maxDraft    = 60 << 10 // of JSON
	// maxChange bounds a change's bytes as an entry of the record quotes them: it leaves the longest signature, the longest key and all else of
	// the entry their place in audit.MaxSize. TestALargeChangeFitsTheRecord is at the bound.
	maxChange = 48 << 10
)

// Encode writes the bytes that officers sign.
func (c Change) Encode() ([]byte, error) {
	c.Format = changeFormat
	line, err := encode(c)
	if err == nil && len(line) > maxChange/8 {
		var inRecord []byte
		inRecord, err = json.Marshal(string(line))
		if err == nil && len(inRecord) > maxChange {
			err = fmt.Errorf("%d bytes in an entry of the record, expected at most %d: divide it into several changes", len(inRecord), maxChange)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("change: %w", err)
	}
	return line, nil
}

// encode writes one line of JSON in which <, > and & stand for themselves: officers read it, and policies are full of them.
func encode(value any) ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(line.Bytes(), []byte("\n")), err
}

// DecodeDraft reads what an officer proposes: the members act, reason, and what the act takes, as Encode writes them. What the office fills has
// no place in it. Its errors are ErrMalformed.
func DecodeDraft(text []byte) (Change, error) {
	var draft struct {
		Act       policy.Act       `json:"act"`
		Reason    string           `json:"reason"`
		Officer   *OfficerChange   `json:"officer"`
		Quorum    *policy.Quorum   `json:"quorum"`
		KeySet    *Definition      `json:"keySet"`
		Keys      *KeysChange      `json:"keys"`
		Transport *TransportChange `json:"transport"`
		Backup    *BackupChange    `json:"backup"`
		Purse     *PurseChange     `json:"purse"`
		Client    *ClientChange    `json:"client"`
		Policy    *PolicyChange    `json:"policy"`
	}
	if len(text) > maxDraft {
		return Change{}, fmt.Errorf("%w: draft: %d bytes, expected at most %d", ErrMalformed, len(text), maxDraft)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&draft)
	if err == nil && decoder.More() {
		err = errors.New("something follows it")
	}
	if err != nil {
		return Change{}, fmt.Errorf("%w: draft: %w", ErrMalformed, err)
	}
	return Change{
		Act: draft.Act, Reason: draft.Reason, Officer: draft.Officer, Quorum: draft.Quorum, KeySet: draft.KeySet, Keys: draft.Keys,
		Transport: draft.Transport, Backup: draft.Backup, Purse: draft.Purse, Client: draft.Client, Policy: draft.Policy,
	}, nil
}

// DecodeChange reads the bytes of a change, and nothing else that means the same.
func DecodeChange(line []byte) (Change, error) {
	var c Change
	if err := decodeStrictly(line, &c); err != nil {
		return Change{}, fmt.Errorf("change: %w", err)
	}
	if c.Format != changeFormat {
		return Change{}, fmt.Errorf("change: format %q, expected %q", c.Format, changeFormat)
	}
	if again, err := c.Encode(); err != nil || !bytes.Equal(again, line) {
		return Change{}, fmt.Errorf("change: %w", errors.Join(ErrNotCanonical, err))
	}
	if err := c.check(); err != nil {
		return Change{}, err
	}
	return c, nil
}
