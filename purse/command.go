package purse

import "github.com/pursekeeper/pursekeeper/crypto/suite"

// KeyKind names a kind of key as the rows of EPURSE.md §1 do, such as "pin-unblock".
type KeyKind string

// The kinds of EPURSE.md §1.
const (
	KeyPurchase     KeyKind = "purchase"
	KeyLoad         KeyKind = "load"
	KeyUnload       KeyKind = "unload"
	KeyOverdraft    KeyKind = "overdraft"
	KeyTAC          KeyKind = "tac"
	KeyPINUnblock   KeyKind = "pin-unblock"
	KeyPINReload    KeyKind = "pin-reload"
	KeyMaintenance  KeyKind = "maintenance"
	KeyControl      KeyKind = "control"
	KeyInternalAuth KeyKind = "internal-auth"
)

// The kinds of a reader's secure module, which WRITE KEY puts there as it does a card's. EPURSE.md has no rows for them.
const (
	KeyReader        KeyKind = "reader"
	KeyReaderControl KeyKind = "reader-control"
)

// KeyKinds returns every kind once, in the order of EPURSE.md §1, the reader's after them.
func KeyKinds() []KeyKind {
	return []KeyKind{
		KeyPurchase, KeyLoad, KeyUnload, KeyOverdraft, KeyTAC,
		KeyPINUnblock, KeyPINReload, KeyMaintenance, KeyControl, KeyInternalAuth,
		KeyReader, KeyReaderControl,
	}
}

// OfModule reports whether the kind goes into a reader's secure module; every other goes on a card.
func (k KeyKind) OfModule() bool { return k == KeyReader || k == KeyReaderControl }

// Control is the kind of key under which WRITE KEY puts k where it belongs.
func (k KeyKind) Control() KeyKind {
	if k.OfModule() {
		return KeyReaderControl
	}
	return KeyControl
}

// Command is one command of EPURSE.md §6 that goes to the card under a key of the card.
type Command interface {
	Name() string     // as in §6, such as "CARD BLOCK"
	Key() KeyKind     // the key that it goes under
	CarriesPIN() bool // whether a PIN is in it, clear or encrypted: its record leaves the PIN out
}

// SecureCommand is a command under secure messaging: every one but RELOAD PIN.
type SecureCommand interface {
	Command

	// Build makes the APDU. challenge is what the card answered to GET CHALLENGE, as long as the profile says, and m the
	// card's key of the kind Key.
	Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error)
}

// CardBlock is CARD BLOCK: the whole card, for ever.
type CardBlock struct{}

// Name is "CARD BLOCK".
func (CardBlock) Name() string { return "CARD BLOCK" }

// Key is the maintenance key.
func (CardBlock) Key() KeyKind { return KeyMaintenance }

// CarriesPIN is false.
func (CardBlock) CarriesPIN() bool { return false }

// Build makes the APDU.
//
//	84 16 00 00 04 MAC(4)
func (CardBlock) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	return seal(APDU{CLA: claPurseSecure, INS: insCardBlock}, profile, challenge, m)
}

// ApplicationUnblock is APPLICATION UNBLOCK: it ends a block that is not permanent.
type ApplicationUnblock struct{}

// Name is "APPLICATION UNBLOCK".
func (ApplicationUnblock) Name() string { return "APPLICATION UNBLOCK" }

// Key is the maintenance key.
func (ApplicationUnblock) Key() KeyKind { return KeyMaintenance }

// CarriesPIN is false.
func (ApplicationUnblock) CarriesPIN() bool { return false }

// Build makes the APDU.
//
//	84 18 00 00 04 MAC(4)
func (ApplicationUnblock) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	return seal(APDU{CLA: claPurseSecure, INS: insUnblock}, profile, challenge, m)
}

// ApplicationBlock is APPLICATION BLOCK; a permanent one cannot be undone.
type ApplicationBlock struct{ Permanent bool }

// Name is "APPLICATION BLOCK".
func (ApplicationBlock) Name() string { return "APPLICATION BLOCK" }

// Key is the maintenance key.
func (ApplicationBlock) Key() KeyKind { return KeyMaintenance }

// CarriesPIN is false.
func (ApplicationBlock) CarriesPIN() bool { return false }

// Build makes the APDU; its P1 is the profile's, P2 01 is permanent.
//
//	84 1E 00 00|01 04 MAC(4)
func (c ApplicationBlock) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	a := APDU{CLA: claPurseSecure, INS: insBlock, P1: profile.ApplicationBlockP1(m.Algorithm())}
	if c.Permanent {
		a.P2 = 0x01
	}
	return seal(a, profile, challenge, m)
}

// PINUnblock is PIN UNBLOCK PIN 解锁: it gives the card's PIN its tries back.
type PINUnblock struct{ PIN PIN }

// Name is "PIN UNBLOCK".
func (PINUnblock) Name() string { return "PIN UNBLOCK" }

// Key is the pin-unblock key.
func (PINUnblock) Key() KeyKind { return KeyPINUnblock }

// CarriesPIN is true.
func (PINUnblock) CarriesPIN() bool { return true }

// Build makes the APDU in the profile's form. The form "MAC only" carries no PIN and refuses one.
//
//	84 24 00 01 Lc enc(LEN(1) PIN) MAC(4)      encrypted
//	84 24 id 00 Lc enc(LEN(1) PIN) MAC(4)      P1 key id
//	84 24 00 01 04 MAC(4)                      MAC only
func (c PINUnblock) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	p1, p2 := profile.PINUnblockParameters()
	a := APDU{CLA: claPurseSecure, INS: insPINUnblock, P1: p1, P2: p2}
	if !profile.PINUnblockEncrypted() {
		if c.PIN.check() == nil {
			return APDU{}, fieldErrorf(pinField, "the card profile's PIN UNBLOCK carries none")
		}
		return seal(a, profile, challenge, m)
	}
	if err := c.PIN.check(); err != nil {
		return APDU{}, err
	}
	var err error
	if a.Data, err = profile.encrypt(m, c.PIN.Reveal("to encrypt it for PIN UNBLOCK")); err != nil {
		return APDU{}, err
	}
	return seal(a, profile, challenge, m)
}

