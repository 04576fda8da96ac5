package purse

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// ProfileFile is a card profile as an operator writes it, in YAML or JSON: one field for each row of EPURSE.md §9. A field
// that is left out of a file has the row's first value; NewProfile wants them all. The tags name the fields of both forms.
type ProfileFile struct {
	// Name is how key sets choose the profile: [a-z0-9][a-z0-9-]{0,62}.
	Name string `json:"name"`

	// SMChallenge is the length of the secure-messaging challenge: 4 (then zeros) or 8 bytes.
	SMChallenge int `json:"smChallenge"`

	// EncryptionPadding says whether a whole number of blocks is padded before encryption: "none" or "always".
	EncryptionPadding string `json:"encryptionPadding"`

	// UpdateData is the data of UPDATE BINARY and UPDATE RECORD: "plain" or "encrypted", with a MAC either way.
	UpdateData string `json:"updateData"`

	// ReloadPINMAC is what the MAC of RELOAD PIN covers: "pin" or "headerAndPin".
	ReloadPINMAC string `json:"reloadPinMac"`

	// PINUnblock is the form of PIN UNBLOCK: "encrypted" (84 24 00 01), "keyId" (P1 is pinUnblockKeyId, P2 00) or "macOnly".
	PINUnblock string `json:"pinUnblock"`

	// PINUnblockKeyID is P1 of PIN UNBLOCK where pinUnblock is "keyId", two hex digits; left out elsewhere.
	PINUnblockKeyID string `json:"pinUnblockKeyId"`

	// DebitForPurchaseP1 is "01", or "byType": 02 plain and 01 compound.
	DebitForPurchaseP1 string `json:"debitForPurchaseP1"`

	// CreditForLoadP1P2 is "0000" or "0002".
	CreditForLoadP1P2 string `json:"creditForLoadP1P2"`

	// ApplicationBlockP1 is "00", or "byAlgorithm": 00 for 3DES and 01 for SM4.
	ApplicationBlockP1 string `json:"applicationBlockP1"`

	// UnloadPurse is the purse that unload belongs to: "ED" or "EP".
	UnloadPurse string `json:"unloadPurse"`

	// KeyIndex is KI in INITIALIZE, 0 to 255.
	KeyIndex int `json:"keyIndex"`

	// ExternalAuthentication is the SM4 cryptogram: "folded" to 8 bytes or "whole", 16.
	ExternalAuthentication string `json:"externalAuthentication"`

	// ALGByte lists the ALG bytes that a card may answer, two hex digits each; an empty list is any.
	ALGByte []string `json:"algByte"`

	// IssuerFactors are the diversification levels above the card.
	IssuerFactors IssuerFactorsFile `json:"issuerFactors"`

	// WriteKey has a row for each kind of key, under the names of EPURSE.md §1; kinds left out keep the default row.
	WriteKey map[string]KeyRowFile `json:"writeKey"`
}

// IssuerFactorsFile says where the levels above the card come from.
type IssuerFactorsFile struct {
	// From is "none", "list", or "issuerId": the card's issuer id, which each request names.
	From string `json:"from"`

	// List is the fixed factors, root first, 16 hex digits each; only with "list".
	List []string `json:"list"`
}

// KeyRowFile is one row of WRITE KEY, in hex digits.
type KeyRowFile struct {
	P1     string `json:"p1"`
	P2     string `json:"p2"`
	Header string `json:"header"` // four bytes
}

// The names of the shipped profiles (EPURSE.md §9).
const (
	ProfilePBOC      = "pboc-ep"   // the defaults; 3DES and SM4
	ProfileTransport = "transport" // 交通联合
	ProfileFMCOS     = "fmcos"     // 8-byte challenge, always pad
)

//go:embed profiles/*.yaml
var shipped embed.FS

// defaults is the one profile that leaves nothing out: the first value of every row of EPURSE.md §9.
//
//go:embed profiles/pboc-ep.yaml
var defaults []byte

// ShippedProfiles returns the names of the profiles that are built in.
func ShippedProfiles() []string { return []string{ProfilePBOC, ProfileTransport, ProfileFMCOS} }

// ShippedProfile returns a profile that is built in.
func ShippedProfile(name string) (Profile, error) {
	if !slices.Contains(ShippedProfiles(), name) {
		return Profile{}, fieldErrorf("profile", "%q is not shipped, expected one of %v", name, ShippedProfiles())
	}
	if name == ProfilePBOC {
		return decodeProfile(ProfileFile{}, defaults)
	}
	data, err := shipped.ReadFile("profiles/" + name + ".yaml")
	if err != nil {
		return Profile{}, fmt.Errorf("shipped profile %v: %w", name, err)
	}
	return ParseProfile(data)
}

// ParseProfile reads a profile file, YAML or JSON; what it leaves out is as in pboc-ep, but for the name. An unknown or
// repeated field is an error, and so is a second document.
func ParseProfile(data []byte) (Profile, error) {
	base, err := ShippedProfile(ProfilePBOC)
	if err != nil {
		return Profile{}, err
	}
	base.file.Name = ""
	return base.With(data)
}

// With returns p with the parameters that data names replaced, read as ParseProfile reads them.
func (p Profile) With(data []byte) (Profile, error) { return decodeProfile(p.file, data) }

// decodeProfile reads data over base: rows of WRITE KEY kind by kind, issuerFactors and every other field as a whole.
func decodeProfile(base ProfileFile, data []byte) (Profile, error) {
	file := base
	file.WriteKey, file.IssuerFactors = nil, IssuerFactorsFile{}
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return Profile{}, errors.New("card profile: empty")
		}
		return Profile{}, errors.New("card profile: " + yaml.FormatError(err, false, false))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Profile{}, errors.New("card profile: more than one document")
	}
	rows := make(map[string]KeyRowFile)
	maps.Copy(rows, base.WriteKey)
	maps.Copy(rows, file.WriteKey)
	file.WriteKey = rows
	if file.IssuerFactors.From == "" && len(file.IssuerFactors.List) == 0 {
		file.IssuerFactors = base.IssuerFactors
	}
	return NewProfile(file)
}

var profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// NewProfile validates what an operator wrote; it alone makes profiles. All that is wrong is reported together.
func NewProfile(file ProfileFile) (Profile, error) {
	c := choices{name: file.Name}
	p := Profile{
		file:             file,
		padAlways:        c.second("encryptionPadding", file.EncryptionPadding, "none", "always"),
		updateEncrypted:  c.second("updateData", file.UpdateData, "plain", "encrypted"),
		reloadHeader:     c.second("reloadPinMac", file.ReloadPINMAC, "pin", "headerAndPin"),
		pinUnblock:       pinUnblockForm(c.index("pinUnblock", file.PINUnblock, "encrypted", "keyId", "macOnly")),
		debitByType:      c.second("debitForPurchaseP1", file.DebitForPurchaseP1, "01", "byType"),
		blockByAlgorithm: c.second("applicationBlockP1", file.ApplicationBlockP1, "00", "byAlgorithm"),
		wholeCryptogram:  c.second("externalAuthentication", file.ExternalAuthentication, "folded", "whole"),
		smChallenge:      file.SMChallenge,
		keyIndex:         byte(file.KeyIndex),
		unloadPurse:      EP,
	}
	if !profileName.MatchString(file.Name) {
		c.refuse("name", "%q does not match %v", file.Name, profileName)
	}
	if file.SMChallenge != 4 && file.SMChallenge != 8 {
		c.refuse("smChallenge", "%d bytes, expected 4 or 8", file.SMChallenge)
	}
	if file.KeyIndex < 0 || file.KeyIndex > 255 {
		c.refuse("keyIndex", "%d, expected 0 to 255", file.KeyIndex)
	}
	if c.index("unloadPurse", file.UnloadPurse, "ED", "EP") == 0 {
		p.unloadPurse = ED
	}
	if c.second("creditForLoadP1P2", file.CreditForLoadP1P2, "0000", "0002") {
		p.creditForLoad = [2]byte{0x00, 0x02}
	}
	switch {
	case p.pinUnblock == pinUnblockKeyID:
		p.pinUnblockKeyID = c.bytes("pinUnblockKeyId", file.PINUnblockKeyID, 1)[0]
	case file.PINUnblockKeyID != "":
		c.refuse("pinUnblockKeyId", `has no use unless pinUnblock is "keyId"`)
	}
	for _, text := range file.ALGByte {
		p.algs = append(p.algs, ALG(c.bytes("algByte", text, 1)[0]))
	}
	p.issuer, p.issuerFactors = c.issuer(file.IssuerFactors)
	p.rows = c.rows(file.WriteKey)
	if len(c.wrong) > 0 {
		return Profile{}, errors.Join(c.wrong...)
	}
	return p, nil
}

// choices collects what is wrong in one profile.
type choices struct {
	name  string
	wrong []error
}

func (c *choices) refuse(field, format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Errorf("card profile %q: %w", c.name, fieldErrorf(field, format, args...)))
}

// index is the place of value among the options, which are the only ones; 0 after an error.
func (c *choices) index(field, value string, options ...string) int {
	if i := slices.Index(options, value); i >= 0 {
		return i
	}
	c.refuse(field, "%q, expected one of %q", value, options)
	return 0
}

// second reports whether value is the second of two options.
func (c *choices) second(field, value, first, second string) bool {
	return c.index(field, value, first, second) == 1
}

// bytes are the size bytes of a value in hex digits, zeros after an error.
func (c *choices) bytes(field, text string, size int) []byte {
	b, err := ParseHex(field, text, size)
	if err != nil {
		c.wrong = append(c.wrong, fmt.Errorf("card profile %q: %w", c.name, err))
		return make([]byte, size)
	}
	return b
}

// maxIssuerLevels bounds the levels above the card; §7 knows two, issuer and region.
const maxIssuerLevels = 4

func (c *choices) issuer(file IssuerFactorsFile) (from issuerSource, factors [][8]byte) {
	from = issuerSource(c.index("issuerFactors.from", file.From, "none", "list", "issuerId"))
	if (from == issuerList) != (len(file.List) > 0) || len(file.List) > maxIssuerLevels {
		c.refuse("issuerFactors.list", `%d factors with from %q, expected 1 to %d with "list" and none otherwise`,
			len(file.List), file.From, maxIssuerLevels)
	}
	for _, text := range file.List {
		factors = append(factors, [8]byte(c.bytes("issuerFactors.list", text, 8)))
	}
	return from, factors
}

func (c *choices) rows(file map[string]KeyRowFile) map[KeyKind]KeyRow {
	rows := make(map[KeyKind]KeyRow, len(file))
	seen := make(map[KeyRow]string, len(file))
	for _, name := range slices.Sorted(maps.Keys(file)) {
		field := "writeKey." + name
		if !slices.Contains(KeyKinds(), KeyKind(name)) {
			c.refuse(field, "unknown kind of key, expected one of %v", KeyKinds())
			continue
		}
		r := file[name]
		row := KeyRow{
			P1:     c.bytes(field+".p1", r.P1, 1)[0],
			P2:     c.bytes(field+".p2", r.P2, 1)[0],
			Header: [4]byte(c.bytes(field+".header", strings.TrimSpace(r.Header), 4)),
		}
		if other, taken := seen[row]; taken {
			c.refuse(field, "the same row as %v", other)
		}
		seen[row] = name
		rows[KeyKind(name)] = row
	}
	return rows
}
