package ceremony

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Plan is a validated ceremony. New makes it.
type Plan struct {
	Kind   Kind
	Change string // the id; "" of MakeComponents

	Set      string // of a master key, with its name and boundary
	Name     custody.Name
	Boundary keyderive.Boundary // zero of ExportBlock

	Transport string // the transport key's name, where one is imported, made or used

	Material   Material
	KCV        custody.CheckValue // that the whole key must have; zero of MakeComponents
	OddParity  bool               // each component's bytes have odd parity, or are refused
	Custodians []Custodian

	Block string // file of a key block

	Threshold int
	Holders   []string
	Vault     string

	Present []string
	Record  string // file
}

// Custodian is one person with one component.
type Custodian struct {
	Name string
	KCV  string // that the component must have; "" when the custodian compares it
}

// Subject names what the ceremony is about: SET/KIND/VERSION, or transport/NAME, or backup.
func (p *Plan) Subject() string {
	switch {
	case p.Set != "":
		return fmt.Sprintf("%s/%v/%d", p.Set, p.Name.Kind, p.Name.Version)
	case p.Transport != "":
		return "transport/" + p.Transport
	}
	return "backup"
}

// Act is the act that the change of this ceremony must be; "" of MakeComponents, which takes none.
func (p *Plan) Act() policy.Act {
	return map[Kind]policy.Act{
		ImportKey: policy.ImportKey, ImportBlock: policy.ImportKey, ImportTransport: policy.ImportTransport,
		ExportBlock: policy.ExportKey, CreateBackup: policy.CreateBackup,
	}[p.Kind]
}

// ErrMismatch is the error of a ceremony that is not what was approved. The differences are in its text, one a line.
var ErrMismatch = errors.New("the ceremony is not what was approved")

// differences collects what the file and the change say differently.
type differences []error

func differ[T comparable](d *differences, field string, file, change T) {
	if file != change {
		*d = append(*d, fmt.Errorf("%s: the file says %v, the change %v", field, file, change))
	}
}

// Match holds the plan against the change. Whether the change is approved and may be executed is not asked here.
func (p *Plan) Match(change custody.Change, catalogue custody.Catalogue) error {
	var d differences
	differ(&d, "change", p.Change, change.ID)
	differ(&d, "act", p.Act(), change.Act)
	if len(d) == 0 { // of another act there is nothing to compare
		switch {
		case change.Keys != nil:
			p.matchKey(&d, *change.Keys, catalogue)
		case change.Transport != nil:
			p.matchTransport(&d, *change.Transport)
		case change.Backup != nil:
			p.matchBackup(&d, *change.Backup)
		default:
			d = append(d, errors.New("the change has nothing that a ceremony does"))
		}
	}
	if len(d) > 0 {
		return fmt.Errorf("%w:\n%w", ErrMismatch, errors.Join(d...))
	}
	return nil
}

func (p *Plan) matchKey(d *differences, keys custody.KeysChange, catalogue custody.Catalogue) {
	differ(d, "keySet", p.Set, keys.Set)
	differ(d, "transport", p.Transport, keys.Transport)
	if len(keys.Keys) != 1 {
		*d = append(*d, fmt.Errorf("the change is about %d keys, a ceremony about one", len(keys.Keys)))
		return
	}
	key := keys.Keys[0]
	differ(d, "kind and version", p.Name, key.Name)
	differ(d, "kcv", p.KCV.Value, key.KCV)
	if p.Kind != ExportBlock {
		differ(d, "boundary", p.Boundary, key.Boundary)
	}
	p.matchCustodians(d, key.Components, key.Custodians)
	set := catalogue.KeySet(p.Set)
	if set == nil {
		*d = append(*d, fmt.Errorf("keySet: there is no key set %s", p.Set))
		return
	}
	differ(d, "algorithm", p.Material.Algorithm, set.Algorithm.String())
}

func (p *Plan) matchTransport(d *differences, t custody.TransportChange) {
	differ(d, "transport", p.Transport, t.Name)
	differ(d, "bits", p.Material.Bits, t.Bits)
	differ(d, "kcv", p.KCV.Value, t.KCV)
	p.matchCustodians(d, t.Components, t.Custodians)
}

// matchCustodians compares the names, in their order, where the change has them.
func (p *Plan) matchCustodians(d *differences, components int, names []string) {
	differ(d, "components", len(p.Custodians), components)
	if len(names) == 0 {
		return
	}
	mine := make([]string, len(p.Custodians))
	for i, c := range p.Custodians {
		mine[i] = c.Name
	}
	if !slices.Equal(mine, names) {
		*d = append(*d, fmt.Errorf("custodians: the file says %v, the change %v", mine, names))
	}
}

func (p *Plan) matchBackup(d *differences, b custody.BackupChange) {
	differ(d, "threshold", p.Threshold, b.Threshold)
	differ(d, "vault", p.Vault, b.Vault)
	if !slices.Equal(p.Holders, b.Holders) {
		*d = append(*d, fmt.Errorf("holders: the file says %v, the change %v", p.Holders, b.Holders))
	}
}
