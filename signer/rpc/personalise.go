package rpc

import (
	"context"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

func (s *service) PersonaliseCard(ctx context.Context, m *v1.PersonaliseCardRequest) (*v1.PersonaliseCardResponse, error) {
	p, err := s.signer.PersonaliseCard(ctx, callerOf(ctx), signer.CardKeysRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, KeyWrites: signer.KeyWrites{
			KeyVersion: m.KeyVersion, ControlKeyVersion: m.ControlKeyVersion, Kinds: m.Kinds, Challenges: m.Challenges,
		},
	})
	if err != nil {
		return nil, err
	}
	return &v1.PersonaliseCardResponse{
		Outcome: writeOutcome(p.Outcome), Writes: writeKeyWrites(p.Writes), Key: writeKey(p.Key),
		Boundary: writeBoundary(p.Key.Boundary), AuditIndex: p.AuditIndex, Detail: p.Detail,
	}, nil
}

func (s *service) PersonalisePSAM(ctx context.Context, m *v1.PersonalisePSAMRequest) (*v1.PersonalisePSAMResponse, error) {
	p, err := s.signer.PersonalisePSAM(ctx, callerOf(ctx), signer.ModuleKeysRequest{
		KeySet: m.KeySet, DeviceNumber: m.DeviceNumber, KeyWrites: signer.KeyWrites{
			KeyVersion: m.KeyVersion, ControlKeyVersion: m.ControlKeyVersion, Kinds: m.Kinds, Challenges: m.Challenges,
		},
	})
	if err != nil {
		return nil, err
	}
	return &v1.PersonalisePSAMResponse{
		Outcome: writeOutcome(p.Outcome), Writes: writeKeyWrites(p.Writes), Key: writeKey(p.Key),
		Boundary: writeBoundary(p.Key.Boundary), AuditIndex: p.AuditIndex, Detail: p.Detail,
	}, nil
}

func writeKeyWrites(writes []signer.KeyWrite) (written []*v1.KeyWrite) {
	for _, w := range writes {
		written = append(written, &v1.KeyWrite{
			Key: writeKey(w.Key), Boundary: writeBoundary(w.Key.Boundary), Command: w.Command,
		})
	}
	return written
}
