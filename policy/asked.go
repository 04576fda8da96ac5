package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Asked is a request as a person writes it down: in a table of cases, or to have it explained. What is left out the request does not
// have.
type Asked struct {
	Client    string  `json:"client" yaml:"client"`                 // its name in the list of clients
	Operation string  `json:"operation" yaml:"operation"`           // a method of the API, or a command of SignCommand
	KeySet    string  `json:"keySet,omitempty" yaml:"keySet"`       // none of what officers decide on
	Command   string  `json:"command,omitempty" yaml:"command"`     // of SignCommand and AuthenticateCard, as the schema names them
	Permanent bool    `json:"permanent,omitempty" yaml:"permanent"` // of ApplicationBlock
	AmountFen *uint64 `json:"amountFen,omitempty" yaml:"amountFen"`
	Purse     string  `json:"purse,omitempty" yaml:"purse"`         // ED or EP
	Terminal  string  `json:"terminal,omitempty" yaml:"terminal"`   // 12 hex digits, letters as capitals
	Algorithm string  `json:"algorithm,omitempty" yaml:"algorithm"` // of the key set: 3DES or SM4
	Profile   string  `json:"profile,omitempty" yaml:"profile"`     // of the key set
	Time      string  `json:"time,omitempty" yaml:"time"`           // in the key set's zone: 2024-01-31T23:59:59+08:00
	Totals    Totals  `json:"totals,omitzero" yaml:"totals"`        // with the request itself counted
}

var (
	purseForm    = regexp.MustCompile(`^(ED|EP)?$`)
	terminalForm = regexp.MustCompile(`^([0-9A-F]{12})?$`)
)

// Request is a in the terms of p. An error names the field.
func (a Asked) Request(p *Policy) (Request, error) {
	r := Request{Operation: Operation(a.Operation), KeySet: a.KeySet}
	for _, c := range p.clients {
		if c.Name == a.Client {
			r.Caller = Caller{c}
		}
	}
	switch {
	case r.Caller.Name() == "":
		return r, fmt.Errorf("client: %q is not in the list of clients", a.Client)
	case !slices.Contains(Operations(), r.Operation):
		return r, fmt.Errorf("operation: %q is no method of the API", a.Operation)
	case r.Operation.OfKeySet() && !nameForm.MatchString(a.KeySet):
		return r, fmt.Errorf("keySet: %q, expected %s", a.KeySet, nameForm)
	case !r.Operation.OfKeySet() && a.KeySet != "":
		return r, fmt.Errorf("keySet: %s is of no key set", a.Operation)
	case !purseForm.MatchString(a.Purse):
		return r, fmt.Errorf("purse: %q, expected ED or EP", a.Purse)
	case !terminalForm.MatchString(a.Terminal):
		return r, fmt.Errorf("terminal: %q, expected 12 hex digits, letters as capitals", a.Terminal)
	case a.Command == "" && len(parts[r.Operation]) > 0, a.Command != "" && r.Operation.Action(a.Command) == string(r.Operation):
		return r, fmt.Errorf("command: %q, expected %s", a.Command, commandsOf(r.Operation))
	}
	r.Context = Context{
		Amount: a.AmountFen, Purse: a.Purse, Terminal: a.Terminal, Algorithm: a.Algorithm, Profile: a.Profile, Command: a.Command,
		Permanent: a.Permanent,
	}
	if a.Time == "" {
		return r, nil
	}
	var err error
	if r.Context.Time, err = time.Parse(time.RFC3339, a.Time); err != nil {
		return r, fmt.Errorf("time: %q, expected one such as 2024-01-31T23:59:59+08:00", a.Time)
	}
	return r, nil
}

func commandsOf(op Operation) string {
	var names []string
	for _, p := range parts[op] {
		names = append(names, p.action)
	}
	if len(names) == 0 {
		return "none of " + string(op)
	}
	return "one of " + strings.Join(names, ", ")
}
