package signer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// absent is a key whose token is away.
type absent struct{ keyderive.Key }

var errAbsent = errors.New("the token is away")

func (absent) Lend(context.Context, keyderive.Path, func(keyderive.Unit) error) error {
	return fmt.Errorf("test: %w", errAbsent)
}

// No verdict leaves that is not recorded; a token that fails is no verdict either, but an error after which the same call may be made again.
func TestAReplayThatFailsAnswersNothing(t *testing.T) {
	var faulty *faultyStore
	c := newChronicle(t, suite.TDES, func(config *Config) {
		faulty = &faultyStore{Store: config.Store}
		config.Store = faulty
	})
	c.load(7, true)
	auditor, ctx := c.as(policy.Auditor), context.Background()
	for _, fail := range []func(){func() { faulty.before = true }, func() { faulty.after = true }} {
		fail()
		answer, err := c.Replay(ctx, auditor, ReplayRequest{To: 2})
		require.ErrorIs(t, err, store.ErrUnavailable)
		assert.Empty(t, answer.Results)
	}

	entries := len(c.entries(t))
	versions := c.current.Load().sets["full"].versions[keyderive.KindLoad]
	there := versions[1]
	away := there
	away.Key = absent{there.Key}
	versions[1] = away
	answer, err := c.Replay(ctx, auditor, ReplayRequest{To: 2})
	require.ErrorIs(t, err, errAbsent)
	assert.Empty(t, answer.Results)
	assert.Len(t, c.entries(t), entries)
	versions[1] = there
	answer, err = c.Replay(ctx, auditor, ReplayRequest{To: 2})
	require.NoError(t, err)
	assert.Equal(t, Equal, answer.Results[1].Verdict)
}

// A call looks at no more entries than it is asked to, and one whose time is over answers nothing.
func TestAPartOfAReplay(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	for i := range 20 {
		c.load(7, i%2 == 0)
	}
	slept := 0
	c.rest = func(context.Context, time.Duration) error {
		slept++
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := c.Replay(ctx, c.as(policy.Auditor), ReplayRequest{Limit: 5})
	require.NoError(t, err)
	assert.Len(t, answer.Results, 5)
	assert.False(t, answer.Done)
	short, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-short.Done()
	_, err = c.Replay(short, c.as(policy.Auditor), ReplayRequest{From: answer.Next})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.LessOrEqual(t, slept, 5)
}
