package ceremony

import (
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// File is what a person writes, in YAML; one that is unknown, repeated, or of no use to its kind of ceremony is an error. Hex digits are
// written in quotes. Names of files are relative to the folder of this one.
type File struct {
	// Ceremony is import-key, import-transport, make-components, import-block, export-block or create-backup.
	Ceremony string `yaml:"ceremony"`
	// Change is the id of the approved change, 32 hex digits. make-components changes nothing and has none.
	Change string `yaml:"change"`

	// KeySet, Kind, Version and Boundary name the master key, as in the change.
	KeySet   string `yaml:"keySet"`
	Kind     string `yaml:"kind"`
	Version  int    `yaml:"version"`
	Boundary string `yaml:"boundary"`
	// Transport is the name of the transport key.
	Transport string `yaml:"transport"`

	// Algorithm is 3DES or SM4 of a master key, and 3DES or AES of a transport key.
	Algorithm string `yaml:"algorithm"`
	// Bits is the length of a transport key: 112 or 168 of 3DES, 128, 192 or 256 of AES.
	Bits int `yaml:"bits"`
	// KCV is the check value that the whole key must have, six hex digits; of AES six or ten.
	KCV string `yaml:"kcv"`
	// Parity of 3DES components: odd, that each of their bytes has odd parity; or any, that the parity bits are not looked at. Left out,
	// odd.
	Parity string `yaml:"parity"`
	// Custodians are those who enter or take the components, in their order: 2 or 3.
	Custodians []CustodianFile `yaml:"custodians"`

	// Block is the file of the key block: of export-block one that must not be there.
	Block string `yaml:"block"`

	// Threshold is how many of Holders bring the backup key back; or
	Threshold int `yaml:"threshold"`
	// Holders are the officers who get a share each.
	Holders []string `yaml:"holders"`
	// Vault is the transit key that keeps the backup key instead.
	Vault string `yaml:"vault"`

	// Present are others who were in the room: they sign the record.
	Present []string `yaml:"present"`
	// Record is the file that the record is written to. It must not be there.
	Record string `yaml:"record"`
}

// CustodianFile is one custodian.
type CustodianFile struct {
	// Name is the person's; of an officer, the officer's name.
	Name string `yaml:"name"`
	// KCV is the check value of this custodian's component, where the other party sent one. Left out, the custodian compares it.
	KCV string `yaml:"kcv"`
}

// Kind is a kind of ceremony. The zero value is invalid.
type Kind string

// The kinds.
const (
	ImportKey       Kind = "import-key"       // a master key from components
	ImportTransport Kind = "import-transport" // a transport key from components
	MakeComponents  Kind = "make-components"  // components of a new transport key, for two parties to import
	ImportBlock     Kind = "import-block"     // a master key from a key block
	ExportBlock     Kind = "export-block"     // a master key into a key block
	CreateBackup    Kind = "create-backup"    // the backup key, split among officers or given to Vault
)

// uses are the fields that a kind takes: those that it needs, and those that it may have.
type uses struct{ needs, may []string }

var fieldsOf = map[Kind]uses{
	ImportKey:       {[]string{"change", "keySet", "kind", "version", "boundary", "algorithm", "kcv", "custodians"}, []string{"parity"}},
	ImportTransport: {[]string{"change", "transport", "algorithm", "bits", "kcv", "custodians"}, []string{"parity"}},
	MakeComponents:  {[]string{"transport", "algorithm", "bits", "custodians"}, nil},
	ImportBlock:     {[]string{"change", "keySet", "kind", "version", "boundary", "algorithm", "kcv", "transport", "block"}, nil},
	ExportBlock:     {[]string{"change", "keySet", "kind", "version", "algorithm", "kcv", "transport", "block"}, nil},
	CreateBackup:    {[]string{"change"}, []string{"threshold", "holders", "vault"}},
}

// given are the fields that are written, but those that every kind takes.
func (f File) given() map[string]bool {
	return map[string]bool{
		"change": f.Change != "", "keySet": f.KeySet != "", "kind": f.Kind != "", "version": f.Version != 0, "boundary": f.Boundary != "",
		"transport": f.Transport != "", "algorithm": f.Algorithm != "", "bits": f.Bits != 0, "kcv": f.KCV != "", "parity": f.Parity != "",
		"custodians": f.Custodians != nil, "block": f.Block != "", "threshold": f.Threshold != 0, "holders": f.Holders != nil, "vault": f.Vault != "",
	}
}

// Read reads and validates a file. The error is a *strictyaml.Invalid where the file could be read.
func Read(path string) (*Plan, error) {
	var file File
	doc, err := strictyaml.Read(path, &file)
	if err != nil {
		return nil, err
	}
	plan, err := New(file, filepath.Dir(path))
	return plan, doc.Locate(path, err)
}

// checker collects problems.
type checker struct {
	dir      string
	problems []strictyaml.Problem
}

func (c *checker) refuse(field, reason string) {
	c.problems = append(c.problems, strictyaml.Problem{Field: field, Reason: reason})
}

func (c *checker) err(field string, err error) {
	if err != nil {
		c.refuse(field, err.Error())
	}
}

// path resolves the name of a file.
func (c *checker) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

var (
	changeID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	personName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._@'-]{0,62}$`)
	wholeKCV   = regexp.MustCompile(`^[0-9A-Fa-f]{6}([0-9A-Fa-f]{4})?$`)
	smallName  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

// New validates what a person wrote; dir is the folder that names of files are relative to. The error is a *strictyaml.Invalid with all
// problems.
func New(file File, dir string) (*Plan, error) {
	c := &checker{dir: dir}
	p := &Plan{Kind: Kind(file.Ceremony), Change: file.Change, Set: file.KeySet, Transport: file.Transport, Vault: file.Vault}
	if _, known := fieldsOf[p.Kind]; !known {
		c.refuse("ceremony", "expected import-key, import-transport, make-components, import-block, export-block or create-backup")
		return nil, &strictyaml.Invalid{Name: "ceremony", Problems: c.problems}
	}
	c.fields(p.Kind, file.given())
	if file.Change != "" && !changeID.MatchString(file.Change) {
		c.refuse("change", "expected 32 hex digits")
	}
	c.key(p, file)
	c.material(p, file)
	c.backup(p, file)
	p.Custodians = c.custodians(file.Custodians)
	p.Present = c.people("present", file.Present)
	p.Block, p.Record = c.path(file.Block), c.path(file.Record)
	if file.Record == "" {
		c.refuse("record", "missing")
	}
	if len(c.problems) > 0 {
		return nil, &strictyaml.Invalid{Name: "ceremony", Problems: c.problems}
	}
	return p, nil
}

// fields refuses what is missing and what has no use.
func (c *checker) fields(kind Kind, given map[string]bool) {
	uses := fieldsOf[kind]
	for _, field := range uses.needs {
		if !given[field] {
			c.refuse(field, "missing")
		}
		delete(given, field)
	}
	for _, field := range uses.may {
		delete(given, field)
	}
	var useless []string
	for field, is := range given {
		if is {
			useless = append(useless, field)
		}
	}
	slices.Sort(useless)
	for _, field := range useless {
		c.refuse(field, "has no use in "+string(kind))
	}
}

func (c *checker) key(p *Plan, file File) {
	var err error
	if file.Kind != "" {
		p.Name.Kind, err = keyderive.ParseKind(file.Kind)
		c.err("kind", err)
	}
	if p.Name.Version = file.Version; file.Version < 0 || file.Version > 255 {
		c.refuse("version", "expected 1 to 255")
	}
	if file.Boundary != "" {
		p.Boundary, err = keyderive.ParseBoundary(file.Boundary)
		c.err("boundary", err)
	}
	for field, name := range map[string]string{"keySet": file.KeySet, "transport": file.Transport} {
		if name != "" && !smallName.MatchString(name) {
			c.refuse(field, "expected small letters, digits and hyphens, at most 63")
		}
	}
}

// material reads what the key is made of. A master has the one length of its algorithm.
func (c *checker) material(p *Plan, file File) {
	if file.Algorithm == "" {
		return
	}
	bits := file.Bits
	if p.Set != "" && bits == 0 {
		bits = masterBits[file.Algorithm]
	}
	m, err := NewMaterial(file.Algorithm, bits)
	c.err("algorithm", err)
	p.Material = m
	if file.KCV != "" {
		if !wholeKCV.MatchString(file.KCV) || len(file.KCV) > 2*kcv.Size && file.Algorithm != rijndael {
			c.refuse("kcv", "expected six hex digits; of AES six or ten")
		}
		p.KCV = custody.CheckValue{Value: strings.ToUpper(file.KCV), Algorithm: m.checkValueName()}
	}
	switch {
	case file.Parity != "" && file.Algorithm != tdes:
		c.refuse("parity", "only 3DES has parity")
	case file.Parity == "" || file.Parity == "odd":
		p.OddParity = file.Algorithm == tdes
	case file.Parity != "any":
		c.refuse("parity", "expected odd or any")
	}
}

func (c *checker) custodians(files []CustodianFile) (custodians []Custodian) {
	if n := len(files); files != nil && (n < 2 || n > 3) {
		c.refuse("custodians", "expected 2 or 3")
	}
	seen := map[string]bool{}
	for i, f := range files {
		field := "custodians[" + strconv.Itoa(i) + "]"
		c.person(seen, field+".name", f.Name)
		custodian := Custodian{Name: f.Name}
		if f.KCV != "" {
			v, err := kcv.Parse(f.KCV)
			if err != nil { // it is not repeated: it may be the component, in the wrong place
				c.refuse(field+".kcv", "expected six hex digits")
			}
			custodian.KCV = v.String()
		}
		custodians = append(custodians, custodian)
	}
	return custodians
}

func (c *checker) people(field string, names []string) []string {
	seen := map[string]bool{}
	for i, name := range names {
		c.person(seen, field+"["+strconv.Itoa(i)+"]", name)
	}
	return names
}

// person refuses an empty or repeated name: two custodians are two persons.
func (c *checker) person(seen map[string]bool, field, name string) {
	folded := strings.ToLower(name)
	switch {
	case !personName.MatchString(name):
		c.refuse(field, "expected a name of letters, digits, spaces and . _ @ ' -, at most 63")
	case seen[folded]:
		c.refuse(field, name+" is there twice")
	}
	seen[folded] = true
}

func (c *checker) backup(p *Plan, file File) {
	if p.Kind != CreateBackup {
		return
	}
	p.Holders, p.Threshold = c.people("holders", file.Holders), file.Threshold
	switch {
	case (file.Vault != "") == (len(file.Holders) > 0):
		c.err("holders", errors.New("expected either holders with a threshold, or vault"))
	case file.Vault != "" && file.Threshold != 0:
		c.refuse("threshold", "has no use with vault")
	case file.Vault == "" && (file.Threshold < 2 || file.Threshold > len(file.Holders)):
		c.refuse("threshold", "expected 2 to the number of holders")
	}
}
