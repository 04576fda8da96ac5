package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
	_ "time/tzdata" // a machine without a time zone database must not put another date into a MAC

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
)

// KeySet is a key set without its keys, which are in the token.
type KeySet struct {
	Name         string
	Algorithm    suite.Algorithm
	Profile      purse.Profile // its issuer factors are those of Issuer
	Issuer       signer.Issuer
	IssuerLevels int
	Location     *time.Location
	MAC1Failures int
	TACVersion   map[int]int
	Keys         []Key
}

// Key is a master key: which it is, and what it may do.
type Key struct {
	Kind     keyderive.Kind
	Version  int
	State    custody.KeyState
	Boundary keyderive.Boundary
	KCV      kcv.Value
	Label    string

	// Of keys of the catalogue alone.
	ID                       hsm.ObjectID
	ActivateAt, Due, Created time.Time // zero: not set
	Origin                   string
}

const maxFen = 1<<32 - 1 // an amount has four bytes (EPURSE.md, notation)

var (
	label    = regexp.MustCompile(`^[ -~]{1,128}$`)
	identity = regexp.MustCompile(`^([a-z][a-z0-9+.-]*://[!-~]+|[A-Za-z0-9][A-Za-z0-9.-]*)$`)
)

// master identifies a master key by what is known of it, whatever its kind: a load master that is a purchase master elsewhere
// would be in terminals.
type master struct {
	algorithm suite.Algorithm
	kcv       kcv.Value
}

// holder is where a master is.
type holder struct {
	set  string
	kind keyderive.Kind
}

// catalogue is what must be unique across key sets.
type catalogue struct {
	names   map[string]bool
	labels  map[string]bool
	masters map[master]holder // the set that holds it
}

func (c *checker) keySets(files []KeySetFile) []KeySet {
	if len(files) == 0 {
		return nil
	}
	if !c.development {
		c.refuse("keySets", "leave it out: the keys of a token that is not for development are those of the catalogue, where no one alone "+
			"changes them; `pursekeeper init` makes it")
	}
	all := catalogue{map[string]bool{}, map[string]bool{}, map[master]holder{}}
	sets := make([]KeySet, len(files))
	for i, file := range files {
		sets[i] = c.keySet(fmt.Sprintf("keySets[%d]", i), file, all)
	}
	return sets
}

func (c *checker) keySet(field string, file KeySetFile, all catalogue) KeySet {
	c.unique(all.names, field+".name", file.Name)
	if file.Name != "" && !signer.IsKeySetName(file.Name) {
		c.refuse(field+".name", "%q: expected [a-z0-9][a-z0-9-]{0,62}", file.Name)
	}
	set := KeySet{
		Name:         file.Name,
		Algorithm:    take[suite.Algorithm](c, field+".algorithm")(suite.Parse(file.Algorithm)),
		Location:     c.location(field+".timeZone", file.TimeZone),
		MAC1Failures: c.count(field+".mac1FailureLimit", file.MAC1FailureLimit, DefaultMAC1Failures, 1000),
		TACVersion:   file.TACVersion,
	}
	if profile, ok := c.profile(field+".profile", file.Profile); ok {
		c.issuer(field+".issuerFactors", file.IssuerFactors, profile, &set)
	}
	if len(file.Keys) == 0 {
		c.refuse(field+".keys", "missing: the set could sign nothing")
	}
	for i, key := range file.Keys {
		set.Keys = append(set.Keys, c.key(fmt.Sprintf("%s.keys[%d]", field, i), key, set, all))
	}
	c.tacVersions(field, set)
	return set
}

// location refuses the machine's own zone: it would put what the machine is set to into a MAC.
func (c *checker) location(field, name string) *time.Location {
	if name == "" || name == "Local" {
		c.refuse(field, "%q: name the zone, such as Asia/Shanghai", name)
		return nil
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		c.refuse(field, "%q: no such time zone", name)
	}
	return location
}

// profile is a shipped one, or a file's: a shipped name has neither slash nor dot.
func (c *checker) profile(field, name string) (purse.Profile, bool) {
	return named(c, field, name, purse.ShippedProfile, purse.ParseProfile)
}

// issuer settles where the levels above the card come from, in the profile and in the set alike. Two answers that differ are
// an error: the wrong one would derive other keys.
func (c *checker) issuer(field string, file IssuerFactorsFile, profile purse.Profile, set *KeySet) {
	if file.Word != "" || len(file.List) > 0 {
		written, err := withIssuer(profile, file)
		if err != nil {
			c.err(field, err)
			return
		}
		if own := levels(profile); own != "none" && own != levels(written) {
			c.refuse(field, "%s, but card profile %s has %s", levels(written), profile, own)
			return
		}
		profile = written
	}
	set.Profile = profile
	if profile.NeedsIssuerID() {
		set.Issuer, set.IssuerLevels = signer.Issuer{FromCard: true}, 1
		return
	}
	factors := take[[][8]byte](c, field)(profile.IssuerFactors(""))
	path := make([]keyderive.Factor, len(factors))
	for i, f := range factors {
		path[i] = f
	}
	set.Issuer, set.IssuerLevels = signer.Issuer{Fixed: keyderive.RootFirst(path...)}, len(path)
}

