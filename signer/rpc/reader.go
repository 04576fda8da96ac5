package rpc

import (
	"context"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

func (s *service) BeginPurchase(ctx context.Context, m *v1.BeginPurchaseRequest) (*v1.BeginPurchaseResponse, error) {
	b, err := s.signer.BeginPurchase(ctx, callerOf(ctx), signer.PurchaseRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, Type: m.Type, AmountFen: m.AmountFen,
		TerminalID: m.TerminalId, InitializeResponse: m.InitializeResponse, Date: m.Date, Time: m.Time,
	})
	if err != nil {
		return nil, err
	}
	return &v1.BeginPurchaseResponse{
		Outcome: writeOutcome(b.Outcome), TerminalSerial: b.TerminalSerial, Mac1: b.MAC1, Command: b.Command, PurchaseId: b.PurchaseID,
		Key: writeKey(b.Key), Boundary: writeBoundary(b.Key.Boundary), AuditIndex: b.AuditIndex, Date: b.Date, Time: b.Time,
		Detail: b.Detail,
	}, nil
}

func (s *service) CompletePurchase(ctx context.Context, m *v1.CompletePurchaseRequest) (*v1.CompletePurchaseResponse, error) {
	r, err := s.signer.CompletePurchase(ctx, callerOf(ctx), m.PurchaseId, m.Mac2, m.Tac)
	if err != nil {
		return nil, err
	}
	return &v1.CompletePurchaseResponse{
		Outcome: writeOutcome(r.Outcome), PurchaseId: r.PurchaseID, Key: writeKey(r.Key), Boundary: writeBoundary(r.Key.Boundary),
		TacKey: writeKey(r.TACKey), TacBoundary: writeBoundary(r.TACKey.Boundary), AuditIndex: r.AuditIndex, Detail: r.Detail,
	}, nil
}
