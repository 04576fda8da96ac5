package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/custody"
	folder "github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

// clientOf is what an act on a client takes, by the flags.
func (c *changeProposeCmd) clientOf(act policy.Act) custody.ClientChange {
	one := custody.ClientChange{Name: c.Client}
	if act == policy.AddClient || act == policy.ReplaceClient {
		one.Identity, one.Role, one.KeySets = c.Identity, policy.Role(c.Role), slices.Sorted(slices.Values(c.KeySets))
	}
	return one
}

// policyOf is what makes the documents and limits of the folder those in force: what is new or other is put, what is not there goes.
func (c *changeProposeCmd) policyOf(ctx context.Context) (change custody.PolicyChange, err error) {
	if c.Dir == "" {
		return change, fmt.Errorf("--dir: missing, %s takes it", policy.SetPolicy)
	}
	wanted, err := folder.Read(c.Dir)
	if err != nil {
		return change, err
	}
	now, err := c.rules(ctx)
	if err != nil {
		return change, err
	}
	if note := otherClients(wanted, now); note != "" {
		fmt.Println(note)
	}
	before, after := texts(now.Policies), texts(wanted.Policies)
	for _, d := range wanted.Policies { // in the order of their names
		if text, there := before[d.Name]; !there || text != d.Text {
			change.Put = append(change.Put, custody.DocumentChange{Name: d.Name, Text: d.Text, Was: digestOrNone(text)})
		}
	}
	for _, d := range now.Policies {
		if _, stays := after[d.Name]; !stays {
			change.Remove = append(change.Remove, custody.DocumentRemoval{Name: d.Name, Was: digestOrNone(d.Text)})
		}
	}
	var had, has string
	if now.Limits != nil {
		had = now.Limits.Text
	}
	if wanted.Limits != nil {
		has = wanted.Limits.Text
	}
	if had != has {
		change.Limits = &custody.LimitsChange{Text: has, Remove: has == "", Was: digestOrNone(had)}
	}
	if len(change.Put)+len(change.Remove) == 0 && change.Limits == nil {
		return change, fmt.Errorf("%s: documents and limits are those in force already (clients are changed by client.add and its like)", c.Dir)
	}
	return change, nil
}

// otherClients says that a folder has other clients than there are: what was checked and tested with it is another thing than what is proposed.
func otherClients(wanted, now policy.Rules) string {
	if len(wanted.Clients) == 0 || (policy.Rules{Clients: wanted.Clients}).Digest() == (policy.Rules{Clients: now.Clients}).Digest() {
		return ""
	}
	return fmt.Sprintf("NOTE: %s of the folder is not the list in force, and no part of what is proposed: clients are changed by client.add and its like", folder.ClientsFile)
}

func texts(documents []policy.Document) map[string]string {
	all := map[string]string{}
	for _, d := range documents {
		all[d.Name] = d.Text
	}
	return all
}

func digestOrNone(text string) string {
	if text == "" {
		return ""
	}
	return digestOf(text)
}

// officers is what the signer answers of its officers and the rules in force.
func (f officerFlags) officers(ctx context.Context) (*v1.ListOfficersResponse, error) {
	keys, err := f.keys()
	if err != nil {
		return nil, err
	}
	return keys.ListOfficers(ctx, &v1.ListOfficersRequest{})
}

// rules are the rules in force, as the signer shows them.
func (f officerFlags) rules(ctx context.Context) (rules policy.Rules, err error) {
	answer, err := f.officers(ctx)
	if err != nil {
		return rules, err
	}
	return readAnsweredRules(answer.Rules), nil
}

func readAnsweredRules(m *v1.Rules) (rules policy.Rules) {
	for _, c := range m.GetClients() {
		rules.Clients = append(rules.Clients, policy.Client{
			Name: c.Name, Identity: c.Identity, Role: policy.Role(c.Role), KeySets: c.KeySets, Suspended: c.Suspended,
		})
	}
	for _, d := range m.GetPolicies() {
		rules.Policies = append(rules.Policies, policy.Document{Name: d.Name, Text: d.Text})
	}
	if d := m.GetLimits(); d != nil {
		rules.Limits = &policy.Document{Name: d.Name, Text: d.Text}
	}
	return rules
}

// showDifferences prints, for each document that a change replaces, which of its lines are others. The text before is believed only when it has
// the digest that the change says.
func (f officerFlags) showDifferences(ctx context.Context, change custody.Change) error {
	if change.Policy == nil {
		return nil
	}
	now, err := f.rules(ctx)
	if err != nil {
		return err
	}
	before := texts(now.Policies)
	for _, d := range change.Policy.Put {
		showDifference("document "+d.Name, before[d.Name], d.Text, d.Was)
	}
	for _, d := range change.Policy.Remove {
		showDifference("document "+d.Name, before[d.Name], "", d.Was)
	}
	if limits := change.Policy.Limits; limits != nil && now.Limits != nil {
		showDifference("the limits", now.Limits.Text, limits.Text, limits.Was)
	}
	return nil
}

func showDifference(what, before, after, was string) {
	switch {
	case was == "":
		return
	case digestOrNone(before) != was:
		fmt.Printf("  %s: not in force any more as the change says that it was\n", what)
		return
	}
	fmt.Printf("  %s, line by line: - goes, + comes\n", what)
	for _, line := range lineDifferences(strings.Split(before, "\n"), strings.Split(after, "\n")) {
		fmt.Printf("    %c %q\n", line.sign, line.text)
	}
}
