package custody

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// catalogueVersion is the version of the document's form.
const catalogueVersion = 2

// Catalogue is all that officers decide on, at one revision. The zero Catalogue has no officers: nothing can be changed in it but by
// `pursekeeper init`.
type Catalogue struct {
	Version    int           `json:"v"`
	Revision   uint64        `json:"revision"` // 1 after init, one more with each change
	Quorum     policy.Quorum `json:"quorum"`
	Officers   []Officer     `json:"officers"` // by name
	KeySets    []KeySet      `json:"keySets,omitempty"`
	Transports []Transport   `json:"transports,omitempty"`
	Backup     *Backup       `json:"backup,omitempty"`
	Rules      policy.Rules  `json:"rules"` // clients and policy documents by name
}

// Officer is one person who proposes and approves. Its name is that of its client certificate's client, too.
type Officer struct {
	Name string `json:"name"`
	// Key is its SSH public key as in authorized_keys, "TYPE BASE64", without a comment.
	Key string `json:"key"`
	// Recipient is where its shares of backups are encrypted to: an age recipient ("age1…"); "" is Key itself.
	Recipient string    `json:"recipient,omitempty"`
	Since     time.Time `json:"since"`
}

// KeySet is one issuer's keys.
type KeySet struct {
	Definition
	Keys []Key `json:"keys,omitempty"` // in the order of their kinds, then versions
	// Changing is the change that a node is at work on in the token; "" almost always. No other change of the set is applied meanwhile.
	Changing string `json:"changing,omitempty"`
}

// Definition is a key set without its keys.
type Definition struct {
	Name      string          `json:"name"` // [a-z0-9][a-z0-9-]{0,62}
	Algorithm suite.Algorithm `json:"algorithm"`
	Profile   string          `json:"profile"` // a shipped card profile's name
	// Issuer is "none", "card" (one level, the card's issuer id), or "fixed" with Factors. "" is what the profile says.
	Issuer           string      `json:"issuer,omitempty"`
	Factors          []string    `json:"factors,omitempty"` // 16 hex digits each, root first
	TimeZone         string      `json:"timeZone"`
	MAC1FailureLimit int         `json:"mac1FailureLimit"`
	TACVersion       map[int]int `json:"tacVersion,omitempty"` // KVER to version of the tac key, where they differ
}

// Name is a key of a set.
type Name struct {
	Kind    keyderive.Kind `json:"kind"`
	Version int            `json:"version"` // the card's KVER, 1 to 255
}

func (n Name) String() string { return fmt.Sprintf("%v %d", n.Kind, n.Version) }

// Key is one master key: where it is, what it must be, and what it may do.
type Key struct {
	Name
	State    KeyState           `json:"state"`
	Boundary keyderive.Boundary `json:"boundary"`
	KCV      CheckValue         `json:"kcv"`
	Label    string             `json:"label"`        // CKA_LABEL: SET/KIND/VERSION
	ID       string             `json:"id,omitempty"` // CKA_ID, hex; "" of a key that was in the token before it had one
	// Origin is how it came to be: "generated", "components", "key-block" or "restored".
	Origin  string    `json:"origin"`
	Created time.Time `json:"created"`
	// ActivateAt is when a pre-active key becomes active by itself, on all nodes; zero: only by a change.
	ActivateAt time.Time `json:"activateAt,omitzero"`
	// Due is the end of its cryptoperiod; zero: none is set. It changes nothing by itself; `pursekeeper key due` lists it.
	Due time.Time `json:"due,omitzero"`
	// Wrapped is its copy under the backup key, hex; "" when there is none.
	Wrapped string `json:"wrapped,omitempty"`
	// Changed is the id of the change that made it what it is.
	Changed string `json:"changed"`
}

// CheckValue is a check value with what it was computed by.
type CheckValue struct {
	Value     string `json:"value"`     // upper-case hex
	Algorithm string `json:"algorithm"` // "3DES", "SM4", "AES-CMAC": E(0) of the first two
}

// CheckValueOf makes the check value of a master.
func CheckValueOf(alg suite.Algorithm, v kcv.Value) CheckValue {
	return CheckValue{Value: v.String(), Algorithm: alg.String()}
}

