package custody

import (
	"cmp"
	"slices"

	"github.com/pursekeeper/pursekeeper/policy"
)

// Client finds a client by name; nil when there is none.
func (c *Catalogue) Client(name string) *policy.Client { return client(c.Rules, name) }

func client(rules policy.Rules, name string) *policy.Client {
	i := slices.IndexFunc(rules.Clients, func(one policy.Client) bool { return one.Name == name })
	if i < 0 {
		return nil
	}
	return &rules.Clients[i]
}

// document finds a policy document's text by name; "" when there is none: an empty one is not kept.
func document(rules policy.Rules, name string) (text string) {
	for _, d := range rules.Policies {
		if d.Name == name {
			return d.Text
		}
	}
	return ""
}

// Decides finds an officer who may act: one whose client, of the officer's name and of the role officer, is there and not suspended.
func (c *Catalogue) Decides(name string) (Officer, bool) {
	officer, there := c.Officer(name)
	one := c.Client(name)
	if !there || one == nil || one.Role != policy.Officer || one.Suspended {
		return Officer{}, false
	}
	return officer, true
}

// decide counts the officers who may act, but for those that are named.
func (c *Catalogue) decide(but ...string) (n int) {
	for _, o := range c.Officers {
		if _, may := c.Decides(o.Name); may && !slices.Contains(but, o.Name) {
			n++
		}
	}
	return n
}

// sorted are the rules in the order in which a catalogue keeps them. It changes nothing of what it was given.
func sorted(rules policy.Rules) policy.Rules {
	rules.Clients = slices.SortedFunc(slices.Values(rules.Clients), func(a, b policy.Client) int { return cmp.Compare(a.Name, b.Name) })
	for i := range rules.Clients {
		rules.Clients[i].KeySets = slices.Sorted(slices.Values(rules.Clients[i].KeySets))
	}
	rules.Policies = slices.SortedFunc(slices.Values(rules.Policies), func(a, b policy.Document) int { return cmp.Compare(a.Name, b.Name) })
	return rules
}

// completed is a change that says what its clients and documents were, where its author left that out.
func (c Catalogue) completed(change Change) Change {
	was := func(text, said string) string {
		if text == "" {
			return said
		}
		return cmp.Or(said, digest([]byte(text)))
	}
	if change.Client != nil && change.Client.Was == nil && change.Act != policy.AddClient {
		one := *change.Client
		if known := c.Client(one.Name); known != nil {
			before := *known
			one.Was = &before
		}
		change.Client = &one
	}
	if change.Policy == nil {
		return change
	}
	set := PolicyChange{Put: slices.Clone(change.Policy.Put), Remove: slices.Clone(change.Policy.Remove)}
	for i, d := range set.Put {
		set.Put[i].Was = was(document(c.Rules, d.Name), d.Was)
	}
	for i, d := range set.Remove {
		set.Remove[i].Was = was(document(c.Rules, d.Name), d.Was)
	}
	if change.Policy.Limits != nil {
		limits := *change.Policy.Limits
		limits.Was = was(c.limits(), limits.Was)
		set.Limits = &limits
	}
	change.Policy = &set
	return change
}

func (c Catalogue) limits() string {
	if c.Rules.Limits == nil {
		return ""
	}
	return c.Rules.Limits.Text
}

// allowClient is what the rules of the acts on clients say.
func (c Catalogue) allowClient(change Change) error {
	asked, known := change.Client, c.Client(change.Client.Name)
	switch adds := change.Act == policy.AddClient; {
	case adds && known != nil:
		return invalid("client %s is there already", asked.Name)
	case adds:
		return nil
	case known == nil:
		return invalid("there is no client %s", asked.Name)
	case !sameClient(*known, *asked.Was):
		return invalid("client %s is not as the change says that it was", asked.Name)
	case change.Act == policy.ReplaceClient && sameClient(*known, asked.becomes()):
		return invalid("client %s is so already", asked.Name)
	case change.Act == policy.SuspendClient && known.Suspended:
		return invalid("client %s is suspended already", asked.Name)
	case change.Act == policy.ResumeClient && !known.Suspended:
		return invalid("client %s is not suspended", asked.Name)
	case change.Act == policy.SuspendClient:
		return c.allowSuspension(change)
	}
	return nil
}

