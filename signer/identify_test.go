package signer

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Who is not known is looked for in the newest rules. Many strangers at once have the catalogue read one at a time, and share what is read.
func TestStrangersReadTheCatalogueTogether(t *testing.T) {
	const strangers = 50
	client := policy.Client{Name: "auditor", Identity: "spiffe://pursekeeper.test/auditor", Role: policy.Auditor, KeySets: []string{"demo"}}
	use := func(b *bench, revision uint64, clients ...policy.Client) error {
		compiled, err := policy.New(policy.Rules{Clients: clients, Policies: policy.Shipped()})
		return errors.Join(err, b.Use(revision, compiled, []KeySet{testKeySet(t, "demo", suite.TDES)}))
	}
	var reads, reading atomic.Int32
	var fails atomic.Bool
	begun, goOn := make(chan struct{}, strangers), make(chan struct{})
	b := &bench{}
	b = (&office{t: t}).governed(t, t.TempDir()+"/state.db", func(c *Config) {
		c.Reload = func(ctx context.Context) error {
			if b.Signer == nil {
				return nil // it is being opened
			}
			assert.EqualValues(t, 1, reading.Add(1))
			defer reading.Add(-1)
			reads.Add(1)
			begun <- struct{}{}
			<-goOn
			if fails.Load() {
				return errors.New("no catalogue")
			}
			return use(b, 2, client)
		}
	})
	require.NoError(t, use(b, 1))
	var group sync.WaitGroup
	for range strangers {
		group.Go(func() {
			_, err := b.Identify(t.Context(), []string{"spiffe://elsewhere/x"})
			assert.Error(t, err)
		})
	}
	<-begun
	group.Go(func() { // he comes while they read
		_, err := b.Identify(t.Context(), []string{client.Identity})
		assert.NoError(t, err)
	})
	require.Eventually(t, func() bool { // all are there
		stacks := make([]byte, 4<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ".(*together).read(") == strangers+1
	}, 30*time.Second, time.Millisecond)
	close(goOn)
	group.Wait()
	assert.EqualValues(t, 2, reads.Load(), "the one that ran, and one for all who came since")

	fails.Store(true)
	_, err := b.Identify(t.Context(), []string{"spiffe://elsewhere/x"})
	var denied *policy.Denied
	require.Error(t, err)
	assert.NotErrorAs(t, err, &denied, "who could not be looked for is not denied")
}

// A certificate may carry more names than an entry has room for; whoever has one is denied, and recorded, like any other stranger.
func TestStrangersWithLongNamesAreRecorded(t *testing.T) {
	b := newBench(t)
	names := []string{strings.Repeat("\x01", 1<<16), "spiffe://test/" + strings.Repeat("x", 1<<16)}
	for range 20 {
		names = append(names, "stranger.test")
	}
	require.NoError(t, b.Refuse(t.Context(), names, "the certificate names no client of this signer"))
	entries := b.entries(t)
	last := entries[len(entries)-1]
	assert.Equal(t, "PERMISSION_DENIED", last.Outcome)
	assert.Contains(t, last.Detail, "the certificate names no client of this signer: ")
	assert.Contains(t, last.Detail, "and 14 more")
}

// Who was identified by an earlier policy, on a stream that is still open, is recorded with the role by which he was judged.
func TestTheRecordHasTheRoleOfTheDecision(t *testing.T) {
	b := newBench(t)
	sets := []KeySet{testKeySet(t, "demo", suite.TDES)}
	for _, role := range []policy.Role{policy.Reader, policy.Auditor} {
		rules, err := policy.New(policy.Rules{Clients: []policy.Client{{Name: "platform", Identity: testIdentity, Role: role, KeySets: []string{"demo"}}}})
		require.NoError(t, err)
		require.NoError(t, b.Use(0, rules, sets))
		_, err = b.AuthorizeLoad(t.Context(), b.caller, demoRequest())
		require.ErrorContains(t, err, "role "+string(role)+" may not AuthorizeLoad")
		entries := b.entries(t)
		assert.Equal(t, role, entries[len(entries)-1].Role)
		assert.Equal(t, rules.Digest(), entries[len(entries)-1].Policy)
	}
}
