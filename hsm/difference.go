package hsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// DifferenceKind is how a catalogue and a token differ. The zero value is invalid.
type DifferenceKind uint8

// The kinds.
const (
	DifferenceMissing    DifferenceKind = iota + 1 // the catalogue has a key that the token has not
	DifferenceExtra                                // the token has a key that the catalogue has not
	DifferenceDoubled                              // the token has several objects with one label, or one id
	DifferenceAttributes                           // the object is less protected than it must be, may do more, or is another kind of object
	DifferenceValue                                // the object is another key: its check value is not the catalogue's, or cannot be had
	DifferenceSameValue                            // two keys of one algorithm have one check value
)

var differenceKinds = [...]string{DifferenceMissing: "missing", DifferenceExtra: "extra", DifferenceDoubled: "doubled",
	DifferenceAttributes: "attributes", DifferenceValue: "check value", DifferenceSameValue: "same check value"}

// String names the kind in reports.
func (k DifferenceKind) String() string {
	if k >= DifferenceMissing && int(k) < len(differenceKinds) {
		return differenceKinds[k]
	}
	return fmt.Sprintf("invalid difference %d", uint8(k))
}

// Difference is one of them.
type Difference struct {
	Kind   DifferenceKind
	Label  string
	Detail string // a sentence for the operator
}

// String is one line of a report.
func (d Difference) String() string { return fmt.Sprintf("%v: key %q: %s", d.Kind, d.Label, d.Detail) }

// Compare names every difference between a catalogue's keys that should be in the token and what is there, in the order of labels. The
// objects of this package's own, such as backup keys, are CompareOffice's. Duplicates finds what Compare
// does not: equal check values.
func (v Inventory) Compare(specs []KeySpec) (differences []Difference) {
	held := map[string][]Object{}
	for _, o := range v.Objects {
		if o.Kind <= ObjectSealed {
			held[o.Label] = append(held[o.Label], o)
		}
	}
	wanted := map[string]bool{}
	for _, spec := range specs {
		wanted[spec.Label] = true
		differences = append(differences, v.compareKey(spec, held[spec.Label])...)
	}
	for label, objects := range held {
		if !wanted[label] {
			differences = append(differences, Difference{DifferenceExtra, label, fmt.Sprintf("the catalogue has none; the token has %s", describeAll(objects))})
		}
	}
	differences = append(differences, v.sameID()...)
	slices.SortStableFunc(differences, func(a, b Difference) int { return strings.Compare(a.Label, b.Label) })
	return differences
}

func describeAll(objects []Object) string {
	var list []string
	for _, o := range objects {
		text := fmt.Sprintf("a %v, id %v", o.Kind, o.ID)
		if o.HasKCV {
			text += fmt.Sprintf(", check value %v", o.KCV)
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}

// compareKey holds the objects of one label against the one that the catalogue has.
func (v Inventory) compareKey(spec KeySpec, objects []Object) (differences []Difference) {
	add := func(kind DifferenceKind, format string, values ...any) {
		differences = append(differences, Difference{kind, spec.Label, fmt.Sprintf(format, values...)})
	}
	switch len(objects) {
	case 0:
		add(DifferenceMissing, "the token has no such object, expected id %v, check value %v", spec.ID, spec.KCV)
		return differences
	case 1:
	default:
		add(DifferenceDoubled, "the token has %d: %s", len(objects), describeAll(objects))
		return differences
	}
	o := objects[0]
	if (o.Kind == ObjectSealed) != (spec.Boundary == keyderive.BoundaryProcess) {
		add(DifferenceAttributes, "it is a %v, and the boundary is %v", o.Kind, spec.Boundary)
	} else {
		for _, wrong := range v.wrongAttributes(&spec, o) {
			add(DifferenceAttributes, "%s", wrong)
		}
	}
	if spec.ID != (ObjectID{}) && o.ID != spec.ID {
		add(DifferenceAttributes, "it has the id %v, expected %v", o.ID, spec.ID)
	}
	switch {
	case !o.HasKCV:
		add(DifferenceValue, "it cannot be had: %s", o.Problem)
	case o.KCV != spec.KCV || o.Algorithm != spec.Algorithm:
		add(DifferenceValue, "%v of %v, expected %v of %v", o.KCV, o.Algorithm, spec.KCV, spec.Algorithm)
	}
	return differences
}

// wrongAttributes is checkAttributes over what was read.
func (v Inventory) wrongAttributes(spec *KeySpec, o Object) (wrong []string) {
	expectations := slices.Concat(protection, rightsOf(spec.masterRight(v.profile)))
	if o.Kind == ObjectSealed {
		expectations = dataProtection
	} else if d, err := v.profile.dialect(spec.Algorithm); err != nil {
		wrong = append(wrong, err.Error())
	} else if o.KeyType != d.keyType {
		wrong = append(wrong, fmt.Sprintf("CKA_KEY_TYPE is %#x, expected %#x", o.KeyType, d.keyType))
	}
	return append(wrong, o.wrongFlags(expectations)...)
}

// sameID finds objects that have one id under several labels.
func (v Inventory) sameID() (differences []Difference) {
	first := map[ObjectID]string{}
	for _, o := range v.Objects {
		if o.ID == (ObjectID{}) {
			continue
		}
		label, seen := first[o.ID]
		switch {
		case !seen:
			first[o.ID] = o.Label
		case label != o.Label:
			differences = append(differences, Difference{DifferenceDoubled, o.Label, fmt.Sprintf("key %q has its id %v too", label, o.ID)})
		}
	}
	return differences
}

// Duplicates names the masters of one algorithm that have one check value. A check value has three bytes: of two keys it is the same by
// chance 1 in 16,777,216 times, and otherwise because they are one key. Which it is cannot be told: both are refused.
func (v Inventory) Duplicates() (differences []Difference) {
	for i, o := range v.Objects {
		for _, earlier := range v.Objects[:i] {
			if o.sameValue(earlier.Algorithm, earlier.KCV) && earlier.HasKCV && earlier.Kind <= ObjectSealed {
				differences = append(differences, Difference{DifferenceSameValue, o.Label, fmt.Sprintf(
					"key %q has the check value %v too: one key twice, or by chance, 1 in %d; make another", earlier.Label, o.KCV, 1<<(8*kcv.Size))})
			}
		}
	}
	return differences
}

// Holders are the labels of the masters with a check value: one who is about to import or restore a key asks.
func (v Inventory) Holders(alg suite.Algorithm, value kcv.Value) (labels []string) {
	for _, o := range v.Objects {
		if o.sameValue(alg, value) {
			labels = append(labels, o.Label)
		}
	}
	return labels
}

func (o Object) sameValue(alg suite.Algorithm, value kcv.Value) bool {
	return o.Kind <= ObjectSealed && o.HasKCV && o.Algorithm == alg && o.KCV == value
}
