package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	folder "github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

// documentName is a document's name that is a file's too; who answered it, or wrote it into a record, may lie.
var documentName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// writeRules writes rules as a new folder, in the form in which officers propose them.
func writeRules(dir string, rules policy.Rules) error {
	if err := absent(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var list struct {
		Clients []folder.Client `yaml:"clients"`
	}
	for _, c := range rules.Clients {
		list.Clients = append(list.Clients, folder.Client{Name: c.Name, Identity: c.Identity, Role: string(c.Role), KeySets: c.KeySets, Suspended: c.Suspended})
	}
	text, err := yaml.Marshal(list)
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, folder.ClientsFile), text); err != nil {
		return err
	}
	for _, d := range rules.Policies {
		if !documentName.MatchString(d.Name) {
			return fmt.Errorf("document %q: expected a name of the form %v", d.Name, documentName)
		}
		if err := writeNew(filepath.Join(dir, folder.DocumentFile(d.Name)), []byte(d.Text)); err != nil {
			return err
		}
	}
	if rules.Limits == nil {
		return nil
	}
	return writeNew(filepath.Join(dir, folder.LimitsFile), []byte(rules.Limits.Text))
}

// showRules prints rules, and writes them where a folder is named.
func showRules(rules policy.Rules, out string) error {
	for _, c := range rules.Clients {
		fmt.Printf("client %s\n", clientLine(c))
	}
	for _, d := range rules.Policies {
		showText("policy "+d.Name, d.Text)
	}
	if rules.Limits != nil {
		showText("limits", rules.Limits.Text)
	}
	if out == "" {
		return nil
	}
	return writeRules(out, rules)
}

func clientLine(c policy.Client) string {
	line := fmt.Sprintf("%-16s %-12s %s [%s]", printable(c.Name), printable(string(c.Role)), printable(c.Identity), printable(strings.Join(c.KeySets, " ")))
	if c.Suspended {
		line += " SUSPENDED"
	}
	return line
}

func showText(what, text string) {
	fmt.Printf("\n%s, SHA-256 %s\n", printable(what), digestOf(text))
	for line := range strings.Lines(text) {
		fmt.Printf("  %s\n", visible(strings.TrimSuffix(line, "\n")))
	}
}

// visible is a line of a document without what a terminal acts on, and without what turns its direction.
func visible(line string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ReplaceAll(line, "\t", "  "))
}
