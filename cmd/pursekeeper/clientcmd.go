package main

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
)

// clientCmd is about the clients of a signer: who calls, and who is stopped.
type clientCmd struct {
	List    clientListCmd    `cmd:"" help:"List the clients, their roles and key sets, and who is suspended."`
	Suspend clientSuspendCmd `cmd:"" help:"Stop a client, at once, on all nodes."`
	Resume  clientResumeCmd  `cmd:"" help:"Ask the other officers to let a suspended client call again."`
}

type clientListCmd struct{ officerFlags }

// Run lists.
func (c *clientListCmd) Run(ctx context.Context) error {
	rules, err := c.rules(ctx)
	if err != nil {
		return err
	}
	for _, one := range rules.Clients {
		fmt.Println(clientLine(one))
	}
	return nil
}

type clientSuspendCmd struct {
	officerFlags
	Name   string `arg:"" help:"The client."`
	Reason string `help:"Why, in your words." required:""`
}

// Run suspends: it is applied when it returns.
func (c *clientSuspendCmd) Run(ctx context.Context) error {
	return c.actOn(ctx, policy.SuspendClient, c.Name, c.Reason)
}

type clientResumeCmd struct {
	officerFlags
	Name   string `arg:"" help:"The client."`
	Reason string `help:"Why, in your words." required:""`
}

// Run proposes.
func (c *clientResumeCmd) Run(ctx context.Context) error {
	return c.actOn(ctx, policy.ResumeClient, c.Name, c.Reason)
}

func (f officerFlags) actOn(ctx context.Context, act policy.Act, client, reason string) error {
	draft, err := draftOf(map[string]any{"act": act, "reason": reason, "client": custody.ClientChange{Name: client}})
	if err != nil {
		return err
	}
	return f.propose(ctx, draft, 0)
}
