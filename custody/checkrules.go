package custody

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pursekeeper/pursekeeper/policy"
)

// The forms of what rules name. A client's name is an officer's where it is an officer's client.
var (
	clientName     = officerName
	clientIdentity = regexp.MustCompile(`^([a-z][a-z0-9+.-]*://[!-~]{1,400}|[A-Za-z0-9][A-Za-z0-9.-]{0,252})$`)
)

// mostSets bounds the key sets of a client.
const mostSets = 256

// check is what is wrong with the member client of an act, whatever the catalogue is.
func (c ClientChange) check(act policy.Act) error {
	takesAll := act == policy.AddClient || act == policy.ReplaceClient
	switch {
	case !clientName.MatchString(c.Name):
		return fmt.Errorf("client.name %q: expected %v", c.Name, clientName)
	case !takesAll && (c.Identity != "" || c.Role != "" || len(c.KeySets) > 0):
		return fmt.Errorf("client: %s takes a name alone", act)
	case act == policy.AddClient && c.Was != nil:
		return errors.New("client.was: not of client.add")
	case act != policy.AddClient && c.Was == nil:
		return fmt.Errorf("client.was: missing: there is no client %s", c.Name)
	case c.Was != nil && c.Was.Name != c.Name:
		return fmt.Errorf("client.was.name %q: expected %q", c.Was.Name, c.Name)
	case !takesAll:
		return nil
	}
	if err := checkClient(c.becomes()); err != nil {
		return fmt.Errorf("client.%w", err)
	}
	return nil
}

func checkClient(c policy.Client) error {
	switch {
	case !clientName.MatchString(c.Name):
		return fmt.Errorf("name %q: expected %v", c.Name, clientName)
	case !clientIdentity.MatchString(c.Identity):
		return fmt.Errorf("identity %q: expected a URI, such as spiffe://example.org/platform, or a DNS name", c.Identity)
	case !slices.Contains(policy.Roles(), c.Role):
		return fmt.Errorf("role %q: expected one of %v", c.Role, policy.Roles())
	case len(c.KeySets) > mostSets:
		return fmt.Errorf("keySets: %d, expected at most %d", len(c.KeySets), mostSets)
	case !strictly(c.KeySets, cmp.Compare[string]):
		return errors.New("keySets: expected each once, in order")
	case c.MaxAmountFen != 0:
		return errors.New("maxAmountFen: not of a client that officers decide on: write a limit")
	}
	for _, set := range c.KeySets { // one that is not there yet may be named
		if !setName.MatchString(set) {
			return fmt.Errorf("keySets: %q: expected a key set's name", set)
		}
	}
	return nil
}

// check is what is wrong with the member policy, whatever the catalogue is.
func (p PolicyChange) check() error {
	switch {
	case len(p.Put)+len(p.Remove) == 0 && p.Limits == nil:
		return errors.New("policy: expected put, remove or limits")
	case !strictly(p.Put, func(a, b DocumentChange) int { return cmp.Compare(a.Name, b.Name) }),
		!strictly(p.Remove, func(a, b DocumentRemoval) int { return cmp.Compare(a.Name, b.Name) }):
		return errors.New("policy: put and remove: expected each document once, in the order of names")
	}
	put := map[string]bool{}
	for i, d := range p.Put {
		put[d.Name] = true
		if err := checkText(d.Name, d.Text, d.Was); err != nil {
			return fmt.Errorf("policy.put[%d].%w", i, err)
		}
	}
	for i, d := range p.Remove {
		if put[d.Name] {
			return fmt.Errorf("policy.remove[%d]: %s is put, too", i, d.Name)
		}
		if err := checkRemoval(d.Name, d.Was); err != nil {
			return fmt.Errorf("policy.remove[%d].%w", i, err)
		}
	}
	var err error
	switch limits := p.Limits; {
	case limits == nil:
	case limits.Remove && limits.Text != "":
		err = errors.New("text: of limits that are removed")
	case limits.Remove:
		err = checkRemoval(policy.LimitsDocument, limits.Was)
	default:
		err = checkText(policy.LimitsDocument, limits.Text, limits.Was)
	}
	if err != nil {
		return fmt.Errorf("policy.limits.%w", err)
	}
	return nil
}

