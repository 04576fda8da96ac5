package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
)

// auditPolicyCmd finds the rules that decided an entry, in the record alone.
type auditPolicyCmd struct {
	auditFolder
	Digest string `arg:"" optional:"" help:"The member policy of an entry: 64 hex digits."`
	Entry  uint64 `help:"Or the entry's index." placeholder:"INDEX"`
	Out    string `help:"New folder for the rules, in the form in which they are proposed." type:"path" placeholder:"FOLDER"`
}

// Run follows the changes of the record from its beginning until the rules have the digest, and shows them. That officers approved each
// change is what `audit approvals` finds out.
func (c *auditPolicyCmd) Run(ctx context.Context) error {
	if err := c.fill(ctx); err != nil {
		return err
	}
	r := &rulesRoll{proposed: map[string]custody.Change{}}
	var since uint64
	err := c.each(ctx, auditFilter{}, func(index uint64, _ []byte, e audit.Entry) error {
		changed, err := r.follow(e)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if changed && r.digest() == c.Digest {
			since = index
			return errEnough
		}
		return nil
	})
	switch {
	case err == nil:
		return fmt.Errorf("the record has no rules with the digest %s; those of a development configuration are in no record", c.Digest)
	case !errors.Is(err, errEnough):
		return err
	}
	fmt.Printf("policy %s, since entry %d, revision %d\n", c.Digest, since, r.revision)
	return showRules(r.rules, c.Out)
}

// fill takes the digest from an entry where its index was given.
func (c *auditPolicyCmd) fill(ctx context.Context) error {
	if c.Digest != "" {
		if !sha256InHex.MatchString(c.Digest) {
			return fmt.Errorf("%q: expected the digest of a policy, 64 hex digits", c.Digest)
		}
		return nil
	}
	line, err := c.entry(ctx, c.Entry)
	if err != nil {
		return err
	}
	e, err := audit.Decode(line)
	if err == nil && e.Policy == "" {
		err = fmt.Errorf("entry %d, %s: no policy decided it", c.Entry, e.Event)
	}
	c.Digest = e.Policy
	return err
}

var sha256InHex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// rulesRoll is the rules in force, as the record tells them from its beginning.
type rulesRoll struct {
	rules    policy.Rules
	revision uint64
	proposed map[string]custody.Change // about rules, that are not applied
}

// follow takes an entry, and reports whether the rules are others after it.
func (r *rulesRoll) follow(e audit.Entry) (changed bool, err error) {
	if e.Change == nil {
		return false, nil
	}
	switch e.Event {
	case audit.OfficersRegistered:
		r.rules, r.revision = policy.Rules{}, e.Change.Revision
	case audit.RulesRegistered:
		part, err := custody.DecodeRules([]byte(e.Change.Bytes))
		r.rules = custody.Joined(r.rules, part)
		return err == nil, err
	case audit.ChangeProposed:
		change, err := custody.DecodeChange([]byte(e.Change.Bytes))
		if err == nil && (change.Client != nil || change.Policy != nil) {
			r.proposed[change.ID] = change
		}
		return false, err
	case audit.ChangeApplied:
		change, there := r.proposed[e.Change.ID]
		delete(r.proposed, e.Change.ID)
		r.revision = e.Change.Revision
		r.rules = custody.RulesAfter(r.rules, change)
		return there, nil
	}
	return false, nil
}

// digest is that of the rules; "" of a part of them that are not rules yet. What decided then may be what this program can decide by no more.
func (r *rulesRoll) digest() string {
	if len(r.rules.Policies) == 0 {
		return ""
	}
	return r.rules.Digest()
}
