package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// auditRemote asks a signer for its sealed record, as an auditor, in place of a folder. What it answers is what it says: a proof can be
// verified, and a folder.
type auditRemote struct {
	Server string `help:"Address of a signer to ask instead, such as https://127.0.0.1:7443."`
	TLS    string `help:"Folder with ca.crt and the auditor's NAME.crt and NAME.key, for --server." default:".pursekeeper/tls" name:"tls" placeholder:"DIR"`
	As     string `help:"NAME of the client certificate in the folder." default:"auditor"`
}

func (r auditRemote) client() (pursekeeperv1connect.AuditServiceClient, error) {
	client, err := clientFlags(r).http()
	if err != nil {
		return nil, err
	}
	return pursekeeperv1connect.NewAuditServiceClient(client, r.Server, connect.WithGRPC()), nil
}

// remotePage is how many entries a page of the signer's has.
const remotePage = 500

// list calls yield with what the filter chooses, page after page.
func (r auditRemote) list(ctx context.Context, filter auditFilter, yield func(uint64, []byte, audit.Entry) error) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	request := &v1.ListEntriesRequest{Filter: filter.message(), PageSize: remotePage}
	if filter.Limit > 0 {
		request.PageSize = uint32(min(filter.Limit, remotePage))
	}
	for {
		page, err := client.ListEntries(ctx, request)
		if err != nil {
			return err
		}
		for _, entry := range page.Entries {
			e, err := audit.Decode([]byte(entry.Entry))
			if err != nil {
				return fmt.Errorf("entry %d: %w", entry.Index, err)
			}
			if err := yield(entry.Index, []byte(entry.Entry), e); err != nil {
				return err
			}
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return nil
		}
	}
}

// read returns one entry.
func (r auditRemote) read(ctx context.Context, index uint64) ([]byte, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	answer, err := client.ReadEntry(ctx, &v1.ReadEntryRequest{Index: index})
	if err != nil {
		return nil, err
	}
	return []byte(answer.Entry.GetEntry()), nil
}

// prove returns the proof of an entry; it is not verified.
func (r auditRemote) prove(ctx context.Context, index uint64) (*verifier.Proof, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	answer, err := client.ProveEntry(ctx, &v1.ProveEntryRequest{Index: index})
	if err != nil {
		return nil, err
	}
	proof, err := verifier.ParseProof(answer.Proof)
	if err == nil && proof.Index != index {
		err = fmt.Errorf("the signer answered a proof of entry %d", proof.Index)
	}
	return proof, err
}

// export writes what the filter chooses as JSON Lines.
func (r auditRemote) export(ctx context.Context, filter auditFilter, out io.Writer) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	stream, err := client.ExportEntries(ctx, &v1.ExportEntriesRequest{Filter: filter.message()})
	if err != nil {
		return err
	}
	for stream.Receive() {
		if _, err := io.WriteString(out, stream.Msg().JsonLines); err != nil {
			return errors.Join(err, stream.Close())
		}
	}
	return errors.Join(stream.Err(), stream.Close())
}

func (f auditFilter) message() *v1.AuditFilter {
	m := &v1.AuditFilter{
		KeySet: f.Set, Card: f.Card, Terminal: f.Terminal, Client: f.Client, Key: f.WithKey, Operation: f.Operation, Outcome: f.Outcome, FromIndex: f.From,
	}
	if !f.Since.IsZero() {
		m.Since = f.Since.Format(time.RFC3339)
	}
	if !f.Until.IsZero() {
		m.Until = f.Until.Format(time.RFC3339)
	}
	return m
}

// auditCheckpointCmd saves the newest checkpoint.
type auditCheckpointCmd struct {
	auditFolder `embed:""`
}

// Run prints the checkpoint after its signature was compared with a key that the auditor has, not with one that the signer names.
func (c *auditCheckpointCmd) Run(ctx context.Context) error {
	log, err := c.log()
	if err != nil {
		return err
	}
	if c.Server == "" {
		signed, _, err := log.Checkpoint()
		fmt.Print(signed)
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.LatestCheckpoint(ctx, &v1.LatestCheckpointRequest{})
	if err != nil {
		return err
	}
	if _, err := tiles.OpenCheckpoint([]byte(answer.Checkpoint), log.Key); err != nil {
		return err
	}
	fmt.Print(answer.Checkpoint)
	return nil
}
