package keyderive

import "fmt"

// Kind is what a master key is for: the rows of EPURSE.md §1, and the kinds of a reader's secure module. The zero value is
// invalid.
type Kind uint8

// The kinds, in the order of EPURSE.md §1; the reader's after them.
const (
	KindPurchase Kind = iota + 1
	KindLoad
	KindUnload
	KindOverdraft
	KindTAC
	KindPINUnblock
	KindPINReload
	KindMaintenance
	KindControl
	KindInternalAuth

	// Kinds of a reader's secure module, diversified by its device number. EPURSE.md has no rows for them.
	KindReader        // mutual authentication and line protection
	KindReaderControl // WRITE KEY of the module
)

var kindNames = [...]string{
	KindPurchase:     "purchase",
	KindLoad:         "load",
	KindUnload:       "unload",
	KindOverdraft:    "overdraft",
	KindTAC:          "tac",
	KindPINUnblock:   "pin-unblock",
	KindPINReload:    "pin-reload",
	KindMaintenance:  "maintenance",
	KindControl:      "control",
	KindInternalAuth: "internal-auth",

	KindReader:        "reader",
	KindReaderControl: "reader-control",
}

// Kinds returns every kind once.
func Kinds() []Kind {
	kinds := make([]Kind, 0, len(kindNames)-1)
	for k := KindPurchase; int(k) < len(kindNames); k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// Valid reports whether k is one of Kinds.
func (k Kind) Valid() bool { return k >= KindPurchase && int(k) < len(kindNames) }

// String is the name used in configuration and vectors, such as "pin-unblock".
func (k Kind) String() string {
	if k.Valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("invalid kind %d", uint8(k))
}

// ParseKind reads the names that String writes.
func ParseKind(name string) (Kind, error) {
	for _, k := range Kinds() {
		if kindNames[k] == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("key kind %q: expected one of %v", name, Kinds())
}

// MarshalText writes the name; the zero value is an error.
func (k Kind) MarshalText() ([]byte, error) {
	if !k.Valid() {
		return nil, fmt.Errorf("%v", k)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the name.
func (k *Kind) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKind(string(text))
	return err
}

// Derives reports whether cards, or readers, use the kind only to derive session keys, so that a token needs to give the card key no
// right but derivation and no operation ever answers an ECB block under it.
func (k Kind) Derives() bool {
	return k == KindPurchase || k == KindLoad || k == KindUnload || k == KindOverdraft || k == KindReader
}

// Folds reports whether the 3DES suite uses the XOR of the card key's halves (EPURSE.md §4, §6): the kinds that need the
// CARD boundary on a token without key-XOR-key derivation.
func (k Kind) Folds() bool { return k == KindTAC || k == KindPINReload }
