package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
)

func (s *service) Replay(ctx context.Context, m *v1.ReplayRequest) (*v1.ReplayResponse, error) {
	r := signer.ReplayRequest{From: m.From, To: m.To, Limit: m.Limit}
	var err error
	if r.Since, err = readMoment("since", m.Since); err != nil {
		return nil, err
	}
	if r.Until, err = readMoment("until", m.Until); err != nil {
		return nil, err
	}
	a, err := s.signer.Replay(ctx, callerOf(ctx), r)
	if err != nil {
		return nil, err
	}
	answer := &v1.ReplayResponse{Next: a.Next, Done: a.Done, AuditIndex: a.AuditIndex, Sealed: a.Sealed}
	for _, e := range a.Results {
		answer.Results = append(answer.Results, &v1.ReplayResult{
			Index: e.Index, Verdict: verdicts[e.Verdict], Reason: e.Reason, Event: string(e.Event), Outcome: e.Outcome, TransactionId: e.Transaction,
		})
	}
	return answer, nil
}

var verdicts = map[signer.Verdict]v1.ReplayVerdict{
	signer.Equal:         v1.ReplayVerdict_REPLAY_VERDICT_EQUAL,
	signer.Different:     v1.ReplayVerdict_REPLAY_VERDICT_DIFFERENT,
	signer.NotReplayable: v1.ReplayVerdict_REPLAY_VERDICT_NOT_REPLAYABLE,
	signer.KeyGone:       v1.ReplayVerdict_REPLAY_VERDICT_KEY_GONE,
	signer.NoMAC:         v1.ReplayVerdict_REPLAY_VERDICT_NO_MAC,
}

// readMoment reads a time that may be left out.
func readMoment(field string, m *timestamppb.Timestamp) (time.Time, error) {
	if m == nil {
		return time.Time{}, nil
	}
	if err := m.CheckValid(); err != nil {
		return time.Time{}, &purse.FieldError{Field: field, Problem: "is no time"}
	}
	return m.AsTime(), nil
}
