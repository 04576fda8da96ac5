package hsm

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// objects counts what is in the token: what another's test must find as it left it.
func objects(t *testing.T, token *Token) (n int) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		require.NoError(t, s.module.ctx.FindObjectsInit(s.handle, nil))
		found, _, err := s.module.ctx.FindObjects(s.handle, 1000)
		require.NoError(t, err)
		n = len(found)
		return s.module.ctx.FindObjectsFinal(s.handle)
	})
	return n
}

// A replay that was cancelled and closed destroys its keys when the token is done with them: under a job that runs they would be
// handles of nothing, and production's generation would end.
func TestACancelledReplayLeavesProductionAlone(t *testing.T) {
	token, control, keys := faulty(t, nil)
	for _, key := range keys {
		contractComputes(t, suite.TDES, key)
	}
	before := objects(t, token)
	value := secretOf(t, loadMaster)
	defer value.Wipe()
	spec := KeySpec{Kind: keyderive.KindLoad, Algorithm: suite.TDES}
	replay := map[string]func(context.Context) (close func() error){
		"master": func(ctx context.Context) func() error {
			scratch, err := token.Scratch(context.Background(), spec, value)
			require.NoError(t, err)
			slow(control)
			_, err = loadMAC2(ctx, t, scratch, demoPath, "7E1722D0")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return scratch.Close
		},
		"flat": func(ctx context.Context) func() error {
			scratch, err := token.Scratch(context.Background(), spec, value)
			require.NoError(t, err)
			slow(control)
			_, err = loadMAC2(ctx, t, scratch, keyderive.Path{}, "7E1722D0")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return scratch.Close
		},
		"card": func(ctx context.Context) func() error {
			card, err := token.ScratchCard(context.Background(), spec, value)
			require.NoError(t, err)
			slow(control)
			err = card.Lend(ctx, func(whole, _ keyderive.Unit) error {
				for {
					if _, err := whole.Derive([16]byte{}, keyderive.ToEncrypt); err != nil || ctx.Err() != nil {
						return err
					}
				}
			})
			if spec.Boundary == keyderive.BoundaryToken {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			return card.Close
		},
	}
	for _, spec.Boundary = range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		for name, cancelled := range replay {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			closeIt := cancelled(ctx)
			require.NoError(t, closeIt(), name)
			cancel()
			control.Clear()
			require.Eventually(t, func() bool { return objects(t, token) == before }, recoveryLimit, tick, "%s at %v", name, spec.Boundary)
			require.NoError(t, closeIt(), "twice")
		}
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	for _, key := range keys {
		contractComputes(t, suite.TDES, key)
	}
	rulesKept(t, control)
}

// slow makes each call of the token outlast the callers of the test above.
func slow(control *hsmtest.Control) {
	for _, function := range []string{"C_DeriveKey", "C_Encrypt", "C_Decrypt"} {
		control.Set(hsmtest.Fault{Function: function, Latency: 100 * time.Millisecond})
	}
}

// A replay's key that was closed is lent no more.
func TestAClosedReplayIsOver(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	value := secretOf(t, loadMaster)
	defer value.Wipe()
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		spec := KeySpec{Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: boundary}
		scratch, err := token.Scratch(context.Background(), spec, value)
		require.NoError(t, err)
		card, err := token.ScratchCard(context.Background(), spec, value)
		require.NoError(t, err)
		require.NoError(t, scratch.Close())
		require.NoError(t, card.Close())
		assert.ErrorIs(t, scratch.Lend(context.Background(), demoPath, nil), errOver)
		assert.ErrorIs(t, card.Lend(context.Background(), nil), errOver)
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
}