func checkText(name, text, was string) error {
	switch {
	case !setName.MatchString(name):
		return fmt.Errorf("name %q: expected %v", name, setName)
	case strings.TrimSpace(text) == "" || !utf8.ValidString(text):
		return fmt.Errorf("text: of document %s: expected UTF-8, and not nothing", name)
	case was != "" && !sha256Hex.MatchString(was):
		return fmt.Errorf("was %q: expected SHA-256 in 64 hex digits", was)
	case was == digest([]byte(text)):
		return fmt.Errorf("text: document %s is so already", name)
	}
	return nil
}

func checkRemoval(name, was string) error {
	switch {
	case !setName.MatchString(name):
		return fmt.Errorf("name %q: expected %v", name, setName)
	case was == "":
		return fmt.Errorf("was: missing: there is no document %s", name)
	case !sha256Hex.MatchString(was):
		return fmt.Errorf("was %q: expected SHA-256 in 64 hex digits", was)
	}
	return nil
}

// allowPolicy holds what a change says that documents were against what they are.
func (c Catalogue) allowPolicy(p PolicyChange) error {
	was := map[string]string{}
	for _, d := range p.Put {
		was[d.Name] = d.Was
	}
	for _, d := range p.Remove {
		was[d.Name] = d.Was
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if !isText(document(c.Rules, name), was[name]) {
			return invalid("document %s is not as the change says that it was", name)
		}
	}
	if p.Limits != nil && !isText(c.limits(), p.Limits.Was) {
		return invalid("the limits are not as the change says that they were")
	}
	return nil
}

// isText reports whether a digest is the text's; "" is that of no text.
func isText(text, sum string) bool {
	if text == "" {
		return sum == ""
	}
	return sum == digest([]byte(text))
}

// checkRules is what always holds of rules: each client and document is there once, in order, and they compile.
func checkRules(rules policy.Rules) error {
	if !strictly(rules.Clients, func(a, b policy.Client) int { return cmp.Compare(a.Name, b.Name) }) {
		return invalid("clients are not each there once, in order")
	}
	for _, c := range rules.Clients {
		if err := checkClient(c); err != nil {
			return invalid("client %s: %v", c.Name, err)
		}
	}
	if !strictly(rules.Policies, func(a, b policy.Document) int { return cmp.Compare(a.Name, b.Name) }) {
		return invalid("policy documents are not each there once, in order")
	}
	if len(rules.Policies) == 0 { // policy.New would take others in their place
		return invalid("there is no policy document: nobody but officers could do anything")
	}
	for _, d := range rules.Policies {
		if !setName.MatchString(d.Name) {
			return invalid("policy document %q: expected a name of the form %v", d.Name, setName)
		}
	}
	if rules.Limits != nil && rules.Limits.Name != policy.LimitsDocument {
		return invalid("the document of limits has the name %q, expected %q", rules.Limits.Name, policy.LimitsDocument)
	}
	if _, err := compiled(rules); err != nil {
		return fmt.Errorf("%w: the rules cannot be used: %w", ErrInvalid, err)
	}
	return nil
}

// checkNames refuses rules that name a key set which is not there, and which the rules before did not name: it is misspelt, or comes first. Those of
// the first catalogue may name what is yet to come.
func (c Catalogue) checkNames(next policy.Rules) error {
	var known []string
	for _, set := range c.KeySets {
		known = append(known, set.Name)
	}
	if before, err := compiled(c.Rules); err == nil {
		known = append(known, before.KeySets()...)
	}
	after, err := compiled(next)
	if err == nil {
		err = after.CheckKeySets(known)
	}
	if err != nil {
		return fmt.Errorf("%w: the rules cannot be used: %w", ErrInvalid, err)
	}
	return nil
}
