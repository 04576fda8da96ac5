package hsm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A key that is forgotten is lent no more and stays in the token: it can be adopted again, with another spec too.
func TestForget(t *testing.T) {
	ctx := context.Background()
	token, control, _ := faulty(t, nil)
	for _, boundary := range allBoundaries {
		spec, _, err := token.GenerateMaster(ctx, newSpec(boundary.String()+"/forgotten", keyderive.KindLoad, suite.TDES, boundary), WithoutBackup())
		require.NoError(t, err)
		key := keyOf(t, token, spec.Label)
		mac := macOf(t, key)

		inside, leave, lent := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			lent <- key.Lend(ctx, demoPath, func(unit keyderive.Unit) error {
				close(inside)
				<-leave
				_, err := unit.Derive([16]byte{1}, keyderive.ToDerive)
				return err
			})
		}()
		<-inside
		short, cancel := context.WithCancel(ctx)
		waits := make(chan error, 1)
		go func() { waits <- token.Forget(short, spec.Label) }()
		require.Eventually(t, func() bool { return !token.configured(spec) }, patience, tick)
		_, err = sessionMAC(key, demoPath)
		assert.ErrorIs(t, err, ErrKeyNotFound)
		cancel()
		assert.ErrorIs(t, <-waits, context.Canceled)
		close(leave)
		assert.NoError(t, <-lent, "a Lend that runs comes to its end")
		assert.NoError(t, token.Forget(ctx, spec.Label))
		assert.NoError(t, token.Forget(ctx, spec.Label), "it is forgotten already")
		_, err = token.Key(spec.Label)
		assert.ErrorIs(t, err, ErrKeyNotFound)

		require.NoError(t, token.Adopt(ctx, spec))
		assert.Equal(t, mac, macOf(t, keyOf(t, token, spec.Label)))
		assert.NoError(t, token.Ready(ctx))
	}
	assert.NoError(t, token.Forget(ctx, "nobody/load/1"))
	assert.Equal(t, uint64(1), token.Stats().Generation, "no call met a key that was gone")
	rulesKept(t, control)
}
