package keyderive

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// atOnce is a Key that answers at once, with what it was told to.
type atOnce struct {
	Key
	issued MAC
	err    error
	levels Path
	asked  []Exchange
}

func (k *atOnce) Exchange(_ context.Context, levels Path, x Exchange) (MAC, error) {
	k.levels = levels
	k.asked = append(k.asked, x)
	return k.issued, k.err
}

// An engine that answers at once is asked so, and has the last word, unless it says that it has no such way.
func TestExchangeAtOnceOrStepByStep(t *testing.T) {
	memory, err := InMemory(suite.TDES, secret.Copy([]byte("0123456789ABCDEF")))
	require.NoError(t, err)
	path := RootFirst(Factor{1}, Factor{2})
	x := Exchange{Card: Factor{3}, In: Factor{4}, Proof: []byte("proof"), Issue: []byte("issue")}
	var want MAC
	require.NoError(t, NewMaster(memory, path).WithCard(t.Context(), x.Card, func(c Card) error {
		session, err := c.Session(x.In)
		require.NoError(t, err)
		x.Got, err = session.MAC(x.Proof)
		require.NoError(t, err)
		want, err = session.MAC(x.Issue)
		return err
	}))

	issued, err := NewMaster(memory, path).Exchange(t.Context(), x)
	require.NoError(t, err)
	assert.Equal(t, want, issued)

	key := &atOnce{Key: memory, issued: MAC{1}}
	issued, err = NewMaster(key, path).Exchange(t.Context(), x)
	require.NoError(t, err)
	assert.Equal(t, MAC{1}, issued)
	assert.Equal(t, []Exchange{x}, key.asked)
	assert.Equal(t, path, key.levels)

	for _, word := range []error{errAway, ErrMismatch} {
		_, err = NewMaster(&atOnce{Key: memory, err: word}, path).Exchange(t.Context(), x)
		require.ErrorIs(t, err, word)
	}
	issued, err = NewMaster(&atOnce{Key: memory, err: fmt.Errorf("at once: %w", ErrUnsupported)}, path).Exchange(t.Context(), x)
	require.NoError(t, err)
	assert.Equal(t, want, issued)

	x.Got[0] ^= 1
	issued, err = NewMaster(memory, path).Exchange(t.Context(), x)
	require.ErrorIs(t, err, ErrMismatch)
	assert.Zero(t, issued)
}
