package custody

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Two changes that destroy one transport key, both approved while the token is away: when it is back, one does it and the other ends.
func TestATransportKeyIsDestroyedOnce(t *testing.T) {
	away := errors.New("away")
	destroyed := 0
	w := newWorld(t, policy.Quorum{Default: 1}, func(o *Options) {
		o.DestroyTransport = func(context.Context, Transport) error {
			if away == nil {
				destroyed++
			}
			return away
		}
	})
	entered := w.does(policy.ImportTransport, func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", Bits: 256, KCV: "0123456789", Components: 3}
	})
	change, c, err := w.Ready(t.Context(), entered.ID)
	require.NoError(t, err)
	_, err = w.Complete(t.Context(), officer("carol"), entered.ID, madeFor(c, change), "")
	require.NoError(t, err)

	destroys := func(c *Change) { c.Transport = &TransportChange{Name: "bureau", KCV: "0123456789"} }
	var both []store.ChangeRequest
	for range 2 {
		r, err := w.approve("bob", w.propose("alice", policy.DestroyTransport, destroys))
		require.ErrorIs(t, err, ErrToken)
		require.Equal(t, store.RequestExecuting, r.State)
		both = append(both, r)
	}
	away = nil
	require.ErrorIs(t, w.Resume(t.Context()), ErrBaseChanged, "it is said once")
	require.NoError(t, w.Resume(t.Context()))
	assert.Equal(t, 1, destroyed)
	assert.Nil(t, w.catalogue().Transport("bureau"))
	for i, want := range []store.RequestState{store.RequestApplied, store.RequestFailed} {
		r, _, err := w.Request(t.Context(), both[i].ID)
		require.NoError(t, err)
		assert.Equal(t, want, r.State)
	}
}

// One officer's proposals, however many, do not stand between the office and work in the token that was interrupted.
func TestWorkIsFoundBehindProposals(t *testing.T) {
	away := errors.New("away")
	w := newWorld(t, policy.Quorum{Default: 1}, func(o *Options) {
		o.DestroyTransport = func(context.Context, Transport) error { return away }
	})
	entered := w.does(policy.ImportTransport, func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", Bits: 256, KCV: "0123456789", Components: 3}
	})
	change, c, err := w.Ready(t.Context(), entered.ID)
	require.NoError(t, err)
	_, err = w.Complete(t.Context(), officer("carol"), entered.ID, madeFor(c, change), "")
	require.NoError(t, err)
	for range openPage {
		w.propose("carol", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	}
	r, err := w.approve("bob", w.propose("alice", policy.DestroyTransport, func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", KCV: "0123456789"}
	}))
	require.ErrorIs(t, err, ErrToken)
	away = nil
	require.NoError(t, w.Resume(t.Context()))
	r, _, err = w.Request(t.Context(), r.ID)
	require.NoError(t, err)
	assert.Equal(t, store.RequestApplied, r.State)
}

// A purse that cannot be reset any more when an officer approves is a refusal like any other: by its name, and recorded.
func TestAPurseThatCannotBeResetAnyMore(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	r := w.propose("alice", policy.ResetPurse, func(c *Change) {
		c.Purse = &PurseChange{KeySet: "demo", Card: "3105228000001117", Purse: "EP"}
	})
	w.ResetPurse = func(PurseChange) (store.PurseKey, func(*store.Purse) error, error) {
		return store.PurseKey{}, nil, errors.New("this node serves no such key set")
	}
	_, err := w.approve("bob", r)
	require.ErrorIs(t, err, ErrInvalid)
	assert.Equal(t, "INVALID", w.last().Outcome)
	r, _, err = w.Request(t.Context(), r.ID)
	require.NoError(t, err)
	assert.Equal(t, store.RequestOpen, r.State)
	assert.Empty(t, r.Approvals)
	assert.Empty(t, w.reset)
}
