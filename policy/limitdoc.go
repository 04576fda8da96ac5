package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
)

// limitsFile is the document of limits as an officer writes it (docs/limits.md).
type limitsFile struct {
	Limits  []limitEntry  `yaml:"limits"`
	Signals []signalEntry `yaml:"signals"`
}

// limitEntry is one of its limits. A pointer tells a number that is left out from 0.
type limitEntry struct {
	Name       string   `yaml:"name"`
	Operations []string `yaml:"operations"`
	KeySets    []string `yaml:"keySets"`
	Clients    []string `yaml:"clients"`
	Roles      []string `yaml:"roles"`
	Purses     []string `yaml:"purses"`
	Terminals  []string `yaml:"terminals"`
	Per        string   `yaml:"per"`
	Period     string   `yaml:"period"`
	MaxFen     *int64   `yaml:"maxFen"`
	MaxCount   *int64   `yaml:"maxCount"`
	AlarmFen   *int64   `yaml:"alarmFen"`
	AlarmCount *int64   `yaml:"alarmCount"`
}

// Bounds of what a document says, so that a slip of the finger is found.
const (
	mostFen   = 1_000_000_000_000_000 // ten thousand billion yuan
	mostCount = 1_000_000_000
	mostOne   = 4_294_967_295 // fen of one transaction, and of a balance
	mostOf    = 200           // limits of one document
)

// limitable are the operations that a limit may name; running totals and balances are of the first two, and of loads.
var limitable = []Operation{AuthorizeLoad, AuthorizeUnload, AuthorizeOverdraft, BeginPurchase}

var (
	limitKeySet   = nameForm
	limitTerminal = regexp.MustCompile(`^[0-9A-F]{12}$`)
)

// limitsReader reads a document of limits and keeps what is wrong with it.
type limitsReader struct {
	name     string
	doc      strictyaml.Document
	clients  []Client
	problems []Problem
}

// readLimits reads the document of limits; the problems are all that are wrong with it, with their lines. Clients are those that it may name.
func readLimits(document Document, clients []Client) (limits []*Limit, signals Signals, problems []Problem) {
	r := limitsReader{name: document.Name, clients: clients}
	syntax := func(found ...strictyaml.Problem) {
		for _, p := range found {
			text := p.Reason
			if p.Field != "" {
				text = p.Field + ": " + text
			}
			r.problems = append(r.problems, Problem{Document: r.name, Line: p.Line, Text: text})
		}
	}
	if len(document.Text) > maxDocument {
		syntax(strictyaml.Problem{Reason: fmt.Sprintf("%d bytes, expected at most %d", len(document.Text), maxDocument)})
		return nil, signals, r.problems
	}
	if problem, ok := unseen(document); ok {
		return nil, signals, []Problem{problem}
	}
	var err error
	if r.doc, err = strictyaml.Parse([]byte(document.Text)); err != nil {
		syntax(strictyaml.Syntax(err))
		return nil, signals, r.problems
	}
	var file limitsFile
	if found := r.doc.Decode(&file); found != nil {
		syntax(found...)
		return nil, signals, r.problems
	}
	if len(file.Limits) > mostOf {
		r.refuse("limits", "%d, expected at most %d", len(file.Limits), mostOf)
	}
	for i, entry := range file.Limits {
		limits = append(limits, r.limit(fmt.Sprintf("limits[%d]", i), entry))
	}
	signals = r.signals(file.Signals)
	if len(r.problems) == 0 {
		r.contradictions(limits)
	}
	if len(r.problems) > 0 {
		return nil, signals, r.problems
	}
	return limits, signals, nil
}

// refuse adds a problem with a field.
func (r *limitsReader) refuse(field, format string, arguments ...any) {
	r.problems = append(r.problems, Problem{
		Document: r.name, Line: r.doc.Line(field), Text: field + ": " + fmt.Sprintf(format, arguments...),
	})
}

