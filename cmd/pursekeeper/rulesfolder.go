package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
	"github.com/pursekeeper/pursekeeper/policy"
)

// readRules reads a folder of rules: clients.yaml, a document for each *.cedar, and limits.yaml.
func readRules(dir string) (rules policy.Rules, err error) {
	var file struct {
		Clients []config.ClientFile `yaml:"clients"`
	}
	if _, err := strictyaml.Read(filepath.Join(dir, "clients.yaml"), &file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return rules, err
	}
	for _, c := range file.Clients {
		rules.Clients = append(rules.Clients, policy.Client{
			Name: c.Name, Identity: c.Identity, Role: policy.Role(c.Role), KeySets: c.KeySets, MaxAmountFen: uint64(c.MaxAmountFen),
		})
	}
	documents, err := filepath.Glob(filepath.Join(dir, "*.cedar"))
	if err != nil {
		return rules, err
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			return rules, err
		}
		rules.Policies = append(rules.Policies, policy.Document{Name: strings.TrimSuffix(filepath.Base(path), ".cedar"), Text: string(text)})
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return rules, nil
	}
	rules.Limits = &policy.Document{Name: "limits", Text: string(limits)}
	return rules, err
}

// shippedPolicies are the documents of the usual shapes.
func shippedPolicies() []policy.Document { return nil }
