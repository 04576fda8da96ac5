package rpc

import (
	"context"
	"time"

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

func (s *service) Challenge(ctx context.Context, m *v1.ChallengeRequest) (*v1.ChallengeResponse, error) {
	c, err := s.signer.Challenge(ctx, callerOf(ctx), m.KeySet, m.DeviceNumber, m.KeyVersion)
	if err != nil {
		return nil, err
	}
	return &v1.ChallengeResponse{
		Outcome: writeOutcome(c.Outcome), SessionId: c.SessionID, Challenge: c.Challenge, ExpiresAt: writeTime(c.ExpiresAt),
		Key: writeKey(c.Key), Boundary: writeBoundary(c.Key.Boundary), AuditIndex: c.AuditIndex, Detail: c.Detail,
	}, nil
}

func (s *service) Authenticate(ctx context.Context, m *v1.AuthenticateRequest) (*v1.AuthenticateResponse, error) {
	a, err := s.signer.Authenticate(ctx, callerOf(ctx), m.SessionId, m.DeviceChallenge, m.DeviceProof)
	if err != nil {
		return nil, err
	}
	return &v1.AuthenticateResponse{
		Outcome: writeOutcome(a.Outcome), HostProof: a.HostProof, ExpiresAt: writeTime(a.ExpiresAt), Key: writeKey(a.Key),
		Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Detail: a.Detail,
	}, nil
}

func (s *service) Seal(ctx context.Context, m *v1.SealRequest) (*v1.SealResponse, error) {
	a, err := s.signer.Seal(ctx, callerOf(ctx), m.SessionId, m.Data, m.Last)
	if err != nil {
		return nil, err
	}
	return &v1.SealResponse{
		Outcome: writeOutcome(a.Outcome), Frame: a.Frame, Sequence: a.Sequence, Key: writeKey(a.Key),
		Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Detail: a.Detail,
	}, nil
}

func (s *service) Open(ctx context.Context, m *v1.OpenRequest) (*v1.OpenResponse, error) {
	o, err := s.signer.Open(ctx, callerOf(ctx), m.SessionId, m.Frame)
	if err != nil {
		return nil, err
	}
	return &v1.OpenResponse{
		Outcome: writeOutcome(o.Outcome), Data: o.Data, Last: o.Last, Sequence: o.Sequence, Key: writeKey(o.Key),
		Boundary: writeBoundary(o.Key.Boundary), AuditIndex: o.AuditIndex, Detail: o.Detail,
	}, nil
}

// writeTime is RFC 3339 in UTC; no time is "".
func writeTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
