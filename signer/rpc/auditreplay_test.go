package rpc

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/store"
)

const replay = pursekeeperv1connect.AuditServiceReplayProcedure

// wholeRecord is a database's whole record, as if all of it were sealed.
type wholeRecord struct{ store.Store }

func (w *wholeRecord) Sealed(ctx context.Context) (n uint64, err error) {
	err = w.Store.Entries(ctx, 0, func(uint64, []byte) bool { n++; return true })
	return n, err
}

func (w *wholeRecord) Entry(ctx context.Context, index uint64) (found past.Entry, err error) {
	err = w.Entries(ctx, index, func(e past.Entry) bool { found = e; return false })
	return found, err
}

func (w *wholeRecord) Entries(ctx context.Context, from uint64, yield func(past.Entry) bool) error {
	return w.Store.Entries(ctx, from, func(index uint64, line []byte) bool { return yield(past.Entry{Index: index, Line: line}) })
}

func (c caller) auditor(options ...connect.ClientOption) pursekeeperv1connect.AuditServiceClient {
	return pursekeeperv1connect.NewAuditServiceClient(c.http, c.base, options...)
}

// A replay on the wire: verdicts of every entry, and no field that could hold an input or a MAC.
func TestReplayOnTheWire(t *testing.T) {
	w := newWorld(t, func(s *setup) { s.past = true })
	w.as("platform").approved(demoLoad())
	auditor := w.as("auditor").auditor(connect.WithGRPC())
	answer, err := auditor.Replay(t.Context(), &v1.ReplayRequest{})
	require.NoError(t, err)
	require.Len(t, answer.Results, 2)
	assert.True(t, proto.Equal(&v1.ReplayResult{
		Index: 1, Verdict: v1.ReplayVerdict_REPLAY_VERDICT_EQUAL, Event: "AuthorizeLoad", Outcome: "APPROVED", TransactionId: demoID,
	}, answer.Results[1]), "%v", answer.Results[1])
	assert.Equal(t, v1.ReplayVerdict_REPLAY_VERDICT_NO_MAC, answer.Results[0].Verdict)
	assert.True(t, answer.Done)
	assert.EqualValues(t, 2, answer.Next)
	assert.EqualValues(t, 2, answer.AuditIndex)
	assert.EqualValues(t, 2, answer.Sealed)

	answer, err = auditor.Replay(t.Context(), &v1.ReplayRequest{Until: timestamppb.New(time.Unix(0, 0))})
	require.NoError(t, err)
	assert.Empty(t, answer.Results)
	_, err = auditor.Replay(t.Context(), &v1.ReplayRequest{Since: &timestamppb.Timestamp{Seconds: -1 << 62}})
	assert.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	_, err = auditor.Replay(t.Context(), &v1.ReplayRequest{From: 2, To: 1})
	assert.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))

	// Indexes and times are all that a caller gives.
	fields := (&v1.ReplayRequest{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		assert.True(t, f.Kind() == protoreflect.Uint64Kind || f.Name() == "limit" || f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp", f.Name())
	}
}

func TestASignerWithoutASealedRecordReplaysNothing(t *testing.T) {
	w := newWorld(t)
	_, err := w.as("auditor").auditor().Replay(t.Context(), &v1.ReplayRequest{})
	assert.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err))
}
