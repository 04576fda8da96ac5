package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/store"
)

// changeCmd is how officers change keys, policy of custody, and officers.
type changeCmd struct {
	Propose changeProposeCmd `cmd:"" help:"Ask the other officers for a change."`
	List    changeListCmd    `cmd:"" help:"List change requests."`
	Show    changeShowCmd    `cmd:"" help:"Show one in plain words, or write exactly the bytes that officers sign."`
	Approve changeApproveCmd `cmd:"" help:"Read a change, and sign it with your SSH key."`
	Reject  changeRejectCmd  `cmd:"" help:"Say no: the change is over."`
	Cancel  changeCancelCmd  `cmd:"" help:"End a change of your own."`
}

// officerFlags are clientFlags with the KeyService.
type officerFlags struct {
	clientFlags `set:"as=officer"`
}

func (f officerFlags) keys() (pursekeeperv1connect.KeyServiceClient, error) {
	client, err := f.http()
	if err != nil {
		return nil, err
	}
	return pursekeeperv1connect.NewKeyServiceClient(client, f.Server, connect.WithGRPC()), nil
}

// read fetches one change.
func (f officerFlags) read(ctx context.Context, id string) (*v1.Change, custody.Change, error) {
	keys, err := f.keys()
	if err != nil {
		return nil, custody.Change{}, err
	}
	answer, err := keys.ReadChange(ctx, &v1.ReadChangeRequest{Id: id})
	if err = refusal(answer, err); err != nil {
		return nil, custody.Change{}, err
	}
	change, err := custody.DecodeChange([]byte(answer.Change.Bytes))
	if err == nil && change.ID != id {
		err = fmt.Errorf("the signer answered change %s for %s", change.ID, id)
	}
	return answer.Change, change, err
}

// refusal is the error of an answer that refuses.
func refusal(answer *v1.ChangeResponse, err error) error {
	switch {
	case err != nil:
		return err
	case answer.Refused != "":
		return fmt.Errorf("refused, %s: %s", answer.Refused, printable(answer.Detail))
	case answer.Change == nil:
		return errors.New("the signer answered no change")
	}
	return nil
}

// ended prints where a change stands after a command.
func ended(answer *v1.ChangeResponse, err error) error {
	if err = refusal(answer, err); err != nil {
		return err
	}
	fmt.Println(standing(answer.Change))
	return nil
}

// standing is one line about a change.
func standing(c *v1.Change) string {
	text := fmt.Sprintf("%s  %-9s %-17s by %s", printable(c.Id), printable(c.State), printable(c.Act), printable(c.Author))
	if c.ApprovalsNeeded > 0 {
		text += fmt.Sprintf(", %d of %d approvals, until %s", len(c.Approvals), c.ApprovalsNeeded, printable(c.ExpiresAt))
	}
	if c.Detail != "" {
		text += ": " + printable(c.Detail)
	}
	return text
}

// over reports whether the state is one that a change does not leave.
func over(state string) bool { return store.RequestState(state).Over() }

type changeListCmd struct {
	officerFlags
	All bool `help:"Those that are over, too."`
}

// Run lists change requests in the order of their proposals.
func (c *changeListCmd) Run(ctx context.Context) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	for token := ""; ; {
		page, err := keys.ListChanges(ctx, &v1.ListChangesRequest{OpenOnly: !c.All, PageToken: token})
		if err != nil {
			return err
		}
		for _, change := range page.Changes {
			fmt.Println(standing(change))
		}
		if token = page.NextPageToken; token == "" {
			return nil
		}
	}
}

type changeShowCmd struct {
	officerFlags
	ID    string `arg:"" help:"The change's id."`
	Bytes bool   `help:"Write exactly the bytes that officers sign, to be signed on another machine."`
}

// Run shows a change; its words are made here, of the bytes.
func (c *changeShowCmd) Run(ctx context.Context) error {
	m, change, err := c.read(ctx, c.ID)
	if err != nil {
		return err
	}
	if c.Bytes {
		_, err := os.Stdout.WriteString(m.Bytes)
		return err
	}
	fmt.Println(standing(m))
	fmt.Print(change.Words())
	if !over(m.State) {
		if err := c.showDifferences(ctx, change); err != nil {
			return err
		}
	}
	fmt.Printf("  %-12s %s\n", "SHA-256", digestOf(m.Bytes))
	for _, a := range m.Approvals {
		fmt.Printf("  %-12s %s at %s\n", "approved", printable(a.Officer), printable(a.ApprovedAt))
	}
	return nil
}

type changeRejectCmd struct {
	officerFlags
	ID     string `arg:"" help:"The change's id."`
	Reason string `help:"Why, in your words." required:""`
}

// Run rejects.
func (c *changeRejectCmd) Run(ctx context.Context) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	return ended(keys.RejectChange(ctx, &v1.RejectChangeRequest{Id: c.ID, Reason: c.Reason}))
}

type changeCancelCmd struct {
	officerFlags
	ID string `arg:"" help:"The change's id."`
}

// Run cancels.
func (c *changeCancelCmd) Run(ctx context.Context) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	return ended(keys.CancelChange(ctx, &v1.CancelChangeRequest{Id: c.ID}))
}
