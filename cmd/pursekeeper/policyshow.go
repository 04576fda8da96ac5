package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/policy"
)

type policyShowCmd struct {
	officerFlags
	Out string `help:"New folder for them, in the form in which they are proposed." type:"path" placeholder:"DIR"`
}

// Run shows the rules, with the digest that entries of the record name, computed here.
func (c *policyShowCmd) Run(ctx context.Context) error {
	answer, err := c.officers(ctx)
	if err != nil {
		return err
	}
	if answer.Rules == nil {
		return errors.New("the signer answered no rules")
	}
	rules := readAnsweredRules(answer.Rules)
	fmt.Printf("revision %d, policy %s\n", answer.Revision, rules.Digest())
	if err := showRules(rules, c.Out); err != nil {
		return err
	}
	if _, err := policy.New(rules); err != nil {
		return fmt.Errorf("this program could not decide by the rules that the signer answered: %w", err)
	}
	return nil
}
