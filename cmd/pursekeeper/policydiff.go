package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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
	d.documents(documentsOf(oldRules), documentsOf(newRules))
	d.clients(before, after)
	changed := d.policies(before, after)
	d.limits(before, after)
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
		texts[document.Name+".cedar"] = document.Text
	}
	if r.Limits != nil {
		texts["limits.yaml"] = r.Limits.Text
	}
	return texts
}

// sorted are the keys of both maps, once each and in order.
func sorted[V any](a, b map[string]V) []string {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	return slices.Sorted(maps.Keys(keys))
}

func (d *rulesDifference) documents(before, after map[string]string) {
	for _, name := range sorted(before, after) {
		was, had := before[name]
		is, has := after[name]
		switch {
		case !had:
			d.add("document %s: new", name)
		case !has:
			d.add("document %s: gone", name)
		case was != is:
			d.add("document %s: changed", name)
		}
	}
}

func (d *rulesDifference) clients(before, after *policy.Policy) {
	was, is := map[string]string{}, map[string]string{}
	for _, c := range before.Clients() {
		was[c.Name] = clientInWords(c)
	}
	for _, c := range after.Clients() {
		is[c.Name] = clientInWords(c)
	}
	for _, name := range sorted(was, is) {
		switch {
		case was[name] == "":
			d.add("client new: %s", is[name])
		case is[name] == "":
			d.add("client gone: %s", was[name])
		case was[name] != is[name]:
			d.add("client changed: %s", was[name])
			d.add("            to: %s", is[name])
		}
	}
}

// policies says which policies are new, gone or say something else, and returns their ids.
func (d *rulesDifference) policies(before, after *policy.Policy) (changed map[string]bool) {
	was, is := map[string]string{}, map[string]string{}
	for _, l := range before.Listed() {
		was[l.ID] = l.Text
	}
	for _, l := range after.Listed() {
		is[l.ID] = l.Text
	}
	changed = map[string]bool{}
	for _, id := range sorted(was, is) {
		if was[id] == is[id] {
			continue
		}
		changed[id] = true
		switch {
		case was[id] == "":
			d.add("policy %s: new", id)
		case is[id] == "":
			d.add("policy %s: gone", id)
		default:
			d.add("policy %s: changed", id)
		}
	}
	return changed
}

// limits says which limits are new, gone or of other numbers.
func (d *rulesDifference) limits(before, after *policy.Policy) {
	was, is := map[string]string{}, map[string]string{}
	for _, l := range before.Limits() {
		was[l.Name] = l.String()
	}
	for _, l := range after.Limits() {
		is[l.Name] = l.String()
	}
	for _, name := range sorted(was, is) {
		switch {
		case was[name] == "":
			d.add("limit new: %s", is[name])
		case is[name] == "":
			d.add("limit gone: %s", was[name])
		case was[name] != is[name]:
			d.add("limit changed: %s", was[name])
			d.add("           to: %s", is[name])
		}
	}
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
