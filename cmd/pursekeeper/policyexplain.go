package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/policy"
)

type policyExplainCmd struct {
	Request string `arg:"" help:"The request, in JSON: client, operation, keySet, and what it is about."`
	Dir     string `arg:"" optional:"" help:"The folder of rules; left out: the shipped documents, with a client for each role by its name."`
}

// Run decides the request. Ends with 0 whether it is allowed or denied: what was asked is why.
func (c *policyExplainCmd) Run() error {
	asked, err := readAsked(c.Request)
	if err != nil {
		return err
	}
	p, err := c.rules(asked)
	if err != nil {
		return err
	}
	r, err := asked.Request(p)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Request, err)
	}
	showExplanation(p, asked, p.Explain(r, asked.Totals))
	return nil
}

func (c *policyExplainCmd) rules(asked policy.Asked) (*policy.Policy, error) {
	if c.Dir != "" {
		_, p, err := readRules(c.Dir)
		return p, err
	}
	var clients []policy.Client
	for _, role := range policy.Roles() {
		clients = append(clients, policy.Client{Name: string(role), Identity: string(role), Role: role, KeySets: []string{asked.KeySet}})
	}
	return policy.New(policy.Rules{Clients: clients, Policies: policy.Shipped()})
}

// readAsked reads a request strictly: an unknown field is an error.
func readAsked(file string) (asked policy.Asked, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return asked, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return asked, fmt.Errorf("%s: %w", file, err)
	}
	if decoder.More() {
		return asked, fmt.Errorf("%s: more than one request", file)
	}
	return asked, nil
}

func showExplanation(p *policy.Policy, asked policy.Asked, e policy.Explanation) {
	if e.Allowed {
		fmt.Println("allowed")
	} else {
		fmt.Println("denied:", e.Reason)
	}
	fmt.Printf("by policy %s\n", p.Digest())
	for _, applies := range []bool{true, false} {
		for _, w := range e.Words {
			if w.Applies == applies {
				fmt.Printf("  %-6s  %-24s %s:%d  %s\n", w.Effect, w.ID, w.Document, w.Line, w.Says)
			}
		}
	}
	for _, id := range e.Late {
		fmt.Printf("%s is late: it was judged on the totals of the request as written, and is judged on the real ones where the transaction is recorded\n", id)
	}
	for _, l := range e.Limits {
		fmt.Printf("limit %s: it is held against this where the transaction is recorded, and may refuse it there\n", l)
	}
	for _, i := range p.Implications([]string{asked.KeySet}) {
		if e.Allowed && i.Client == asked.Client && policy.Oracle(asked.Command) {
			fmt.Printf("%v\n", i)
		}
	}
}
