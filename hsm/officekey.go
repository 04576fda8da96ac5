package hsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
)

// OfficeKey is a key of this package's own that a catalogue has: the backup key, or a transport key.
type OfficeKey struct {
	Label string    // "pursekeeper/backup/NAME" or "pursekeeper/transport/NAME"
	KCV   kcv.Value // of a backup key; that of a transport key is compared at each use
}

// CompareOffice is Compare for the keys of this package's own: those that the catalogue has, and any other backup key, transport key or key
// with a reserved label. Whoever is logged in opens the blocks of a transport key that was left behind, and copies are made under a
// backup key that somebody put in the place of the right one.
func (v Inventory) CompareOffice(keys []OfficeKey) (differences []Difference) {
	held := map[string][]Object{}
	for _, o := range v.Objects {
		if o.Kind == ObjectBackup || o.Kind == ObjectTransport || o.Kind == ObjectOther {
			held[o.Label] = append(held[o.Label], o)
		}
	}
	for _, key := range keys {
		differences = append(differences, v.compareOfficeKey(key, held[key.Label])...)
		delete(held, key.Label)
	}
	for label, objects := range held {
		differences = append(differences, Difference{DifferenceExtra, label, "the catalogue has none; the token has " + describeAll(objects)})
	}
	slices.SortStableFunc(differences, func(a, b Difference) int { return strings.Compare(a.Label, b.Label) })
	return differences
}

func (v Inventory) compareOfficeKey(key OfficeKey, objects []Object) (differences []Difference) {
	add := func(kind DifferenceKind, format string, values ...any) {
		differences = append(differences, Difference{kind, key.Label, fmt.Sprintf(format, values...)})
	}
	switch len(objects) {
	case 0:
		add(DifferenceMissing, "the token has no such object")
		return differences
	case 1:
	default:
		add(DifferenceDoubled, "the token has %d: %s", len(objects), describeAll(objects))
		return differences
	}
	o := objects[0]
	if o.Kind != ObjectBackup {
		return nil
	}
	if o.KeyType != pkcs11.CKK_AES {
		add(DifferenceAttributes, "CKA_KEY_TYPE is %#x, expected %#x", o.KeyType, uint(pkcs11.CKK_AES))
	}
	for _, wrong := range o.wrongFlags(slices.Concat(protection, rightsOf(v.profile.wrapRight()))) {
		add(DifferenceAttributes, "%s", wrong)
	}
	switch {
	case !o.HasKCV:
		add(DifferenceValue, "it cannot be had: %s", o.Problem)
	case o.KCV != key.KCV:
		add(DifferenceValue, "%v, expected %v", o.KCV, key.KCV)
	}
	return differences
}

// wrongFlags names the attributes that are not as they must be.
func (o Object) wrongFlags(expectations []expectation) (wrong []string) {
	for _, expected := range expectations {
		set, known := o.flags[expected.kind]
		if !known && expected.optional {
			continue
		}
		if !known || set != expected.want {
			wrong = append(wrong, fmt.Sprintf("%s is not %t", expected.name, expected.want))
		}
	}
	return wrong
}