// ReloadPIN is RELOAD PIN PIN 重装: it gives the card a new PIN, in the clear.
type ReloadPIN struct{ PIN PIN }

// Name is "RELOAD PIN".
func (ReloadPIN) Name() string { return "RELOAD PIN" }

// Key is the pin-reload key, its halves folded in the 3DES suite.
func (ReloadPIN) Key() KeyKind { return KeyPINReload }

// CarriesPIN is true.
func (ReloadPIN) CarriesPIN() bool { return true }

// Build makes the APDU. Its MAC has no challenge; it covers the PIN bytes, or the header and Lc too where the profile says so.
//
//	80 5E 00 00 Lc PIN MAC(4)
func (c ReloadPIN) Build(profile Profile, m MACer) (APDU, error) {
	if err := c.PIN.check(); err != nil {
		return APDU{}, err
	}
	a := APDU{CLA: claPurse, INS: insReloadPIN}
	pin := c.PIN.Reveal("to send it in RELOAD PIN")
	covered := profile.ReloadCovered(a, pin)
	defer clear(covered)
	mac, err := m.MAC(covered)
	if err != nil {
		return APDU{}, err
	}
	a.Data = append(append(make([]byte, 0, len(pin)+macLen), pin...), mac[:]...)
	return a, nil
}

// ReloadCovered is what the MAC of RELOAD PIN covers under the profile, in fresh memory that the caller wipes.
//
//	PIN, or CLA INS P1 P2 Lc PIN
func (p Profile) ReloadCovered(a APDU, pin []byte) []byte {
	if p.reloadHeader {
		return macHeader(a, pin)
	}
	return append([]byte(nil), pin...)
}

// UpdateBinary is UPDATE BINARY of a transparent file; P1 and P2 choose the file and the offset.
type UpdateBinary struct {
	P1, P2 byte
	Data   []byte
}

// Name is "UPDATE BINARY".
func (UpdateBinary) Name() string { return "UPDATE BINARY" }

// Key is the maintenance key.
func (UpdateBinary) Key() KeyKind { return KeyMaintenance }

// CarriesPIN is false.
func (UpdateBinary) CarriesPIN() bool { return false }

// Build makes the APDU; the profile says whether the data is encrypted, and the class stays 04 either way.
//
//	04 D6 P1 P2 Lc DATA|enc(LEN(1) DATA) MAC(4)
func (c UpdateBinary) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	return buildUpdate(APDU{CLA: claISOSecure, INS: insUpdateBinary, P1: c.P1, P2: c.P2}, c.Data, profile, challenge, m)
}

// UpdateRecord is UPDATE RECORD; P1 is the record's number and P2 chooses the file.
type UpdateRecord struct {
	P1, P2 byte
	Data   []byte
}

// Name is "UPDATE RECORD".
func (UpdateRecord) Name() string { return "UPDATE RECORD" }

// Key is the maintenance key.
func (UpdateRecord) Key() KeyKind { return KeyMaintenance }

// CarriesPIN is false.
func (UpdateRecord) CarriesPIN() bool { return false }

// Build makes the APDU, as UpdateBinary.Build does.
//
//	04 DC P1 P2 Lc DATA|enc(LEN(1) DATA) MAC(4)
func (c UpdateRecord) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	return buildUpdate(APDU{CLA: claISOSecure, INS: insUpdateRecord, P1: c.P1, P2: c.P2}, c.Data, profile, challenge, m)
}

func buildUpdate(a APDU, data []byte, profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	if err := checkData(data, maxSecureData); err != nil {
		return APDU{}, err
	}
	a.Data = data
	if profile.updateEncrypted {
		var err error
		if a.Data, err = profile.encrypt(m, data); err != nil {
			return APDU{}, err
		}
	}
	return seal(a, profile, challenge, m)
}

// Revealer holds 16 secret bytes in a memory of its own; internal/secret's Bytes is one.
type Revealer interface {
	// Reveal returns the bytes; why names the use.
	Reveal(why string) []byte
}

// WriteKey is WRITE KEY: it puts a diversified key into the card under the card's control key.
type WriteKey struct {
	Row      KeyRow   // P1, P2 and header: the profile's row of the key's kind, Profile.KeyRow
	KeyValue Revealer // 16 bytes, wiped by the caller after Build
}

// Name is "WRITE KEY".
func (WriteKey) Name() string { return "WRITE KEY" }

// Key is the control key.
func (WriteKey) Key() KeyKind { return KeyControl }

// CarriesPIN is false.
func (WriteKey) CarriesPIN() bool { return false }

// Build makes the APDU.
//
//	84 D4 P1 P2 Lc enc(LEN(1) HEADER(4) KEY(16)) MAC(4)
func (c WriteKey) Build(profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	if c.KeyValue == nil {
		return APDU{}, fieldErrorf("key", "missing")
	}
	key := c.KeyValue.Reveal("to encrypt it for WRITE KEY")
	if err := wantLen("key", key, suite.KeySize); err != nil {
		return APDU{}, err
	}
	data, err := profile.encrypt(m, c.Row.Header[:], key)
	if err != nil {
		return APDU{}, err
	}
	return seal(APDU{CLA: claPurseSecure, INS: insWriteKey, P1: c.Row.P1, P2: c.Row.P2, Data: data}, profile, challenge, m)
}
