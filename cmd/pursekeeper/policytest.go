package main

import (
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/internal/rules"
	"github.com/pursekeeper/pursekeeper/policy"
)

type policyTestCmd struct {
	Cases string `arg:"" help:"The table of cases."`
	Dir   string `arg:"" optional:"" help:"The folder of rules; left out: the shipped documents."`
}

// Run decides every case, and names those that came out otherwise.
func (c *policyTestCmd) Run() error {
	r := policy.Rules{Policies: policy.Shipped()}
	var err error
	if c.Dir != "" {
		if r, err = rules.Read(c.Dir); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(c.Cases)
	if err != nil {
		return err
	}
	cases, err := policy.ParseCases(policy.Document{Name: c.Cases, Text: string(text)})
	if err != nil {
		return err
	}
	failures, err := cases.Run(r)
	if err != nil {
		return rules.Locate(c.Dir, err)
	}
	for _, f := range failures {
		fmt.Printf("%s:%d: %s\n", c.Cases, f.Line, f.Text)
	}
	cells, ones := cases.Count()
	if cells+ones == 0 {
		return fmt.Errorf("%s: no table and no case: nothing was looked at", c.Cases)
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d of %s came out otherwise", len(failures), count(cells+ones, "case"))
	}
	fmt.Printf("all as expected: %s of the table of roles, %s\n", count(cells, "cell"), count(ones, "case"))
	return nil
}
