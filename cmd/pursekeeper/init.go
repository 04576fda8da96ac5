package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
)

// initCmd registers the first officers. Whoever may write the store and the configuration decides who they are: it is done once, with the
// officers present, and its record is kept.
type initCmd struct {
	Config   string            `help:"Configuration file of the signer; it names no key sets." required:"" type:"existingfile"`
	Officers map[string]string `name:"officer" help:"NAME=PUBKEYFILE of one officer; repeated. NAME is the officer's client in the configuration." required:"" placeholder:"NAME=FILE" mapsep:"none"`
	Quorum   int               `help:"How many officers other than its author must approve a change." required:"" placeholder:"N"`
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
		if !slices.ContainsFunc(p.config.Clients, func(one policy.Client) bool { return one.Name == name && one.Role == policy.Officer }) {
			return fmt.Errorf("officer %s: the configuration has no client of that name with the role officer", name)
		}
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
	office, err := p.office()
	if err != nil {
		return err
	}
	founded, err := office.Found(ctx, first)
	if err != nil {
		return err
	}
	digest, err := founded.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("catalogue   revision %d, SHA-256 %s\n", founded.Revision, digest)
	fmt.Printf("quorum      %d of the officers other than a change's author\n", founded.Quorum.Default)
	for _, o := range founded.Officers {
		fmt.Printf("officer     %-16s %s\n", o.Name, o.Fingerprint())
	}
	fmt.Println("Each officer compares its fingerprint with `ssh-keygen -lf KEY.pub`, and signs this page. It is the beginning of the record.")
	return nil
}
