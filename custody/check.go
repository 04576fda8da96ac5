package custody

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// The forms of what a change names.
var (
	changeID    = regexp.MustCompile(`^[0-9a-f]{32}$`)
	sha256Hex   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	officerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`) // no text that allowed_signers reads otherwise
	setName     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+/-]{0,63}$`)
	factor      = regexp.MustCompile(`^[0-9A-F]{16}$`)
	cardSerial  = regexp.MustCompile(`^[0-9A-F]{1,20}$`)
	masterKCV   = regexp.MustCompile(`^[0-9A-F]{6}$`)
	keyKCV      = regexp.MustCompile(`^[0-9A-F]{6}([0-9A-F]{4})?$`) // of a transport key: 3 bytes, or X9.143's 5
	recipient   = regexp.MustCompile(`^age1[02-9ac-hj-np-z]{58}$`)
	transitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

// Bounds of what a change holds.
const (
	mostKeys     = 64
	mostFactors  = 8
	mostFailures = 1000
)

// check is what is wrong with a change whatever the catalogue is: an ErrMalformed.
func (c Change) check() error {
	if err := errors.Join(c.checkFrame(), c.onlyWhatTheActTakes()); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := c.checkMember(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// checkFrame is what is wrong with what every change has.
func (c Change) checkFrame() error {
	switch {
	case !changeID.MatchString(c.ID):
		return fmt.Errorf("id %q: expected 32 hex digits", c.ID)
	case !slices.Contains(policy.Acts(), c.Act):
		return fmt.Errorf("act %q: expected one of %v", c.Act, policy.Acts())
	case !officerName.MatchString(c.Author):
		return fmt.Errorf("author %q: expected an officer's name", c.Author)
	case !isReason(c.Reason):
		return fmt.Errorf("reason: expected 1 to %d bytes of UTF-8", maxReason)
	case !sha256Hex.MatchString(c.Base):
		return fmt.Errorf("base %q: expected 64 hex digits", c.Base)
	case !isWhole(c.Proposed) || !isWhole(c.Expires):
		return errors.New("proposed, expires: expected whole seconds of UTC")
	case !c.Proposed.Before(c.Expires) || c.Expires.Sub(c.Proposed) > longestLife:
		return fmt.Errorf("expires: expected within %v of the proposal", longestLife)
	}
	return nil
}

func isReason(text string) bool {
	return strings.TrimSpace(text) != "" && len(text) <= maxReason && utf8.ValidString(text)
}

// isWhole reports whether a time is one that encodes as it is: set, of whole seconds, in UTC, of a year with four digits.
func isWhole(t time.Time) bool {
	return !t.IsZero() && t.Equal(t.Truncate(time.Second)) && t.Location() == time.UTC && t.Year() >= 1970 && t.Year() < 10000
}

// shape is which member of a change is there, in the order of its bytes.
func (c Change) shape() []struct {
	name  string
	there bool
} {
	return []struct {
		name  string
		there bool
	}{
		{"officer", c.Officer != nil}, {"quorum", c.Quorum != nil}, {"keySet", c.KeySet != nil}, {"keys", c.Keys != nil},
		{"transport", c.Transport != nil}, {"backup", c.Backup != nil}, {"purse", c.Purse != nil},
		{"client", c.Client != nil}, {"policy", c.Policy != nil},
	}
}

var takes = map[policy.Act]string{
	policy.AddOfficer: "officer", policy.RemoveOfficer: "officer", policy.ReplaceOfficer: "officer", policy.SetQuorum: "quorum",
	policy.CreateKeySet: "keySet", policy.UpdateKeySet: "keySet",
	policy.CreateKey: "keys", policy.ImportKey: "keys", policy.ExportKey: "keys", policy.ActivateKey: "keys", policy.SuspendKey: "keys",
	policy.ResumeKey: "keys", policy.DeactivateKey: "keys", policy.CompromiseKey: "keys", policy.DestroyKey: "keys",
	policy.ImportTransport: "transport", policy.DestroyTransport: "transport", policy.CreateBackup: "backup", policy.ResetPurse: "purse",
	policy.AddClient: "client", policy.ReplaceClient: "client", policy.RemoveClient: "client", policy.SuspendClient: "client",
	policy.ResumeClient: "client", policy.SetPolicy: "policy",
}

func (c Change) onlyWhatTheActTakes() error {
	member := takes[c.Act]
	for _, part := range c.shape() {
		switch {
		case part.there && part.name != member:
			return fmt.Errorf("%s: %s takes %s", part.name, c.Act, member)
		case !part.there && part.name == member:
			return fmt.Errorf("%s: missing, %s takes it", part.name, c.Act)
		}
	}
	return nil
}

func (c Change) checkMember() error {
	switch {
	case c.Officer != nil:
		return c.Officer.check(c.Act)
	case c.Quorum != nil:
		return c.Quorum.Validate()
	case c.KeySet != nil:
		return c.KeySet.check()
	case c.Keys != nil:
		return c.checkKeys()
	case c.Transport != nil:
		return c.Transport.check(c.Act)
	case c.Backup != nil:
		return c.Backup.check()
	case c.Client != nil:
		return c.Client.check(c.Act)
	case c.Policy != nil:
		return c.Policy.check()
	}
	return c.Purse.check()
}

func (o OfficerChange) check(act policy.Act) error {
	switch removes := act == policy.RemoveOfficer; {
	case !officerName.MatchString(o.Name):
		return fmt.Errorf("officer.name %q: expected %v", o.Name, officerName)
	case removes && (o.Key != "" || o.Recipient != ""):
		return fmt.Errorf("officer: %s takes a name alone", act)
	case removes:
		return nil
	case o.Recipient != "" && !recipient.MatchString(o.Recipient):
		return fmt.Errorf("officer.recipient %q: expected an age recipient, age1…", o.Recipient)
	}
	_, err := ParseOfficerKey(o.Key)
	return err
}

func (d Definition) check() error {
	switch {
	case !setName.MatchString(d.Name):
		return fmt.Errorf("keySet.name %q: expected %v", d.Name, setName)
	case !d.Algorithm.Valid():
		return fmt.Errorf("keySet.algorithm: %v", d.Algorithm)
	case !profileName.MatchString(d.Profile):
		return fmt.Errorf("keySet.profile %q: expected a card profile's name", d.Profile)
	case !slices.Contains([]string{"", "none", "card", "fixed"}, d.Issuer):
		return fmt.Errorf("keySet.issuer %q: expected none, card or fixed", d.Issuer)
	case (d.Issuer == "fixed") != (len(d.Factors) > 0) || len(d.Factors) > mostFactors:
		return fmt.Errorf("keySet.factors: %d; fixed issuer factors are 1 to %d, and no others are written", len(d.Factors), mostFactors)
	case slices.ContainsFunc(d.Factors, func(f string) bool { return !factor.MatchString(f) }):
		return fmt.Errorf("keySet.factors %q: expected 16 upper-case hex digits each", d.Factors)
	case !zoneName.MatchString(d.TimeZone) || d.TimeZone == "Local":
		return fmt.Errorf("keySet.timeZone %q: expected a zone's name, such as Asia/Shanghai", d.TimeZone)
	case d.MAC1FailureLimit < 1 || d.MAC1FailureLimit > mostFailures:
		return fmt.Errorf("keySet.mac1FailureLimit %d: expected 1 to %d", d.MAC1FailureLimit, mostFailures)
	}
	for kver := range 256 {
		if tac, there := d.TACVersion[kver]; there && (kver == 0 || tac < 1 || tac > 255) {
			return fmt.Errorf("keySet.tacVersion: %d to %d: expected 1 to 255", kver, tac)
		}
	}
	for kver := range d.TACVersion {
		if kver < 1 || kver > 255 {
			return errors.New("keySet.tacVersion: expected versions 1 to 255")
		}
	}
	return nil
}

func (c Change) checkKeys() error {
	keys := c.Keys
	dates := slices.Contains([]policy.Act{policy.CreateKey, policy.ImportKey, policy.ActivateKey}, c.Act)
	switch {
	case !setName.MatchString(keys.Set):
		return fmt.Errorf("keys.set %q: expected a key set's name", keys.Set)
	case len(keys.Keys) < 1 || len(keys.Keys) > mostKeys:
		return fmt.Errorf("keys.keys: %d, expected 1 to %d", len(keys.Keys), mostKeys)
	case !keys.ActivateAt.IsZero() && (!dates || !isWhole(keys.ActivateAt)):
		return fmt.Errorf("keys.activateAt: not of %s, or no whole second of UTC", c.Act)
	case !keys.Due.IsZero() && (!c.makesKeys() || !isWhole(keys.Due) || !keys.Due.After(c.Proposed) || keys.Due.Before(keys.ActivateAt)):
		return fmt.Errorf("keys.due: not of %s, in the past, before activateAt, or no whole second of UTC", c.Act)
	case keys.WithoutBackup && !c.makesKeys():
		return fmt.Errorf("keys.withoutBackup: not of %s", c.Act)
	case keys.Transport != "" && (c.Act != policy.ImportKey && c.Act != policy.ExportKey || !setName.MatchString(keys.Transport)):
		return fmt.Errorf("keys.transport %q: not of %s, or no transport key's name", keys.Transport, c.Act)
	case keys.Transport == "" && c.Act == policy.ExportKey:
		return fmt.Errorf("keys.transport: missing, %s takes it", c.Act)
	}
	for i, k := range keys.Keys {
		if err := c.checkKey(k); err != nil {
			return fmt.Errorf("keys.keys[%d]: %w", i, err)
		}
		if i > 0 && keys.Keys[i-1].compare(k.Name) >= 0 {
			return fmt.Errorf("keys.keys[%d]: %v after %v: expected each once, in the order of kinds, then versions", i, k.Name, keys.Keys[i-1].Name)
		}
		if (k.Boundary == keyderive.BoundaryProcess) != c.atProcess() {
			return errors.New("keys.keys: a key at PROCESS needs an approval of its own: propose it apart from the others")
		}
	}
	return nil
}

func (c Change) checkKey(k KeyChange) error {
	imports := c.Act == policy.ImportKey
	switch {
	case !k.Kind.Valid():
		return fmt.Errorf("kind: %v", k.Kind)
	case k.Version < 1 || k.Version > 255:
		return fmt.Errorf("version %d: expected 1 to 255", k.Version)
	case c.makesKeys() != (k.Boundary != 0):
		return fmt.Errorf("boundary %q: key.create and key.import take one, and no others", boundaryText(k.Boundary))
	case k.Boundary > keyderive.BoundaryProcess:
		return fmt.Errorf("boundary: %v", k.Boundary)
	case c.Act == policy.CreateKey && k.KCV != "":
		return errors.New("kcv: not of key.create: it is not known yet")
	case c.Act != policy.CreateKey && !masterKCV.MatchString(k.KCV):
		return fmt.Errorf("kcv %q: expected 6 upper-case hex digits", k.KCV)
	case k.Components != 0 && (!imports || k.Components < 2 || k.Components > 3):
		return fmt.Errorf("components %d: expected 2 or 3, of key.import", k.Components)
	case !areCustodians(k.Custodians, k.Components):
		return fmt.Errorf("custodians %q: expected none, or one person for each component", k.Custodians)
	case imports && (k.Components == 0) != (c.Keys.Transport != ""):
		return errors.New("key.import takes components, or transport for key blocks, not both")
	}
	return nil
}

func boundaryText(b keyderive.Boundary) string {
	if b == 0 {
		return ""
	}
	return b.String()
}

// custodianName is the name of a person, who need not be an officer.
var custodianName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._@'-]{0,62}$`)

// areCustodians reports whether the names are those of as many different persons as there are components, or none.
func areCustodians(names []string, components int) bool {
	seen := map[string]bool{}
	for _, name := range names {
		if !custodianName.MatchString(name) {
			return false
		}
		seen[strings.ToLower(name)] = true
	}
	return len(names) == 0 || len(names) == components && len(seen) == len(names)
}

// isAES reports whether a transport key of so many bits is one of AES.
func (t TransportChange) isAES() bool { return slices.Contains([]int{128, 192, 256}, t.Bits) }

func (t TransportChange) check(act policy.Act) error {
	imports := act == policy.ImportTransport
	switch {
	case !setName.MatchString(t.Name):
		return fmt.Errorf("transport.name %q: expected %v", t.Name, setName)
	case !keyKCV.MatchString(t.KCV):
		return fmt.Errorf("transport.kcv %q: expected 6 or 10 upper-case hex digits", t.KCV)
	case !imports && (t.Bits != 0 || t.Components != 0):
		return fmt.Errorf("transport: %s takes name and kcv alone", act)
	case imports && !t.isAES() && t.Bits != 112 && t.Bits != 168:
		return fmt.Errorf("transport.bits %d: expected 128, 192 or 256 of AES, 112 or 168 of 3DES", t.Bits)
	case imports && (t.Components < 2 || t.Components > 3):
		return fmt.Errorf("transport.components %d: expected 2 or 3", t.Components)
	case !areCustodians(t.Custodians, t.Components):
		return fmt.Errorf("transport.custodians %q: expected none, or one person for each component", t.Custodians)
	}
	return nil
}

func (b BackupChange) check() error {
	if b.Vault != "" {
		if len(b.Holders) > 0 || b.Threshold != 0 || !transitName.MatchString(b.Vault) {
			return fmt.Errorf("backup.vault %q: expected a transit key's name alone", b.Vault)
		}
		return nil
	}
	switch {
	case b.Threshold < 2 || b.Threshold > len(b.Holders) || len(b.Holders) > 255:
		return fmt.Errorf("backup: %d of %d: expected at least 2, at most as many as there are holders", b.Threshold, len(b.Holders))
	case !slices.IsSorted(b.Holders) || len(slices.Compact(slices.Clone(b.Holders))) != len(b.Holders):
		return errors.New("backup.holders: expected each once, in order")
	case slices.ContainsFunc(b.Holders, func(h string) bool { return !officerName.MatchString(h) || h == VaultHolder }):
		return fmt.Errorf("backup.holders %q: expected officers' names", b.Holders)
	}
	return nil
}

func (p PurseChange) check() error {
	switch {
	case !setName.MatchString(p.KeySet):
		return fmt.Errorf("purse.keySet %q: expected a key set's name", p.KeySet)
	case !cardSerial.MatchString(p.Card):
		return fmt.Errorf("purse.cardSerial %q: expected 1 to 20 upper-case hex digits", p.Card)
	case p.IssuerID != "" && !cardSerial.MatchString(p.IssuerID):
		return fmt.Errorf("purse.issuerId %q: expected upper-case hex digits", p.IssuerID)
	case p.Purse != "ED" && p.Purse != "EP":
		return fmt.Errorf("purse.purse %q: expected ED or EP", p.Purse)
	}
	return nil
}
