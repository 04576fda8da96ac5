package hsm_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/testvectors"
)

var _ testvectors.Engine = hsm.Replay{}

// Every vector holds on every boundary of a real token.
func TestVectorsOnEveryBoundary(t *testing.T) {
	made := hsmtest.NewToken(t)
	token, err := hsm.Open(context.Background(), hsm.Config{Module: made.Module, TokenLabel: made.Label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil }})
	require.NoError(t, err)
	defer func() { require.NoError(t, token.Close()) }()
	files, err := testvectors.Embedded()
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		for _, file := range files {
			report, err := testvectors.Replay(context.Background(), token.Replay(boundary), file)
			require.NoError(t, err)
			require.Empty(t, report.Failures, boundary)
			require.NotEmpty(t, report.Rows)
		}
	}
	require.NoError(t, token.Ready(context.Background()))
}
