package softcard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Options is a card to be personalised.
type Options struct {
	Algorithm suite.Algorithm
	Profile   purse.Profile
	ALG       purse.ALG // the byte that the card answers; the profile must accept it
	Serial    string    // application serial number, 1 to 20 hex digits; spaces allowed
	IssuerID  [8]byte   // in the public data; no key is derived from it here
	AID       []byte    // 5 to 16 bytes; nil is DefaultAID

	// Keys are the card's own keys, diversified already: see Diversify. A kind that is missing refuses its commands with
	// 9403.
	Keys map[purse.KeyKind][]Key

	ED, EP Account

	PIN        purse.PIN // the zero PIN is none: VERIFY answers 6985
	RequirePIN bool      // loads, unloads and everything of ED wait for VERIFY, else 6985

	// Binaries are transparent files and Records record files, by short file identifier 01 to 1E; 15 (public data) and 18
	// (the log) are the card's own.
	Binaries map[byte][]byte
	Records  map[byte][][]byte

	Random io.Reader // R and challenges come from here; required
}

// Account is one purse as it begins.
type Account struct {
	Balance   purse.Fen   // with the overdraft limit in it, as the card answers it
	Overdraft purse.Limit // ED alone has one
	Online    purse.Counter
	Offline   purse.Counter
}

// Key is one card key.
type Key struct {
	Index   byte       // KI; 0 is the profile's key index
	Version purse.KVER // what the card answers
	Value   KeyValue
}

// KeyValue is the 16 bytes of a card key. It is a test key, and prints as "[redacted]" all the same.
type KeyValue [suite.KeySize]byte

const redacted = "[redacted]"

// Format prints "[redacted]" under every verb.
func (KeyValue) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText is "[redacted]".
func (KeyValue) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue is "[redacted]".
func (KeyValue) LogValue() slog.Value { return slog.StringValue(redacted) }

// DefaultAID is the name of the application when Options gives none: the one in common use for the passbook and purse, for
// EPURSE.md gives none.
func DefaultAID() []byte { return []byte{0xA0, 0x00, 0x00, 0x00, 0x03, 0x86, 0x98, 0x07, 0x01} }

const (
	pinTries     = 3
	controlTries = 3
	maxRecord    = 255
	publicFile   = 0x15
	publicLen    = 30
	logFile      = 0x18
	maxSFI       = 0x1E
	serialDigits = 20
)

// Personalise makes a card.
func Personalise(o Options) (*Card, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	serial := strings.ReplaceAll(o.Serial, " ", "")
	serial = strings.Repeat("0", serialDigits-len(serial)) + serial
	digits, err := purse.ParseHex("cardSerial", serial, serialDigits/2)
	if err != nil {
		return nil, err
	}
	s := &state{
		Format: snapshotFormat, keyring: keyring{Algorithm: o.Algorithm}, Profile: o.Profile.File(), ALG: byte(o.ALG), AID: o.AID, RequirePIN: o.RequirePIN,
		ED: account(o.ED), EP: account(o.EP), PINTries: pinTries, ControlTries: controlTries,
		Proves: make(map[purse.TTI]prove), Binaries: make(map[byte]hexBytes), Records: make(map[byte][]hexBytes),
	}
	if o.AID == nil {
		s.AID = DefaultAID()
	}
	s.PIN = append(hexBytes(nil), o.PIN.Reveal("to keep it in the card")...)
	for _, kind := range purse.KeyKinds() {
		for _, key := range o.Keys[kind] {
			if key.Index == 0 {
				key.Index = o.Profile.KeyIndex()
			}
			s.Keys = append(s.Keys, storedKey{kind, key.Index, key.Version, append(hexBytes(nil), key.Value[:]...)})
		}
	}
	for sfi, content := range o.Binaries {
		s.Binaries[sfi] = append(hexBytes(nil), content...)
	}
	s.Binaries[publicFile] = publicData(o.IssuerID, digits)
	for sfi, records := range o.Records {
		for _, record := range records {
			s.Records[sfi] = append(s.Records[sfi], append(hexBytes(nil), record...))
		}
	}
	return newCard(s, o.Profile, o.Random), nil
}

func (o Options) check() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf("softcard: "+format, args...)) }
	if !o.Algorithm.Valid() {
		refuse("algorithm: %v", o.Algorithm)
	}
	if o.Profile.Name() == "" {
		refuse("profile: missing")
	}
	if !o.Profile.AcceptsALG(o.ALG) {
		refuse("alg: card profile %v does not accept %02X", o.Profile, byte(o.ALG))
	}
	if _, err := purse.ParseCardSerial(o.Serial); err != nil {
		refuse("%w", err)
	}
	if n := len(o.AID); o.AID != nil && (n < 5 || n > 16) {
		refuse("aid: %d bytes, expected 5 to 16", n)
	}
	if o.Random == nil {
		refuse("random: missing")
	}
	if o.EP.Overdraft != 0 || o.ED.Overdraft > purse.MaxLimit {
		refuse("overdraft: only ED has a limit, of three bytes")
	}
	for kind, keys := range o.Keys {
		if !goesOnCard(kind) {
			refuse("keys: unknown kind %q", string(kind))
		}
		seen := make(map[byte]bool)
		for _, key := range keys {
			if seen[key.Index] {
				refuse("keys: two %v keys with index %02X", kind, key.Index)
			}
			seen[key.Index] = true
		}
	}
	for sfi, content := range o.Binaries {
		if !userFile(sfi) || len(content) == 0 || len(content) > maxRecord {
			refuse("binaries: file %02X of %d bytes", sfi, len(content))
		}
	}
	for sfi, records := range o.Records {
		if _, twice := o.Binaries[sfi]; twice || !userFile(sfi) {
			refuse("records: file %02X", sfi)
		}
		for i, record := range records {
			if len(record) == 0 || len(record) > maxRecord {
				refuse("records: file %02X, record %d of %d bytes", sfi, i+1, len(record))
			}
		}
	}
	return errors.Join(wrong...)
}

// goesOnCard reports whether a card has keys of the kind.
func goesOnCard(kind purse.KeyKind) bool {
	return slices.Contains(purse.KeyKinds(), kind) && !kind.OfModule()
}

func userFile(sfi byte) bool { return sfi >= 1 && sfi <= maxSFI && sfi != publicFile && sfi != logFile }

// publicData is file 15, the public data of the application; EPURSE.md does not draw it, this is the form in common use.
//
//	issuer(8) type(1) version(1) serial(10) begin(4) end(4) own(2)      30 bytes
func publicData(issuer [8]byte, serial []byte) hexBytes {
	b := append(hexBytes(nil), issuer[:]...)
	b = append(b, 0x03, 0x01) // both purses; the first version
	b = append(b, serial...)
	b = append(b, 0x20, 0x24, 0x01, 0x01, 0x20, 0x49, 0x12, 0x31)
	return append(b, 0x00, 0x00)
}
