package signer

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// No operation here computes with the grant of another operation, or of another key set.
func TestOperationsRefuseAnothersGrant(t *testing.T) {
	b := newBench(t)
	ctx, set := context.Background(), b.current.Load().sets["demo"]
	grant := func(op policy.Operation, name string) policy.Grant {
		g, err := b.current.Load().policy.Decide(policy.Request{Caller: b.caller, Operation: op, KeySet: name})
		require.NoError(t, err)
		return g
	}
	before := len(b.entries(t))
	for _, wrong := range []policy.Grant{{}, grant(policy.AuthorizeLoad, "demo")} {
		_, err := b.view().verifyTAC(ctx, b.caller, wrong, set, tac{})
		require.ErrorIs(t, err, errNoGrant)
		_, err = b.view().verifyTACs(ctx, b.caller, map[string]permittedSet{"demo": {set: set, grant: wrong}}, b.purchases(t, "demo", 1))
		require.ErrorIs(t, err, errNoGrant)
		_, err = b.view().signCommand(ctx, b.caller, wrong, set, command{})
		require.ErrorIs(t, err, errNoGrant)
		_, err = b.view().authenticateCard(ctx, b.caller, wrong, set, authentication{direction: External})
		require.ErrorIs(t, err, errNoGrant)
		_, err = b.view().listKeySets(ctx, b.caller, []policy.Grant{wrong}, []*keySet{set})
		require.ErrorIs(t, err, errNoGrant)
	}
	_, err := b.view().verifyTAC(ctx, b.caller, grant(policy.VerifyTac, "demo-sm4"), set, tac{})
	require.ErrorIs(t, err, errNoGrant)
	_, err = b.view().signCommand(ctx, b.caller, grant(policy.SignCommand, "demo-sm4"), set, command{})
	require.ErrorIs(t, err, errNoGrant)
	require.Len(t, b.entries(t), before)
}

// countingKey counts the cards that are asked of it.
type countingKey struct {
	keyderive.Key
	many   bool
	cards  *atomic.Int64
	shares *atomic.Int64
}

func (k countingKey) Lend(ctx context.Context, levels keyderive.Path, use func(keyderive.Unit) error) error {
	k.cards.Add(1)
	return k.Key.Lend(ctx, levels, use)
}

func (k countingKey) LendCards(ctx context.Context, levels keyderive.Path, cards []keyderive.Factor, use func(int, keyderive.Card) error) error {
	if !k.many {
		return keyderive.ErrUnsupported
	}
	k.cards.Add(int64(len(cards)))
	k.shares.Add(1)
	return k.Key.(keyderive.ManyLender).LendCards(ctx, levels, cards, use)
}

// A card's key is made once for all of its TACs in a batch, each card's in its own key set and of its own issuer, on keys that
// can make many at once and on those that cannot; large batches are shared among the processors.
func TestACardOfABatchIsDerivedOnce(t *testing.T) {
	for _, many := range []bool{true, false} {
		var cards, shares atomic.Int64
		b := newBench(t, func(c *Config) {
			for i := range c.KeySets {
				for j := range c.KeySets[i].Versions {
					v := &c.KeySets[i].Versions[j]
					v.Key = countingKey{v.Key, many, &cards, &shares}
				}
			}
			c.KeySets[1].Issuer = Issuer{FromCard: true}
		})
		const each = 300
		items := b.purchases(t, "demo", each)
		sm4 := b.purchases(t, "demo-sm4", each) // made at issuer 0…0
		other := slices.Clone(sm4)
		for i := range sm4 {
			sm4[i].IssuerID, other[i].IssuerID = "0000000000000000", "0000000000000001"
		}
		items = slices.Concat(items, sm4, items, sm4, other)
		cards.Store(0)
		answer, err := b.VerifyTacs(context.Background(), b.caller, items)
		require.NoError(t, err)
		require.EqualValues(t, 3*each, cards.Load(), "the card key of each card, once")
		require.Equal(t, 4*each, answer.Verified)
		require.Equal(t, each, answer.Mismatched)
		for i, r := range answer.Results {
			require.NoError(t, r.Err)
			require.Equal(t, i < 4*each, r.Outcome == ledger.Verified, i)
		}
		if many {
			require.GreaterOrEqual(t, shares.Load(), int64(min(runtime.GOMAXPROCS(0), each/leastCards)))
		}
	}
}

// A request that ends while its loan waits wipes its PIN, and so does a loan that outlasts its request: nobody uses it after.
func TestAPINEndsWithItsLoan(t *testing.T) {
	read := func() (*keySet, command) {
		b := newBench(t, func(c *Config) { c.KeySets[0].Versions[0].Kind = keyderive.KindPINReload })
		set := b.current.Load().sets["demo"]
		c, err := set.readCommand(CommandRequest{CardSerial: testSerial, Command: ReloadPIN, PIN: "834905"})
		require.NoError(t, err)
		return set, c
	}
	set, late := read()
	held := late.what.(purse.ReloadPIN).PIN
	late.pin.end()
	assert.Equal(t, make([]byte, 0), held.Reveal("to see that it is gone"))
	key := set.version(keyderive.KindPINReload, 1)
	_, err := late.make(context.Background(), set, key)
	require.ErrorIs(t, err, errRequestEnded)

	set, running := read()
	held = running.what.(purse.ReloadPIN).PIN
	key = set.version(keyderive.KindPINReload, 1)
	begun, finish, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	key.Key = leaving{key.Key, begun, finish, done}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-begun; cancel() }()
	_, err = running.make(ctx, set, key)
	require.ErrorIs(t, err, context.Canceled)
	running.pin.end() // the loan has it, and goes on
	close(finish)
	require.NoError(t, <-done)
	assert.Empty(t, held.Reveal("to see that it is gone"))
}

// leaving is a key whose Lend returns when its context ends, with use still to run, as a token's may.
type leaving struct {
	keyderive.Key
	begun, finish chan struct{}
	done          chan error
}

func (k leaving) Lend(ctx context.Context, levels keyderive.Path, use func(keyderive.Unit) error) error {
	go func() {
		k.done <- k.Key.Lend(context.WithoutCancel(ctx), levels, func(u keyderive.Unit) error {
			return use(slow{u, k.begun, k.finish})
		})
	}()
	<-ctx.Done()
	return ctx.Err()
}

// slow is a unit that holds its loan open between the derivation of the card key and its use.
type slow struct {
	keyderive.Unit
	begun, finish chan struct{}
}

func (s slow) Derive(data [16]byte, purpose keyderive.Purpose) (keyderive.Unit, error) {
	close(s.begun)
	<-s.finish
	return s.Unit.Derive(data, purpose)
}
