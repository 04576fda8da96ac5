package purse

import (
	"maps"
	"slices"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Profile is a card profile (EPURSE.md §9): where sources or schemes differ, what this scheme's cards do. It comes from
// ParseProfile, ShippedProfile or NewProfile, so every value of it is one of §9's; the zero value is no profile.
type Profile struct {
	file ProfileFile // what it was made of, so that With can change a part of it

	smChallenge      int // bytes
	padAlways        bool
	updateEncrypted  bool
	reloadHeader     bool
	pinUnblock       pinUnblockForm
	pinUnblockKeyID  byte
	debitByType      bool
	creditForLoad    [2]byte // P1 P2
	blockByAlgorithm bool
	unloadPurse      Purse
	keyIndex         byte
	wholeCryptogram  bool
	algs             []ALG // none is any
	issuer           issuerSource
	issuerFactors    [][8]byte
	rows             map[KeyKind]KeyRow
}

type pinUnblockForm int

const (
	pinUnblockEncrypted pinUnblockForm = iota
	pinUnblockKeyID
	pinUnblockMACOnly
)

type issuerSource int

const (
	issuerNone issuerSource = iota
	issuerList
	issuerFromID
)

// KeyRow is what WRITE KEY says about one kind of key: P1, P2 and the four bytes before the key (EPURSE.md §6).
type KeyRow struct {
	P1, P2 byte
	Header [4]byte
}

// Name is the name that a key set chooses the profile by.
func (p Profile) Name() string { return p.file.Name }

// File is the profile as an operator would write it out in full; NewProfile of it is p again.
func (p Profile) File() ProfileFile {
	file := p.file
	file.ALGByte, file.IssuerFactors.List = slices.Clone(file.ALGByte), slices.Clone(file.IssuerFactors.List)
	file.WriteKey = maps.Clone(file.WriteKey)
	return file
}

// String is the name.
func (p Profile) String() string { return p.file.Name }

// KeyIndex is KI, the key index in INITIALIZE.
func (p Profile) KeyIndex() byte { return p.keyIndex }

// ChallengeLen is the length in bytes of the challenge of secure messaging: 4 or 8.
func (p Profile) ChallengeLen() int { return p.smChallenge }

// UpdateEncrypted reports whether UPDATE BINARY and UPDATE RECORD encrypt their data.
func (p Profile) UpdateEncrypted() bool { return p.updateEncrypted }

// PINUnblockParameters are P1 and P2 of PIN UNBLOCK: 00 01, or the key id and 00.
func (p Profile) PINUnblockParameters() (p1, p2 byte) {
	if p.pinUnblock == pinUnblockKeyID {
		return p.pinUnblockKeyID, 0x00
	}
	return 0x00, 0x01
}

// PINUnblockEncrypted reports whether PIN UNBLOCK carries the PIN, encrypted; else it is a MAC only.
func (p Profile) PINUnblockEncrypted() bool { return p.pinUnblock != pinUnblockMACOnly }

// DebitP1 is P1 of DEBIT FOR PURCHASE: 01, or 02 plain and 01 compound. Cash withdrawal counts as plain.
func (p Profile) DebitP1(tti TTI) byte {
	if p.debitByType && tti != TTICompound {
		return 0x02
	}
	return 0x01
}

// CreditForLoadParameters are P1 and P2 of CREDIT FOR LOAD.
func (p Profile) CreditForLoadParameters() (p1, p2 byte) {
	return p.creditForLoad[0], p.creditForLoad[1]
}

// ApplicationBlockP1 is P1 of APPLICATION BLOCK: 00, or 00 for 3DES and 01 for SM4.
func (p Profile) ApplicationBlockP1(alg suite.Algorithm) byte {
	if p.blockByAlgorithm && alg == suite.SM4 {
		return 0x01
	}
	return 0x00
}

// UnloadPurse is the one purse that unload belongs to.
func (p Profile) UnloadPurse() Purse { return p.unloadPurse }

// checkUnload refuses an unload of any but the profile's unload purse (EPURSE.md §5.3).
func (p Profile) checkUnload(purse Purse) error {
	if err := purse.check(); err != nil {
		return err
	}
	if purse != p.unloadPurse {
		return fieldErrorf("purse", "%v, but card profile %v unloads %v alone", purse, p, p.unloadPurse)
	}
	return nil
}

// AcceptsALG reports whether the ALG byte of a card's answer is one that the profile expects; with no list any is.
func (p Profile) AcceptsALG(alg ALG) bool { return len(p.algs) == 0 || slices.Contains(p.algs, alg) }

// NeedsIssuerID reports whether the issuer factor is the card's issuer id, which the request must then name.
func (p Profile) NeedsIssuerID() bool { return p.issuer == issuerFromID }

// IssuerFactors are the factors of the levels above the card, root first: none, the profile's list, or the card's issuer
// id. An issuer id where the profile takes none is refused, not ignored, and so is a missing one.
func (p Profile) IssuerFactors(issuerID string) ([][8]byte, error) {
	if p.issuer != issuerFromID {
		if issuerID != "" {
			return nil, fieldErrorf(issuerField, "card profile %v takes none", p)
		}
		return slices.Clone(p.issuerFactors), nil
	}
	factor, err := ParseIssuerID(issuerID)
	if err != nil {
		return nil, err
	}
	return [][8]byte{factor}, nil
}

// KeyRow is the profile's row of WRITE KEY for a kind of key.
func (p Profile) KeyRow(kind KeyKind) (KeyRow, error) {
	row, ok := p.rows[kind]
	if !ok {
		return KeyRow{}, fieldErrorf("kind", "card profile %v has no WRITE KEY row for %q", p, string(kind))
	}
	return row, nil
}

// FramesKey reports whether an 8-byte challenge has the form of the first or the last block of a WRITE KEY under the 3DES suite (EPURSE.md
// §6). No card draws such a one but by chance, one in 2²⁴, and its cryptogram would tell whether a key written begins, or ends, so.
//
//	first: LEN(1) HEADER(4) KEY(3), LEN 15      last: KEY(5) 80 00 00
func (p Profile) FramesKey(challenge [8]byte) bool {
	if [3]byte(challenge[5:]) == [3]byte{0x80, 0x00, 0x00} {
		return true
	}
	for _, row := range p.rows {
		if challenge[0] == byte(len(row.Header)+suite.KeySize) && [4]byte(challenge[1:5]) == row.Header {
			return true
		}
	}
	return false
}

// KindOf is the kind of key that a row of WRITE KEY writes, for a card that receives it. No two kinds have one row.
func (p Profile) KindOf(row KeyRow) (KeyKind, bool) {
	for kind, r := range p.rows {
		if r == row {
			return kind, true
		}
	}
	return "", false
}