// At is the state of the key at a time: a pre-active one whose time has come is active.
func (k Key) At(now time.Time) KeyState {
	if k.State == PreActive && !k.ActivateAt.IsZero() && !now.Before(k.ActivateAt) {
		return Active
	}
	return k.State
}

// Transport is a key that key blocks are wrapped under (X9.143).
type Transport struct {
	Name    string     `json:"name"`
	Bits    int        `json:"bits"`
	KCV     CheckValue `json:"kcv"`
	Label   string     `json:"label"`
	Created time.Time  `json:"created"`
	Changed string     `json:"changed"`
}

// Backup is the key that masters' copies are wrapped under, and how it comes back when the token is lost.
type Backup struct {
	KCV       CheckValue `json:"kcv"`
	Label     string     `json:"label"`
	Threshold int        `json:"threshold,omitempty"` // shares that bring it back
	// Shares are encrypted, one to each officer; of Vault there is one, by transit.
	Shares []Share `json:"shares"`
	// Recipient is what backup files are sealed to: the public half of a key that the shares make, 64 hex digits (custody/escrow).
	Recipient string    `json:"recipient,omitempty"`
	Created   time.Time `json:"created"`
	Changed   string    `json:"changed"`
}

// Share is one encrypted share.
type Share struct {
	Holder     string `json:"holder"`     // the officer, or "vault"
	Recipient  string `json:"recipient"`  // that it is encrypted to; of Vault the transit key's name
	Ciphertext string `json:"ciphertext"` // armoured age file, or Vault's ciphertext
}

// Encode writes the catalogue as one line of JSON, canonically.
func (c Catalogue) Encode() ([]byte, error) {
	c.Version = catalogueVersion
	return encode(c)
}

// Digest identifies the catalogue in the record: SHA-256 over its encoding, in hex.
func (c Catalogue) Digest() (string, error) {
	line, err := c.Encode()
	if err != nil {
		return "", err
	}
	return digest(line), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ErrNotCanonical is the error of bytes that mean a catalogue or a change and are not its encoding.
var ErrNotCanonical = errors.New("not the canonical encoding")

// DecodeCatalogue reads what Encode wrote, and nothing else.
func DecodeCatalogue(line []byte) (Catalogue, error) {
	var c Catalogue
	if err := decodeStrictly(line, &c); err != nil {
		return Catalogue{}, fmt.Errorf("catalogue: %w", err)
	}
	if c.Version != catalogueVersion {
		return Catalogue{}, fmt.Errorf("catalogue: version %d, expected %d", c.Version, catalogueVersion)
	}
	if again, err := c.Encode(); err != nil || !bytes.Equal(again, line) {
		return Catalogue{}, fmt.Errorf("catalogue: %w", errors.Join(ErrNotCanonical, err))
	}
	return c, nil
}

func decodeStrictly(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// Officer finds an officer by name.
func (c *Catalogue) Officer(name string) (Officer, bool) {
	i := slices.IndexFunc(c.Officers, func(o Officer) bool { return o.Name == name })
	if i < 0 {
		return Officer{}, false
	}
	return c.Officers[i], true
}

// KeySet finds a key set by name; nil when there is none.
func (c *Catalogue) KeySet(name string) *KeySet {
	i := slices.IndexFunc(c.KeySets, func(s KeySet) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &c.KeySets[i]
}

// Key finds a key of the set; nil when there is none.
func (s *KeySet) Key(name Name) *Key {
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Keys[i]
}

// Newest is the highest version of a kind, in any state; 0 when there is none.
func (s *KeySet) Newest(kind keyderive.Kind) (version int) {
	for _, k := range s.Keys {
		if k.Kind == kind {
			version = max(version, k.Version)
		}
	}
	return version
}

// clone is a copy that shares nothing with c.
func (c Catalogue) clone() Catalogue {
	line, err := c.Encode()
	if err == nil {
		c, err = DecodeCatalogue(line)
	}
	if err != nil {
		panic(err) // a catalogue that was decoded, or made by Apply, can be encoded; a decision's panic is that decision's failure
	}
	return c
}