// withIssuer puts the key set's issuer factors in the place of the profile's.
func withIssuer(profile purse.Profile, file IssuerFactorsFile) (purse.Profile, error) {
	from, known := map[string]string{"": "list", "none": "none", "card": "issuerId"}[file.Word]
	if !known {
		return purse.Profile{}, fmt.Errorf("%q: expected none, card or a list of 16 hex digits each", file.Word)
	}
	change, err := json.Marshal(map[string]any{"issuerFactors": map[string]any{"from": from, "list": file.List}})
	if err != nil {
		return purse.Profile{}, err
	}
	return profile.With(change) // JSON is YAML
}

// levels describes the issuer levels of a profile; equal levels have one description.
func levels(p purse.Profile) string {
	if p.NeedsIssuerID() {
		return "card"
	}
	factors, err := p.IssuerFactors("")
	if err != nil || len(factors) == 0 {
		return "none"
	}
	return fmt.Sprintf("%X", factors)
}

func (c *checker) key(field string, file KeyFile, set KeySet, all catalogue) Key {
	key := Key{
		Kind:     take[keyderive.Kind](c, field+".kind")(keyderive.ParseKind(file.Kind)),
		Version:  file.Version,
		State:    take[custody.KeyState](c, field+".state")(custody.ParseKeyState(file.State)),
		Boundary: take[keyderive.Boundary](c, field+".boundary")(keyderive.ParseBoundary(file.Boundary)),
		Label:    file.Label,
	}
	var err error
	key.KCV, err = kcv.Parse(file.KCV)
	c.err(field+".kcv", err)
	if key.Version < 1 || key.Version > 255 {
		c.refuse(field+".version", "%d: expected 1 to 255", key.Version)
	}
	if slices.ContainsFunc(set.Keys, func(k Key) bool { return k.Kind == key.Kind && k.Version == key.Version && k.Kind.Valid() }) {
		c.refuse(field, "%v version %d is there twice", key.Kind, key.Version)
	}
	if key.Label == "" && key.Kind.Valid() {
		key.Label = fmt.Sprintf("%s/%v/%d", set.Name, key.Kind, key.Version)
	}
	c.label(field+".label", key.Label, all)
	c.boundary(field+".boundary", key, set.Algorithm)
	if err == nil && key.Kind.Valid() && set.Algorithm.Valid() {
		c.master(field+".kcv", key, set, all)
	}
	return key
}

func (c *checker) label(field, name string, all catalogue) {
	switch {
	case name == "": // of a key whose kind is refused
	case !label.MatchString(name):
		c.refuse(field, "%q: expected 1 to 128 printable ASCII characters", name)
	case all.labels[name]:
		c.refuse(field, "%q is there twice", name)
	}
	all.labels[name] = true
}

// master refuses a key that is there already, as far as check values tell: in another set, or in the same one. A suspended
// version would live on in another of the same master, for no MAC covers KVER. Test keys of one set may be one for several kinds.
func (c *checker) master(field string, key Key, set KeySet, all catalogue) {
	m := master{set.Algorithm, key.KCV}
	other, held := all.masters[m]
	switch {
	case !held:
		all.masters[m] = holder{set.Name, key.Kind}
	case other.set != set.Name:
		c.refuse(field, "%v is also the %v key of key set %s: two key sets of one algorithm never hold the same master", key.KCV, other.kind, other.set)
	case other.kind == key.Kind:
		c.refuse(field, "%v is also another key of this set, of kind %v: each has a master of its own", key.KCV, other.kind)
	}
}

// boundary refuses what the token cannot do, as its profile has it. Whether the profile is right is for the token's own tests.
func (c *checker) boundary(field string, key Key, algorithm suite.Algorithm) {
	if c.device == nil || key.Boundary == 0 || !key.Kind.Valid() || !algorithm.Valid() {
		return // refused already
	}
	token := *c.device
	strictest := token.Strictest(key.Kind, algorithm)
	switch {
	case key.Boundary >= strictest:
	case strictest == keyderive.BoundaryProcess:
		c.refuse(field, "%v: a token of profile %s has no %v; use PROCESS", key.Boundary, token.Name, algorithm)
	case token.Strictest(keyderive.KindLoad, algorithm) == keyderive.BoundaryToken:
		c.refuse(field, "%v: a token of profile %s has no key-XOR-key derivation, which the %v key needs; use %v", key.Boundary, token.Name, key.Kind, strictest)
	default:
		c.refuse(field, "%v: a token of profile %s does not derive keys with %v; use %v", key.Boundary, token.Name, algorithm, strictest)
	}
}

// tacVersions checks that the epochs that are mapped are there. Test keys may begin what nothing confirms.
func (c *checker) tacVersions(field string, set KeySet) {
	has := func(version int, is func(Key) bool) bool {
		return slices.ContainsFunc(set.Keys, func(k Key) bool { return k.Version == version && is(k) })
	}
	isTAC := func(k Key) bool { return k.Kind == keyderive.KindTAC && k.State.Verifies() }
	for _, kver := range slices.Sorted(maps.Keys(set.TACVersion)) {
		at := fmt.Sprintf("%s.tacVersion.%d", field, kver)
		if !has(kver, func(k Key) bool { return !isTAC(k) }) {
			c.refuse(at, "there is no key of version %d", kver)
		}
		if !has(set.TACVersion[kver], isTAC) {
			c.refuse(at, "there is no tac key of version %d that verifies", set.TACVersion[kver])
		}
	}
}
