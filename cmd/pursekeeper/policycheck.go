package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/policy"
)

type policyCheckCmd struct {
	Dir    string `arg:"" optional:"" help:"The folder: clients.yaml, NAME.cedar, limits.yaml."`
	Config string `help:"A development configuration instead, whose clients have the shipped documents."`
}

// Run refuses what is wrong, and says the rest in words.
func (c *policyCheckCmd) Run() error {
	var r policy.Rules
	var p *policy.Policy
	var sets []string
	var err error
	switch {
	case (c.Dir == "") == (c.Config == ""):
		return errors.New("expected a folder or --config, one of the two")
	case c.Config != "":
		r, p, sets, err = configuredRules(c.Config)
	default:
		if r, p, err = readRules(c.Dir); err == nil {
			sets = p.KeySets()
		}
	}
	if err != nil {
		return err
	}
	describeRules(r, p, sets)
	return nil
}

// describeRules says what rules give to whom.
func describeRules(r policy.Rules, p *policy.Policy, sets []string) {
	listed := p.Listed()
	fmt.Printf("policy %s\n", p.Digest())
	fmt.Printf("%s, %s, %s, %s\n", count(len(r.Clients), "client"), count(len(r.Policies), "document"), count(len(listed), "policy", "policies"), count(len(p.Limits()), "limit"))
	sets = append(slices.Clone(sets), policy.AnyOther)
	cells := p.Cells(sets)
	for _, client := range p.Clients() {
		fmt.Printf("\n%s\n", clientInWords(client))
		for _, set := range append([]string{""}, sets...) {
			describeRights(client, set, cells)
		}
	}
	if implied := p.Implications(sets); len(implied) > 0 {
		fmt.Print("\nWhat a right brings with it. An update whose data is encrypted has blocks of the caller's choice encrypted under the card's maintenance\n" +
			"key; the MAC of a command of one block is such a block, so who has the one can make the other, whatever the policies say:\n")
		for _, i := range implied {
			fmt.Printf("  %v\n", i)
		}
	}
	if challengers := p.Challengers(sets); len(challengers) > 0 {
		fmt.Print("\nAuthenticateExternal has blocks of the caller's choice encrypted under the control key, the key that PersonaliseCard's WRITE KEY goes under:\n")
		for _, c := range challengers {
			fmt.Printf("  %s\n", c)
		}
	}
	if limits := p.Limits(); len(limits) > 0 {
		fmt.Print("\nLimits:\n")
		for _, l := range limits {
			fmt.Printf("  %v\n", l)
		}
	}
	if late := lateOf(listed); len(late) > 0 {
		fmt.Printf("\nLate: judged on running totals, where a transaction is recorded: %s\n", strings.Join(late, ", "))
	}
}

func lateOf(listed []policy.Listed) (ids []string) {
	for _, l := range listed {
		if l.Late {
			ids = append(ids, l.ID)
		}
	}
	return ids
}

func clientInWords(c policy.Client) string {
	line := fmt.Sprintf("%s: role %s, %s", c.Name, c.Role, c.Identity)
	if len(c.KeySets) > 0 {
		line += ", key sets " + strings.Join(c.KeySets, ", ")
	}
	if c.Suspended {
		line += ", suspended: it may do nothing"
	}
	return line
}

// describeRights says what a client may do on a key set, "" of what is of none; nothing is said of nothing.
func describeRights(client policy.Client, set string, cells map[policy.Cell]policy.Verdict) {
	rights := map[policy.Right][]string{}
	for _, a := range policy.Actions() {
		v, asked := cells[policy.Cell{Client: client.Name, Role: client.Role, KeySet: set, Action: a}]
		text := a.String()
		if len(v.Policies) > 0 {
			text += " (" + strings.Join(v.Policies, ", ") + ")"
		}
		if asked && (v.Right != policy.No || len(v.Policies) > 0) {
			rights[v.Right] = append(rights[v.Right], text)
		}
	}
	on := "on " + set
	switch set {
	case "":
		on = "on the signer"
	case policy.AnyOther:
		on = "on any other key set"
	}
	list(on, rights[policy.Yes])
	list(on+", as these policies say of the request", rights[policy.Some])
	if slices.Contains(append(client.KeySets, ""), set) {
		list(on+", forbidden", rights[policy.No])
	}
}

// list prints what there is, in lines that a terminal has room for.
func list(head string, items []string) {
	const width = 120
	if len(items) == 0 {
		return
	}
	line := "  " + head + ":"
	for i, item := range items {
		if i+1 < len(items) {
			item += ","
		}
		if len(line)+1+len(item) > width {
			fmt.Println(line)
			line = "   "
		}
		line += " " + item
	}
	fmt.Println(line)
}

// count is a number with its noun; plural, where it is not the noun with an s.
func count(n int, noun string, plural ...string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case len(plural) > 0:
		return fmt.Sprintf("%d %s", n, plural[0])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
