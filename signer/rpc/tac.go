package rpc

import (
	"context"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/signer"
)

// MaxBatchRequest is the largest VerifyTacs in bytes.
const MaxBatchRequest = 8 << 20

// batchLimit raises the largest request for the one method that takes thousands at once.
func batchLimit() connect.HandlerOption {
	return connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
		if spec.Procedure != pursekeeperv1connect.SignerServiceVerifyTacsProcedure {
			return nil
		}
		return []connect.HandlerOption{connect.WithReadMaxBytes(MaxBatchRequest), unpackAtMost(MaxBatchRequest)}
	})
}

func readTAC(m *v1.VerifyTacRequest) signer.TACRequest {
	return signer.TACRequest{
		Ref: m.GetRef(), KeySet: m.GetKeySet(), CardSerial: m.GetCardSerial(), IssuerID: m.GetIssuerId(), KeyVersion: m.GetKeyVersion(),
		Type: m.GetType(), AmountFen: m.GetAmountFen(), TerminalID: m.GetTerminalId(), TerminalSerial: m.GetTerminalSerial(),
		Counter: m.GetCounter(), BalanceFen: m.BalanceFen, OldLimitFen: m.OldLimitFen, NewLimitFen: m.NewLimitFen,
		Date: m.GetDate(), Time: m.GetTime(), TAC: m.GetTac(),
	}
}

func (s *service) VerifyTac(ctx context.Context, m *v1.VerifyTacRequest) (*v1.VerifyTacResponse, error) {
	v, err := s.signer.VerifyTac(ctx, callerOf(ctx), readTAC(m))
	if err != nil {
		return nil, err
	}
	return &v1.VerifyTacResponse{
		Ref: v.Ref, Outcome: writeOutcome(v.Outcome), Key: writeKey(v.Key), Boundary: writeBoundary(v.Key.Boundary),
		AuditIndex: v.AuditIndex, Detail: v.Detail,
	}, nil
}

func (s *service) VerifyTacs(ctx context.Context, m *v1.VerifyTacsRequest) (*v1.VerifyTacsResponse, error) {
	arrivalOf(ctx).passes.charge(len(m.Items))
	items := make([]signer.TACRequest, len(m.Items))
	for i, item := range m.Items {
		items[i] = readTAC(item)
	}
	b, err := s.signer.VerifyTacs(ctx, callerOf(ctx), items)
	if err != nil {
		return nil, err
	}
	answer := &v1.VerifyTacsResponse{
		Results: make([]*v1.VerifyTacsResult, len(b.Results)), AuditIndex: b.AuditIndex,
		Verified: uint32(b.Verified), Mismatched: uint32(b.Mismatched), Failed: uint32(b.Failed),
	}
	keys := map[signer.KeyUsed]*v1.Key{} // results of one key share its message: they are only read from here on
	for i := range b.Results {
		answer.Results[i] = writeResult(&b.Results[i], keys)
	}
	return answer, nil
}

func writeResult(r *signer.TACResult, keys map[signer.KeyUsed]*v1.Key) *v1.VerifyTacsResult {
	if r.Err != nil {
		return &v1.VerifyTacsResult{Ref: r.Ref, AuditIndex: r.AuditIndex, Error: writeError(wire(r.Err))}
	}
	key, known := keys[r.Key]
	if !known {
		key = writeKey(r.Key)
		keys[r.Key] = key
	}
	return &v1.VerifyTacsResult{
		Ref: r.Ref, Outcome: writeOutcome(r.Outcome), Key: key, Boundary: writeBoundary(r.Key.Boundary),
		AuditIndex: r.AuditIndex, Detail: r.Detail,
	}
}
