// Package policy says who may do what, with which key set, up to what amount.
//
// It is pure and at the bottom of the house: no clock, no I/O, no import of the project but how a file is read. What it decides by are
// [Rules]: the clients, Cedar documents, and a document of limits, which officers approve and auditors read. [New] refuses documents
// that do not parse, do not fit the schema, or could lock officers out, with the line of each fault. [Policy.Decide] turns a request
// into a [Grant]; the signer's operations take a Grant and refuse the zero one, so that nothing is computed without a decision. The
// default is deny, and a forbid that cannot be judged denies.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Policy is a validated set of rules. The zero Policy knows nobody and denies everything.
type Policy struct {
	clients map[string]Client // by identity
	rules   []*rule           // the built-in ones, then those of the documents in their order
	digest  string
	limits  []*Limit
	signals Signals

	planning sync.RWMutex // guards plans, and nothing more: two requests may make the same plan
	plans    map[question]*plan
}

// New validates rules. The error is an *Invalid with all that is wrong.
func New(rules Rules) (*Policy, error) {
	if len(rules.Policies) == 0 {
		rules.Policies = Shipped()
	}
	clients, problems := checkClients(rules.Clients)
	p := &Policy{clients: clients, digest: rules.Digest()}
	compiled, faults := compile(rules.Policies, namesOf(rules.Clients))
	p.rules, problems = compiled, append(problems, faults...)
	problems = append(problems, p.limit(rules)...)
	if len(problems) == 0 {
		problems = p.lockouts()
	}
	if len(problems) > 0 {
		return nil, &Invalid{problems}
	}
	return p, nil
}

func namesOf(clients []Client) map[string]bool {
	names := make(map[string]bool, len(clients))
	for _, c := range clients {
		names[c.Name] = true
	}
	return names
}

// Digest identifies the policy in the record: SHA-256, in hex, over its clients in canonical order, and over the text of every document
// as it was written.
func (p *Policy) Digest() string { return p.digest }

// Digest is that of the policy of r, which need not be one that this program can decide by. It is over every byte that officers approved; the
// order in which clients and documents are listed is no part of it.
func (r Rules) Digest() string {
	if len(r.Policies) == 0 {
		r.Policies = Shipped()
	}
	var parts []string
	for _, c := range r.Clients {
		c.KeySets = slices.Sorted(slices.Values(c.KeySets))
		parts = append(parts, canonical("client", c))
	}
	for _, d := range r.Policies {
		parts = append(parts, canonical("policy", d))
	}
	slices.Sort(parts)
	if r.Limits != nil {
		parts = append(parts, canonical("limits", r.Limits))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

func canonical(what string, value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("bug: %s has no JSON: %v", what, err))
	}
	return what + " " + string(text) + "\n"
}
