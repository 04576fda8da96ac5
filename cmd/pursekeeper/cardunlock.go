package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
)

// cardUnlockCmd is an officer's act on one card.
type cardUnlockCmd struct {
	clientFlags `set:"as=officer"`
	Set         string `help:"Key set of the card." aliases:"key-set" required:""`
	Serial      string `help:"Application serial number, 1 to 20 hex digits." required:""`
	IssuerID    string `help:"Issuer id, where the key set takes its issuer factor from the card."`
	Reason      string `help:"Why, in your words." required:""`
}

// Run calls KeyService.UnlockCard with the officer's certificate.
func (c *cardUnlockCmd) Run(ctx context.Context) error {
	client, err := c.http()
	if err != nil {
		return err
	}
	keys := pursekeeperv1connect.NewKeyServiceClient(client, c.Server, connect.WithGRPC())
	answer, err := keys.UnlockCard(ctx, &v1.UnlockCardRequest{
		KeySet: c.Set, CardSerial: c.Serial, IssuerId: c.IssuerID, Reason: c.Reason,
	})
	if err != nil {
		return err
	}
	if !answer.WasLocked {
		fmt.Printf("card %s of %s was not locked (audit index %d)\n", c.Serial, c.Set, answer.AuditIndex)
		return nil
	}
	fmt.Printf("card %s of %s is unlocked (audit index %d)\n", c.Serial, c.Set, answer.AuditIndex)
	return nil
}
