package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/pursekeeper/pursekeeper/custody"
	folder "github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

// initCmd registers the first officers, and the first rules. Whoever may write the store decides who they are: it is done once, with the
// officers present, and its record is kept.
type initCmd struct {
	Config     string            `help:"Configuration file of the signer; it names no key sets and no clients." required:"" type:"existingfile"`
	Officers   map[string]string `name:"officer" help:"NAME=PUBKEYFILE of one officer; repeated." required:"" placeholder:"NAME=FILE" mapsep:"none"`
	Identities map[string]string `name:"identity" help:"NAME=URI of one officer: the exact URI or DNS name in the certificate of its client; repeated. Not of one whose client is in the folder of --rules." placeholder:"NAME=URI" mapsep:"none"`
	KeySets    []string          `help:"The key sets that the clients of --identity may use; they need not be there yet." placeholder:"SET,…"`
	Rules      string            `help:"Folder of the first rules: NAME.cedar, one or more, and clients.yaml and limits.yaml, which may be left out. Without it: the shipped documents." type:"existingdir" xor:"clients"`
	Clients    string            `help:"clients.yaml without a folder around it." type:"existingfile" xor:"clients"`
	Quorum     int               `help:"How many officers other than its author must approve a change." required:"" placeholder:"N"`
}

// Run makes the catalogue's first revision, and prints what is to be kept on paper.
func (c *initCmd) Run(ctx context.Context) (err error) {
	p, err := openPapers(ctx, c.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	if !p.config.Catalogued() {
		return errors.New("the configuration names key sets; officers decide on those of the catalogue: leave keySets out")
	}
	first := custody.Catalogue{Quorum: policy.Quorum{Default: c.Quorum}}
	for _, name := range slices.Sorted(maps.Keys(c.Officers)) {
		file, err := os.ReadFile(c.Officers[name])
		if err != nil {
			return fmt.Errorf("officer %s: %w", name, err)
		}
		key, err := custody.ReadPublicKey(file)
		if err != nil {
			return fmt.Errorf("officer %s: %s: %w", name, c.Officers[name], err)
		}
		first.Officers = append(first.Officers, custody.Officer{Name: name, Key: key})
	}
	if first.Rules, err = c.rules(); err != nil {
		return err
	}
	office, err := p.office()
	if err != nil {
		return err
	}
	founded, err := office.Found(ctx, first)
	if err != nil {
		return err
	}
	return c.print(founded)
}

// rules are the first rules: those of the folder, with a client for each officer.
func (c *initCmd) rules() (rules policy.Rules, err error) {
	switch {
	case c.Rules != "":
		rules, err = folder.Read(c.Rules)
	case c.Clients != "":
		rules.Clients, err = folder.ReadClients(c.Clients)
	}
	if err != nil {
		return rules, err
	}
	if c.Rules == "" {
		rules.Policies = policy.Shipped()
	}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		if c.Officers[name] == "" {
			return rules, fmt.Errorf("--identity %s: there is no --officer %s", name, name)
		}
		rules.Clients = append(rules.Clients, policy.Client{Name: name, Identity: c.Identities[name], Role: policy.Officer, KeySets: c.KeySets})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Officers)) {
		if !slices.ContainsFunc(rules.Clients, func(one policy.Client) bool { return one.Name == name && one.Role == policy.Officer }) {
			return rules, fmt.Errorf("officer %s: there is no client of that name with the role officer: give --identity %s=URI, or write it in clients.yaml", name, name)
		}
	}
	return rules, nil
}

func (c *initCmd) print(founded custody.Catalogue) error {
	digest, err := founded.Digest()
	if err != nil {
		return err
	}
	compiled, err := policy.New(founded.Rules)
	if err != nil {
		return err
	}
	fmt.Printf("catalogue   revision %d, SHA-256 %s\n", founded.Revision, digest)
	fmt.Printf("quorum      %d of the officers other than a change's author\n", founded.Quorum.Default)
	for _, o := range founded.Officers {
		fmt.Printf("officer     %-16s %s\n", o.Name, o.Fingerprint())
	}
	for _, one := range founded.Rules.Clients {
		fmt.Printf("client      %-16s %-12s %s %v\n", one.Name, one.Role, one.Identity, one.KeySets)
	}
	for _, d := range founded.Rules.Policies {
		fmt.Printf("policy      %-16s SHA-256 %s\n", d.Name, digestOf(d.Text))
	}
	if d := founded.Rules.Limits; d != nil {
		fmt.Printf("limits      %-16s SHA-256 %s\n", "", digestOf(d.Text))
	}
	fmt.Printf("rules       SHA-256 %s\n", compiled.Digest())
	fmt.Println("Each officer compares its fingerprint with `ssh-keygen -lf KEY.pub`, and signs this page. It is the beginning of the record.")
	return nil
}
