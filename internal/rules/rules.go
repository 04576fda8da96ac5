// Package rules reads from disk what a policy is made of: a folder with the list of clients, the Cedar documents and the limits, as
// officers write them before they propose them.
//
//	clients.yaml    the clients; may be left out
//	NAME.cedar      a document of policies, one or more
//	limits.yaml     the limits; may be left out
//	cases.yaml      a table of what must be allowed and denied; not part of the rules
package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
	"github.com/pursekeeper/pursekeeper/policy"
)

// The files of a folder, beside NAME.cedar.
const (
	ClientsFile = "clients.yaml"
	LimitsFile  = "limits.yaml"
	CasesFile   = "cases.yaml"
	documentExt = ".cedar"
)

// DocumentFile is the file of a document of policies.
func DocumentFile(name string) string { return name + documentExt }

// Read reads a folder. What the texts say is judged by policy.New, not here. A file that is none of the above is an error: a document
// with a misspelt ending must not be left out unseen. So is a folder without a document.
func Read(dir string) (r policy.Rules, err error) {
	entries, err := os.ReadDir(dir) // in the order of their names
	if err != nil {
		return r, err
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(dir, e.Name())
		document, isDocument := strings.CutSuffix(name, documentExt)
		switch {
		case e.IsDir():
			err = fmt.Errorf("%s: is a folder, expected files alone", path)
		case name == ClientsFile:
			r.Clients, err = ReadClients(path)
		case name == CasesFile:
		case name == LimitsFile:
			r.Limits = &policy.Document{Name: policy.LimitsDocument}
			r.Limits.Text, err = text(path)
		case isDocument && (document == policy.ClientsDocument || document == policy.LimitsDocument):
			err = fmt.Errorf("%s: a document of policies has another name than the list of clients and the limits", path)
		case isDocument:
			d := policy.Document{Name: document}
			d.Text, err = text(path)
			r.Policies = append(r.Policies, d)
		default:
			err = fmt.Errorf("%s: expected only %s, %s, %s and files that end in %s", path, ClientsFile, LimitsFile, CasesFile, documentExt)
		}
		if err != nil {
			return policy.Rules{}, err
		}
	}
	if len(r.Policies) == 0 {
		return policy.Rules{}, fmt.Errorf("%s: no document of policies, expected at least one NAME%s", dir, documentExt)
	}
	return r, nil
}

func text(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(data)) == "" {
		return "", fmt.Errorf("%s: is empty: remove the file, if there is to be no such document", path)
	}
	return string(data), err
}

// Client is one caller as a person writes it.
type Client struct {
	// Name is what the record and policies call it; unique.
	Name string `yaml:"name"`
	// Identity is a URI or a DNS name that the client's certificate carries; unique.
	Identity string `yaml:"identity"`
	// Role is platform, reader, officer, auditor, personaliser or operator.
	Role string `yaml:"role"`
	// KeySets are those that policies let it use as its own: principal.keySets.
	KeySets []string `yaml:"keySets"`
	// Suspended: it is known, and may do nothing.
	Suspended bool `yaml:"suspended"`
}

// ReadClients reads a list of clients. Whether names, identities and roles are good is judged by policy.New. The error is a
// *strictyaml.Invalid where the file could be read.
func ReadClients(path string) ([]policy.Client, error) {
	var file struct {
		Clients []Client `yaml:"clients"`
	}
	if _, err := strictyaml.Read(path, &file); err != nil {
		return nil, err
	}
	clients := make([]policy.Client, len(file.Clients))
	for i, c := range file.Clients {
		clients[i] = policy.Client{Name: c.Name, Identity: c.Identity, Role: policy.Role(c.Role), KeySets: c.KeySets, Suspended: c.Suspended}
	}
	return clients, nil
}

// Locate says the problems of an *policy.Invalid by the files of the folder that they are in.
func Locate(dir string, err error) error {
	var invalid *policy.Invalid
	if !errors.As(err, &invalid) {
		return err
	}
	located := &policy.Invalid{}
	for _, p := range invalid.Problems {
		switch p.Document {
		case policy.ClientsDocument:
			p.Document = filepath.Join(dir, ClientsFile)
		case policy.LimitsDocument:
			p.Document = filepath.Join(dir, LimitsFile)
		default:
			p.Document = filepath.Join(dir, DocumentFile(p.Document))
		}
		located.Problems = append(located.Problems, p)
	}
	return located
}
