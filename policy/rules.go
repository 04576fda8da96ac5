package policy

import (
	_ "embed" // the shipped documents
	"fmt"
	"strings"
)

// Rules are all that decides who may do what, up to how much: what officers approve and auditors read.
type Rules struct {
	Clients []Client `json:"clients,omitempty"`
	// Policies are Cedar documents; a permission is a permit of one of them that no forbid of any takes back. Without one, New takes those of
	// Shipped, which is for tests and development: what officers approve always has its documents.
	Policies []Document `json:"policies,omitempty"`
	// Limits is the document of ceilings and alarms; nil: there are none but those of the policies.
	Limits *Document `json:"limits,omitempty"`
}

// Document is one text that officers approved, exactly as they wrote it.
type Document struct {
	Name string `json:"name"` // [a-z0-9][a-z0-9-]{0,62}
	Text string `json:"text"`
}

// Problem is one thing that is wrong with Rules.
type Problem struct {
	Document string // its name; "clients" for the list of clients
	Line     int    // from 1; 0 where it is not known, as in the list of clients
	Column   int    // in characters, from 1; 0 where it is not known
	Text     string
}

// String is the problem as compilers write it.
func (p Problem) String() string {
	switch {
	case p.Line == 0:
		return fmt.Sprintf("%s: %s", p.Document, p.Text)
	case p.Column == 0:
		return fmt.Sprintf("%s:%d: %s", p.Document, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.Document, p.Line, p.Column, p.Text)
}

// Invalid is the error of Rules: all that is wrong with them.
type Invalid struct{ Problems []Problem }

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// The shipped documents.
var (
	//go:embed shipped/platform.cedar
	shippedPlatform string
	//go:embed shipped/reader.cedar
	shippedReader string
	//go:embed shipped/auditor.cedar
	shippedAuditor string
	//go:embed shipped/officer.cedar
	shippedOfficer string
	//go:embed shipped/personaliser.cedar
	shippedPersonaliser string
	//go:embed shipped/cases.yaml
	shippedCasesText string
)

// Shipped returns the documents for the usual shapes, one for each role that has rights, by name.
func Shipped() []Document {
	return []Document{
		{"auditor", shippedAuditor}, {"officer", shippedOfficer}, {"personaliser", shippedPersonaliser},
		{"platform", shippedPlatform}, {"reader", shippedReader},
	}
}

// ShippedCases is the table of what the shipped documents allow and deny.
func ShippedCases() string { return shippedCasesText }
