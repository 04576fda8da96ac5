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

// clientAct is what an act on a client by its name alone takes.
type clientAct struct {
	officerFlags
	Name   string `arg:"" help:"The client."`
	Reason string `help:"Why, in your words." required:""`
}

type clientSuspendCmd struct{ clientAct }

// Run suspends: it is applied when it returns.
func (c *clientSuspendCmd) Run(ctx context.Context) error {
	return c.propose(ctx, policy.SuspendClient)
}

type clientResumeCmd struct{ clientAct }

// Run proposes.
func (c *clientResumeCmd) Run(ctx context.Context) error {
	return c.propose(ctx, policy.ResumeClient)
}

func (c *clientAct) propose(ctx context.Context, act policy.Act) error {
	draft, err := draftOf(map[string]any{"act": act, "reason": c.Reason, "client": custody.ClientChange{Name: c.Name}})
	if err != nil {
		return err
	}
	return c.officerFlags.propose(ctx, draft, 0)
}
