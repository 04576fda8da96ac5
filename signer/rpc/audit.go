package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/admission"
)

const (
	exportsAtOnce = 2                // of all clients: each keeps a core busy, so that a client has exportsOfClient at most
	exportPause   = 10 * time.Second // after which one more is worth a try: the others run for as long as they do
	exportChunk   = 128 << 10        // bytes of one message of an export, and what one entry is more
)

var errExports = errors.New("as many exports run as may; try again later")

func (s *service) ListEntries(ctx context.Context, m *v1.ListEntriesRequest) (*v1.ListEntriesResponse, error) {
	query, from, err := readAuditFilter(m.Filter)
	if err != nil {
		return nil, err
	}
	page, next, err := s.signer.SealedEntries(ctx, callerOf(ctx), signer.EntriesRequest{
		Query: query, From: from, PageSize: m.PageSize, PageToken: m.PageToken,
	})
	if err != nil {
		return nil, err
	}
	answer := &v1.ListEntriesResponse{NextPageToken: next}
	for _, e := range page {
		answer.Entries = append(answer.Entries, writeAuditEntry(e))
	}
	return answer, nil
}

func (s *service) ReadEntry(ctx context.Context, m *v1.ReadEntryRequest) (*v1.ReadEntryResponse, error) {
	entry, _, err := s.signer.SealedEntry(ctx, callerOf(ctx), m.Index, false)
	if err != nil {
		return nil, err
	}
	return &v1.ReadEntryResponse{Entry: writeAuditEntry(entry)}, nil
}

func (s *service) ProveEntry(ctx context.Context, m *v1.ProveEntryRequest) (*v1.ProveEntryResponse, error) {
	entry, proof, err := s.signer.SealedEntry(ctx, callerOf(ctx), m.Index, true)
	if err != nil {
		return nil, err
	}
	return &v1.ProveEntryResponse{Entry: writeAuditEntry(entry), Proof: proof}, nil
}

func (s *service) LatestCheckpoint(ctx context.Context, _ *v1.LatestCheckpointRequest) (*v1.LatestCheckpointResponse, error) {
	c, err := s.signer.LatestCheckpoint(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	return &v1.LatestCheckpointResponse{Checkpoint: c.Signed, Size: c.Size, VerifierKey: c.Key}, nil
}

// ExportEntries streams what is chosen. The permission has a request's deadline; the stream has none, but each of its messages must be taken
// before unreadTime has passed, and the service's stop ends it, or the end of the trust in its caller's certificate.
func (s *service) ExportEntries(ctx context.Context, m *v1.ExportEntriesRequest, wire *connect.ServerStream[v1.ExportEntriesResponse]) error {
	a := arrivalOf(ctx)
	a.read = true
	method := methodOf(pursekeeperv1connect.AuditServiceExportEntriesProcedure)
	var running *admission.Pass
	var export func(context.Context, func(signer.SealedEntry) error) error
	coded := s.account(ctx, method, func(ctx context.Context) (any, error) {
		query, from, err := readAuditFilter(m.Filter)
		if err != nil {
			return nil, err
		}
		if err := a.passes.wait(ctx); err != nil {
			return nil, err
		}
		if running, err = s.admission.exports.Enter(callerOf(ctx).Name()); err != nil || !running.Try(1) {
			return nil, again(errExports, exportPause)
		}
		export, err = s.signer.ExportEntries(ctx, callerOf(ctx), query, from)
		return nil, err
	})
	defer func() { running.Leave() }()
	a.passes.leave() // the export itself is no request any more
	if coded != nil {
		return coded
	}
	if err := a.unbound(); err != nil {
		return wireError(err)
	}
	chunk := &exportedChunk{ctx: ctx, service: s, arrival: a, wire: wire}
	err := s.untilStop(ctx, func(ctx context.Context) error { return export(ctx, chunk.add) })
	if err == nil {
		err = chunk.send()
	}
	if err != nil {
		s.log.WarnContext(ctx, "an export ended early", "client", callerOf(ctx).Name(), "error", err)
	}
	return wireError(err)
}

// untilStop runs f, whose context the service's stop ends: a filter that chooses little is long without a line.
func (s *service) untilStop(ctx context.Context, f func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-s.stopping:
			end()
		case <-ctx.Done():
		}
	}()
	err := f(ctx)
	select {
	case <-s.stopping:
		if errors.Is(err, context.Canceled) {
			err = connect.NewError(connect.CodeUnavailable, errStopping)
		}
	default:
	}
	return err
}

// exportedChunk collects lines to messages of some size.
type exportedChunk struct {
	ctx     context.Context // of the stream
	service *service
	arrival *arrival
	wire    *connect.ServerStream[v1.ExportEntriesResponse]
	lines   strings.Builder
}

func (c *exportedChunk) add(e signer.SealedEntry) error {
	fmt.Fprintf(&c.lines, "{\"index\":%d,\"entry\":%s}\n", e.Index, e.Line)
	if c.lines.Len() < exportChunk {
		return nil
	}
	return c.send()
}

func (c *exportedChunk) send() error {
	if c.lines.Len() == 0 {
		return nil
	}
	if err := c.arrival.stillTrusted(c.ctx); err != nil {
		return err
	}
	if c.arrival.control != nil {
		if err := c.arrival.control.SetWriteDeadline(time.Now().Add(c.service.unreadTime)); err != nil {
			return err
		}
	}
	message := &v1.ExportEntriesResponse{JsonLines: c.lines.String()}
	c.lines.Reset()
	return c.wire.Send(message)
}

func writeAuditEntry(e signer.SealedEntry) *v1.AuditEntry {
	return &v1.AuditEntry{Index: e.Index, Entry: string(e.Line)}
}

func readAuditFilter(f *v1.AuditFilter) (q audit.Query, from uint64, err error) {
	if f == nil {
		return q, 0, nil
	}
	q = audit.Query{
		KeySet: f.KeySet, Card: f.Card, Terminal: f.Terminal, Client: f.Client, Key: f.Key, Event: audit.Event(f.Operation), Outcome: f.Outcome,
	}
	if q.Since, err = readTime("filter.since", f.Since); err == nil {
		q.Until, err = readTime("filter.until", f.Until)
	}
	return q, f.FromIndex, err
}

// readTime reads RFC 3339; "" is no time.
func readTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &purse.FieldError{Field: field, Problem: "is not RFC 3339, such as 2024-01-31T15:59:59Z"}
	}
	return t, nil
}
