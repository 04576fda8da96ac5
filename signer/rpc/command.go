package rpc

import (
	"context"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

// readCommand finds a command; a test sees that every command of the API has its counterpart.
func readCommand(c v1.Command) signer.Command {
	switch c {
	case v1.Command_COMMAND_CARD_BLOCK:
		return signer.CardBlock
	case v1.Command_COMMAND_APPLICATION_UNBLOCK:
		return signer.ApplicationUnblock
	case v1.Command_COMMAND_APPLICATION_BLOCK:
		return signer.ApplicationBlock
	case v1.Command_COMMAND_PIN_UNBLOCK:
		return signer.PINUnblock
	case v1.Command_COMMAND_RELOAD_PIN:
		return signer.ReloadPIN
	case v1.Command_COMMAND_UPDATE_BINARY:
		return signer.UpdateBinary
	case v1.Command_COMMAND_UPDATE_RECORD:
		return signer.UpdateRecord
	}
	return 0
}

func (s *service) SignCommand(ctx context.Context, m *v1.SignCommandRequest) (*v1.SignCommandResponse, error) {
	c, err := s.signer.SignCommand(ctx, callerOf(ctx), signer.CommandRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, KeyVersion: m.KeyVersion, Command: readCommand(m.Command),
		Challenge: m.Challenge, PIN: m.Pin, P1: m.P1, P2: m.P2, Data: m.Data, Permanent: m.Permanent,
	})
	if err != nil {
		return nil, err
	}
	return &v1.SignCommandResponse{
		Outcome: writeOutcome(c.Outcome), Command: c.Command, Key: writeKey(c.Key), Boundary: writeBoundary(c.Key.Boundary),
		AuditIndex: c.AuditIndex, Detail: c.Detail,
	}, nil
}

func readDirection(d v1.Direction) signer.Direction {
	switch d {
	case v1.Direction_DIRECTION_EXTERNAL:
		return signer.External
	case v1.Direction_DIRECTION_INTERNAL:
		return signer.Internal
	}
	return 0
}

func (s *service) AuthenticateCard(ctx context.Context, m *v1.AuthenticateCardRequest) (*v1.AuthenticateCardResponse, error) {
	a, err := s.signer.AuthenticateCard(ctx, callerOf(ctx), signer.AuthenticateRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, KeyVersion: m.KeyVersion,
		Direction: readDirection(m.Direction), KeyID: m.KeyId, Challenge: m.Challenge, Cryptogram: m.Cryptogram,
	})
	if err != nil {
		return nil, err
	}
	return &v1.AuthenticateCardResponse{
		Outcome: writeOutcome(a.Outcome), Cryptogram: a.Cryptogram, Command: a.Command, Key: writeKey(a.Key),
		Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Detail: a.Detail,
	}, nil
}