// allowSuspension keeps one officer from having all others out of office, for as long as he likes, by himself: without him and without the one
// whose client he suspends, enough must be left to decide on him.
func (c Catalogue) allowSuspension(change Change) error {
	if _, decides := c.Decides(change.Client.Name); !decides {
		return nil
	}
	if left := c.decide(change.Client.Name, change.Author); left <= c.Quorum.Most() {
		return invalid("%w: without %s and its author %s, %d officers would decide; a change takes its author and up to %d others",
			ErrOfficersFew, change.Client.Name, change.Author, left, c.Quorum.Most())
	}
	return nil
}

func sameClient(a, b policy.Client) bool {
	return a.Name == b.Name && a.Identity == b.Identity && a.Role == b.Role && slices.Equal(a.KeySets, b.KeySets) &&
		a.MaxAmountFen == b.MaxAmountFen && a.Suspended == b.Suspended
}

// becomes is the client as client.add and client.replace make it. A suspended one stays suspended.
func (c ClientChange) becomes() policy.Client {
	one := policy.Client{Name: c.Name, Identity: c.Identity, Role: c.Role, KeySets: slices.Clone(c.KeySets)}
	if c.Was != nil {
		one.Suspended = c.Was.Suspended
	}
	return one
}

// makesOfficersClient reports whether the change lets a certificate act for an officer that it did not act for.
func (c Change) makesOfficersClient() bool {
	switch {
	case c.Client == nil || c.Act == policy.SuspendClient || c.Act == policy.RemoveClient:
		return false
	case c.Act == policy.ResumeClient:
		return c.Client.Was != nil && c.Client.Was.Role == policy.Officer
	}
	return c.Client.Role == policy.Officer
}

// takesOfficersClient reports whether the change takes the certificate away by which an officer acts.
func (c Change) takesOfficersClient() bool {
	return c.Client != nil && c.Client.Was != nil && c.Client.Was.Role == policy.Officer && (c.Act == policy.RemoveClient || c.Act == policy.ReplaceClient)
}

// RulesAfter are the rules after an act on clients or policy.set, without a look at whether it is allowed; after any other act they are as they
// were. It changes nothing of what it was given.
func RulesAfter(rules policy.Rules, change Change) policy.Rules {
	if change.Client != nil {
		rules.Clients = clientsAfter(rules.Clients, change)
	}
	if change.Policy == nil {
		return sorted(rules)
	}
	gone := map[string]bool{}
	for _, d := range change.Policy.Put {
		gone[d.Name] = true
	}
	for _, d := range change.Policy.Remove {
		gone[d.Name] = true
	}
	rules.Policies = slices.DeleteFunc(slices.Clone(rules.Policies), func(d policy.Document) bool { return gone[d.Name] })
	for _, d := range change.Policy.Put {
		rules.Policies = append(rules.Policies, policy.Document{Name: d.Name, Text: d.Text})
	}
	switch limits := change.Policy.Limits; {
	case limits == nil:
	case limits.Remove:
		rules.Limits = nil
	default:
		rules.Limits = &policy.Document{Name: policy.LimitsDocument, Text: limits.Text}
	}
	return sorted(rules)
}

func clientsAfter(clients []policy.Client, change Change) []policy.Client {
	name := change.Client.Name
	after := slices.Clone(clients)
	switch change.Act {
	case policy.SuspendClient, policy.ResumeClient:
		for i := range after {
			if after[i].Name == name {
				after[i].Suspended = change.Act == policy.SuspendClient
			}
		}
		return after
	case policy.AddClient, policy.ReplaceClient, policy.RemoveClient:
		after = slices.DeleteFunc(after, func(one policy.Client) bool { return one.Name == name })
		if change.Act != policy.RemoveClient {
			after = append(after, change.Client.becomes())
		}
	}
	return after
}
