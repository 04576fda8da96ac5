package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	folder "github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

type policyDiffCmd struct {
	Old string `arg:"" help:"The folder of rules as they are."`
	New string `arg:"" help:"The folder as it would be."`
}

// Run says what a change of rules means, before anybody signs it.
func (c *policyDiffCmd) Run() error {
	oldRules, before, err := readRules(c.Old)
	if err != nil {
		return err
	}
	newRules, after, err := readRules(c.New)
	if err != nil {
		return err
	}
	d := rulesDifference{}
	d.named("document", documentsOf(oldRules), documentsOf(newRules))
	d.described("client", clientsInWords(before), clientsInWords(after))
	changed := d.named("policy", policyTexts(before), policyTexts(after))
	d.described("limit", limitsInWords(before), limitsInWords(after))
	d.cells(before, after, changed)
	fmt.Printf("policy %s\n    to %s\n", before.Digest(), after.Digest())
	if before.Digest() == after.Digest() {
		fmt.Println("the same")
		return nil
	}
	for _, line := range d {
		fmt.Println(line)
	}
	return nil
}

// rulesDifference is the lines of what differs.
type rulesDifference []string

func (d *rulesDifference) add(format string, args ...any) {
	*d = append(*d, fmt.Sprintf(format, args...))
}

func documentsOf(r policy.Rules) map[string]string {
	texts := map[string]string{}
	for _, document := range r.Policies {
		texts[folder.DocumentFile(document.Name)] = document.Text
	}
	if r.Limits != nil {
		texts[folder.LimitsFile] = r.Limits.Text
	}
	return texts
}

// sorted are the keys of both maps, once each and in order.
func sorted[V any](a, b map[string]V) []string {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	return slices.Sorted(maps.Keys(keys))
}

// named says which of things that are known by their names alone are new, gone or changed, and returns their names.
func (d *rulesDifference) named(noun string, was, is map[string]string) (changed map[string]bool) {
	changed = map[string]bool{}
	for _, name := range sorted(was, is) {
		before, had := was[name]
		after, has := is[name]
		switch {
		case !had:
			d.add("%s %s: new", noun, name)
		case !has:
			d.add("%s %s: gone", noun, name)
		case before != after:
			d.add("%s %s: changed", noun, name)
		default:
			continue
		}
		changed[name] = true
	}
	return changed
}

// described says the same of things by what they are in words.
func (d *rulesDifference) described(noun string, was, is map[string]string) {
	changed := noun + " changed"
	for _, name := range sorted(was, is) {
		switch {
		case was[name] == "":
			d.add("%s new: %s", noun, is[name])
		case is[name] == "":
			d.add("%s gone: %s", noun, was[name])
		case was[name] != is[name]:
			d.add("%s: %s", changed, was[name])
			d.add("%*s: %s", len(changed), "to", is[name])
		}
	}
}

func clientsInWords(p *policy.Policy) map[string]string {
	words := map[string]string{}
	for _, c := range p.Clients() {
		words[c.Name] = clientInWords(c)
	}
	return words
}

func policyTexts(p *policy.Policy) map[string]string {
	texts := map[string]string{}
	for _, l := range p.Listed() {
		texts[l.ID] = l.Text
	}
	return texts
}

func limitsInWords(p *policy.Policy) map[string]string {
	words := map[string]string{}
	for _, l := range p.Limits() {
		words[l.Name] = l.String()
	}
	return words
}

// cells says every right that changes, and every right that depends on a policy that changed.
func (d *rulesDifference) cells(before, after *policy.Policy, changed map[string]bool) {
	sets := slices.Compact(slices.Sorted(slices.Values(append(append(before.KeySets(), after.KeySets()...), policy.AnyOther))))
	was, is := before.Cells(sets), after.Cells(sets)
	all := maps.Clone(was)
	maps.Copy(all, is)
	order := map[policy.Action]int{}
	for i, a := range policy.Actions() {
		order[a] = i
	}
	cells := slices.SortedFunc(maps.Keys(all), func(a, b policy.Cell) int {
		if c := strings.Compare(a.Client+"\n"+a.KeySet, b.Client+"\n"+b.KeySet); c != 0 {
			return c
		}
		return order[a.Action] - order[b.Action]
	})
	for _, cell := range cells {
		from, to := was[cell], is[cell]
		if from.Right == policy.No && to.Right == policy.No {
			continue
		}
		depends := slices.ContainsFunc(to.Policies, func(id string) bool { return changed[strings.TrimSuffix(id, " (late)")] })
		if verdictWords(from) != verdictWords(to) || to.Right == policy.Some && depends {
			d.add("right of %s (%s)%s: %v: %s → %s", cell.Client, cell.Role, onSet(cell.KeySet), cell.Action, verdictWords(from), verdictWords(to))
		}
	}
}

func onSet(set string) string {
	switch set {
	case "":
		return ""
	case policy.AnyOther:
		return " on any other key set"
	}
	return " on " + set
}

// verdictWords are a verdict as a person reads it.
func verdictWords(v policy.Verdict) string {
	switch {
	case v.Right == policy.Some:
		return "as " + strings.Join(v.Policies, ", ") + " say of the request"
	case v.Right == policy.No && len(v.Policies) > 0:
		return "no, by " + strings.Join(v.Policies, ", ")
	}
	return v.Right.String()
}
