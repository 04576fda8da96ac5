package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

// policyCmd is for those who write, approve and audit policies. It changes nothing that runs: policies take effect
// only by a change that officers approve.
type policyCmd struct {
	Check   policyCheckCmd   `cmd:"" help:"Read a folder of rules, refuse what is wrong with its line, and say in words who may do what."`
	Test    policyTestCmd    `cmd:"" help:"Hold rules against a table of what they must allow and deny. Ends with 0 only when all came out so."`
	Explain policyExplainCmd `cmd:"" help:"Decide one request, and say of every policy whether it applied or why it did not."`
	Diff    policyDiffCmd    `cmd:"" help:"Compare two folders of rules: documents, clients, policies, and every right that changes."`
	Show    policyShowCmd    `cmd:"" help:"Show the clients, policy documents and limits in force; write them as a folder."`
	Shipped policyShippedCmd `cmd:"" help:"Write the documents for the usual shapes, and their table of cases, to a new folder, to start from."`
	Schema  policySchemaCmd  `cmd:"" help:"Print the schema: what policies can be about."`
}

// readRules reads a folder, and refuses rules that are wrong.
func readRules(dir string) (policy.Rules, *policy.Policy, error) {
	r, err := rules.Read(dir)
	if err != nil {
		return r, nil, err
	}
	p, err := policy.New(r)
	return r, p, rules.Locate(dir, err)
}

// configuredRules are those of a development configuration: its clients, under the shipped documents.
func configuredRules(file string) (policy.Rules, *policy.Policy, []string, error) {
	cfg, err := config.Read(file)
	if err != nil {
		return policy.Rules{}, nil, nil, err
	}
	if len(cfg.Clients) == 0 {
		return policy.Rules{}, nil, nil, fmt.Errorf("%s: has no clients, its officers decide on the rules: \"pursekeeper policy show --out FOLDER\" writes those in force", file)
	}
	var names []string
	for _, set := range cfg.KeySets {
		names = append(names, set.Name)
	}
	r := policy.Rules{Clients: cfg.Clients, Policies: policy.Shipped()}
	p, err := policy.New(r)
	if err == nil {
		err = p.CheckKeySets(names)
	}
	return r, p, names, err
}

type policyShippedCmd struct {
	Dir string `arg:"" help:"The folder to make."`
}

// Run writes the documents as they are in the program.
func (c *policyShippedCmd) Run() error {
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		return err
	}
	for _, d := range policy.Shipped() {
		if err := writeNew(filepath.Join(c.Dir, rules.DocumentFile(d.Name)), []byte(d.Text)); err != nil {
			return err
		}
	}
	return writeNew(filepath.Join(c.Dir, rules.CasesFile), []byte(policy.ShippedCases()))
}

type policySchemaCmd struct{}

// Run prints the schema.
func (c *policySchemaCmd) Run() error {
	_, err := fmt.Print(policy.Schema())
	return err
}
