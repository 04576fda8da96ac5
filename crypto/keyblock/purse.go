package keyblock

import (
	"context"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Purse is what the header of a purse master's block says: a master key that derives card keys and does nothing else, usage E6, mode X,
// not exportable by whoever receives it.
//
// Two optional blocks say which master it is, in this order, and no other is there but PB. The first is our own:
//
//	0  2  "70"            id
//	2  2  length, hex
//	4  3  "PK1"           whose block it is, and its form
//	7  1  algorithm       the same as the header's: "T" or "4"
//	8  2  KVER            two upper-case hex digits
//	10 …  kind            such as "load": 1 to 32 of a-z, 0-9 and hyphens
//
// X9.143 (TR-31:2018, A.5.6) keeps the numeric ids for everybody's own use, and registers none: "PK1" tells ours from another's block with the same
// id. That is read from other implementers' documents, IBM's among them, whose own block is "10"; the standard itself was not at hand.
//
// The second is X9.143's KC: 00 for the check value of an encrypted zero block, and the first three bytes of it.
//
//	0  2  "KC"
//	2  4  "0C00"
//	6  6  check value     upper-case hex digits
//
// An SM4 master has the algorithm "4". X9.143 has no letter for SM4, and keeps the digits for everybody's own use as well. A reader that
// does not know the form finds an algorithm that it does not know, and has to refuse it; this package refuses a "4" without our
// own block, which may be anybody's. SM4 goes in version D alone: 3DES is weaker than it.
type Purse struct {
	Kind      string // as keyderive names kinds
	KVER      byte
	Algorithm suite.Algorithm
	Check     kcv.Value
}

const (
	purseID      = "70"
	purseForm    = "PK1"
	checkID      = "KC"
	checkLegacy  = "00" // the leftmost bytes of an encrypted zero block
	maxKind      = 32
	purseMinimum = len(purseForm) + 1 + 2 + 1
)

var purseAlgorithms = map[Algorithm]suite.Algorithm{AlgorithmTDES: suite.TDES, AlgorithmSM4: suite.SM4}

// Header is that of the block in which the master travels, in a version. Errors are FieldError, where the kind is no name or the algorithm
// does not go in that version.
func (p Purse) Header(v Version) (Header, error) {
	h := Header{Version: v, Usage: UsageDerive, Mode: ModeDerive, KeyVersion: noVersion, Exportability: ExportNone}
	for letter, alg := range purseAlgorithms {
		if alg == p.Algorithm {
			h.Algorithm = letter
		}
	}
	if h.Algorithm == 0 {
		return Header{}, fault(FieldAlgorithm, -1, p.Algorithm.String(), "3DES or SM4")
	}
	if !kindName(p.Kind) {
		return Header{}, fault(FieldOptionalData, -1, "", fmt.Sprintf("a kind of 1 to %d small letters, digits and hyphens", maxKind))
	}
	h.Optional = []Optional{
		{purseID, fmt.Sprintf("%s%c%02X%s", purseForm, h.Algorithm, p.KVER, p.Kind)},
		{checkID, checkLegacy + p.Check.String()},
	}
	return h, h.validate()
}

func kindName(kind string) bool {
	for i := range len(kind) {
		if c := kind[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return kind != "" && len(kind) <= maxKind
}

// Purse reads what Purse.Header wrote. A block that is any other key's is ErrNoPurse, with what is missing.
func (h *Header) Purse() (p Purse, err error) {
	switch {
	case h.Usage != UsageDerive || h.Mode != ModeDerive:
		return p, fmt.Errorf("%w: usage %s, mode %c, expected E6, X", ErrNoPurse, h.Usage, h.Mode)
	case h.KeyVersion != noVersion || h.Exportability != ExportNone:
		return p, fmt.Errorf("%w: key version %s, exportability %c, expected 00, N", ErrNoPurse, h.KeyVersion, h.Exportability)
	case len(h.Optional) != 2 || h.Optional[0].ID != purseID || h.Optional[1].ID != checkID:
		return p, fmt.Errorf("%w: expected the optional blocks %s and %s, and no others", ErrNoPurse, purseID, checkID)
	}
	data := h.Optional[0].Data
	if len(data) < purseMinimum || !strings.HasPrefix(data, purseForm) {
		return p, fmt.Errorf("%w: block %s: expected %q, an algorithm, KVER and a kind", ErrNoPurse, purseID, purseForm)
	}
	data = data[len(purseForm):]
	kver, ok := hexNumber(data[1:3])
	alg, known := purseAlgorithms[h.Algorithm]
	if !known || Algorithm(data[0]) != h.Algorithm || !ok || !kindName(data[3:]) {
		return p, fmt.Errorf("%w: block %s: expected the header's algorithm, KVER as two hex digits, and a kind", ErrNoPurse, purseID)
	}
	digits, legacy := strings.CutPrefix(h.Optional[1].Data, checkLegacy)
	check, err := kcv.Parse(digits)
	if err != nil || !legacy || check.String() != digits {
		return p, fmt.Errorf("%w: block %s: expected %q and six upper-case hex digits", ErrNoPurse, checkID, checkLegacy)
	}
	return Purse{Kind: data[3:], KVER: byte(kver), Algorithm: alg, Check: check}, nil
}

// UnwrapPurse is Unwrap of a purse master, two keys of 3DES or one of SM4, whose check value is the header's. A block of another key is
// ErrNoPurse, another check value ErrCheckValue. The caller wipes what it gets.
func UnwrapPurse(ctx context.Context, p Protector, text string) (Purse, *Unwrapped, error) {
	u, err := Unwrap(ctx, p, text)
	if err != nil {
		return Purse{}, nil, err
	}
	purse, err := u.purse()
	if err != nil {
		u.Wipe()
		return Purse{}, nil, err
	}
	return purse, u, nil
}

func (u *Unwrapped) purse() (Purse, error) {
	purse, err := u.Header.Purse()
	if err != nil {
		return Purse{}, err
	}
	if u.Key.Len() != suite.KeySize {
		return Purse{}, fault(FieldKeyLength, -1, fmt.Sprint(8*u.Key.Len()), fmt.Sprintf("the %d bits of a purse master", 8*suite.KeySize))
	}
	block, err := purse.Algorithm.New(u.Key.Reveal("to compute its check value"))
	if err != nil {
		return Purse{}, err
	}
	if got := kcv.Of(block); got != purse.Check {
		return Purse{}, fmt.Errorf("%w: %v, the header says %v", ErrCheckValue, got, purse.Check)
	}
	return purse, nil
}
