package policy

import (
	"fmt"
	"slices"
)

// Client is one caller: the exact URI or DNS name in its certificate, one role, and the key sets that it may use.
type Client struct {
	Name     string   `json:"name"`
	Identity string   `json:"identity"`
	Role     Role     `json:"role"`
	KeySets  []string `json:"keySets,omitempty"`
	// MaxAmountFen is the largest amount of one of its transactions in fen; 0: no ceiling of its own.
	MaxAmountFen uint64 `json:"maxAmountFen,omitempty"`
	// Suspended: it is known, and may do nothing.
	Suspended bool `json:"suspended,omitempty"`
}

// Caller is a client that its certificate proved. The zero Caller is nobody.
type Caller struct{ client Client }

// Name is the client's name, "" for nobody.
func (c Caller) Name() string { return c.client.Name }

// Role is the client's role.
func (c Caller) Role() Role { return c.client.Role }

// Role is the role that a caller has by this policy; of one that it does not know, the role by which he was identified.
func (p *Policy) Role(c Caller) Role {
	if p == nil || p.clients[c.client.Identity].Name != c.client.Name {
		return c.client.Role
	}
	return p.clients[c.client.Identity].Role
}

// ClientsDocument is the name of the list of clients in a Problem.
const ClientsDocument = "clients"

// checkClients returns the clients by identity, and what is wrong with them: names and identities are unique, roles are known.
func checkClients(clients []Client) (byIdentity map[string]Client, problems []Problem) {
	byIdentity = make(map[string]Client, len(clients))
	names := make(map[string]bool, len(clients))
	for i, c := range clients {
		var problem string
		switch {
		case c.Name == "":
			problem = fmt.Sprintf("client %d: name is empty", i+1)
		case names[c.Name]:
			problem = fmt.Sprintf("client %q: name is used twice", c.Name)
		case c.Identity == "":
			problem = fmt.Sprintf("client %q: identity is empty", c.Name)
		case byIdentity[c.Identity].Name != "":
			problem = fmt.Sprintf("client %q: identity %q is also client %q's", c.Name, c.Identity, byIdentity[c.Identity].Name)
		case !slices.Contains(Roles(), c.Role):
			problem = fmt.Sprintf("client %q: role %q: expected one of %v", c.Name, c.Role, Roles())
		}
		if problem != "" {
			problems = append(problems, Problem{Document: ClientsDocument, Text: problem})
			continue
		}
		c.KeySets = slices.Sorted(slices.Values(c.KeySets))
		names[c.Name] = true
		byIdentity[c.Identity] = c
	}
	return byIdentity, problems
}

// Identify finds the one client among the names that a verified certificate carries; none, or two, is a denial.
func (p *Policy) Identify(names []string) (Caller, error) {
	var found Caller
	for _, name := range names {
		client, ok := p.clients[name]
		if !ok {
			continue
		}
		if found.client.Name != "" && found.client.Name != client.Name {
			return Caller{}, &Denied{Reason: "the certificate names two clients"}
		}
		found = Caller{client}
	}
	if found.client.Name == "" {
		return Caller{}, &Denied{Reason: "the certificate names no client of this signer"}
	}
	if found.client.Suspended {
		return found, &Denied{Reason: fmt.Sprintf("client %s is suspended", found.client.Name)}
	}
	return found, nil
}