// limit reads one limit by itself.
func (r *limitsReader) limit(field string, e limitEntry) *Limit {
	l := &Limit{
		Name: e.Name, KeySets: e.KeySets, Clients: e.Clients, Purses: e.Purses, Terminals: e.Terminals,
		Per: Per(e.Per), Period: Period(e.Period), document: r.name,
	}
	for i := range l.KeySets {
		l.keySetLines = append(l.keySetLines, r.doc.Line(fmt.Sprintf("%s.keySets[%d]", field, i)))
	}
	for _, op := range e.Operations {
		l.Operations = append(l.Operations, Operation(op))
	}
	for _, role := range e.Roles {
		l.Roles = append(l.Roles, Role(role))
	}
	if len(l.Operations) == 0 {
		l.Operations = []Operation{AuthorizeLoad}
	}
	if !nameForm.MatchString(l.Name) {
		r.refuse(field+".name", "%q, expected %v", l.Name, nameForm)
	}
	running := l.Per == PerCard || l.Per == PerClient || l.Per == PerTerminal
	switch {
	case !running && l.Per != PerTransaction && l.Per != PerBalance:
		r.refuse(field+".per", "%q, expected transaction, balance, card, client or terminal", l.Per)
	case running && l.Period != Day && l.Period != Hour:
		r.refuse(field+".period", "%q, expected day or hour", l.Period)
	case !running && l.Period != NoPeriod:
		r.refuse(field+".period", "%q: a limit per %s has no period", l.Period, l.Per)
	}
	r.filter(field, l)
	r.numbers(field, e, l)
	return l
}

// filter checks to which requests a limit applies.
func (r *limitsReader) filter(field string, l *Limit) {
	of := limitable
	switch l.Per {
	case PerBalance:
		of = limitable[:1]
	case PerCard, PerClient, PerTerminal:
		of = limitable[:2]
	}
	known := map[string]bool{}
	for _, c := range r.clients {
		known[c.Name] = true
	}
	each(r, field+".operations", l.Operations, func(op Operation) bool { return slices.Contains(of, op) },
		fmt.Sprintf("expected one of %v for a limit per %s", of, l.Per))
	each(r, field+".keySets", l.KeySets, limitKeySet.MatchString, "expected a key set's name")
	each(r, field+".clients", l.Clients, func(name string) bool { return known[name] }, "there is no such client")
	each(r, field+".roles", l.Roles, func(role Role) bool { return slices.Contains(Roles(), role) }, fmt.Sprintf("expected one of %v", Roles()))
	each(r, field+".purses", l.Purses, func(purse string) bool { return purse == "ED" || purse == "EP" }, "expected ED or EP")
	each(r, field+".terminals", l.Terminals, limitTerminal.MatchString, "expected 12 hex digits, letters as capitals")
}

// each checks the values of a list, which are there once.
func each[T cmp.Ordered](r *limitsReader, field string, list []T, good func(T) bool, otherwise string) {
	for i, value := range list {
		switch at := fmt.Sprintf("%s[%d]", field, i); {
		case !good(value):
			r.refuse(at, "%q: %s", fmt.Sprint(value), otherwise)
		case slices.Contains(list[:i], value):
			r.refuse(at, "%q is there twice", fmt.Sprint(value))
		}
	}
}

// numbers checks how much a limit allows.
func (r *limitsReader) numbers(field string, e limitEntry, l *Limit) {
	one := l.Per == PerTransaction || l.Per == PerBalance
	most := int64(mostFen)
	if one {
		most = mostOne
	}
	given := 0
	for _, n := range []struct {
		name    string
		written *int64
		most    int64
		running bool // it is of running totals alone
		into    *int64
	}{
		{"maxFen", e.MaxFen, most, false, &l.MaxFen},
		{"maxCount", e.MaxCount, mostCount, true, &l.MaxCount},
		{"alarmFen", e.AlarmFen, most, true, &l.AlarmFen},
		{"alarmCount", e.AlarmCount, mostCount, true, &l.AlarmCount},
	} {
		if n.written == nil {
			continue
		}
		given++
		*n.into = *n.written
		switch at := field + "." + n.name; {
		case one && n.running:
			r.refuse(at, "a limit per %s has no running total: it has a maxFen alone", l.Per)
		case *n.written == 0:
			r.refuse(at, "is 0, expected 1 to %d: what is never allowed is forbidden by a policy", n.most)
		case *n.written < 0 || *n.written > n.most:
			r.refuse(at, "is %d, expected 1 to %d", *n.written, n.most)
		}
	}
	if given == 0 {
		r.refuse(field, "has no number, expected maxFen, maxCount, alarmFen or alarmCount")
	}
}
