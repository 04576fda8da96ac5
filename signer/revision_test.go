package signer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// office stands for the officers: its document is nothing but the state of the demonstration load key.
type office struct {
	t       testing.TB
	reloads atomic.Int64
}

// governed is a signer whose key sets come from the catalogue in its store.
func (o *office) governed(t testing.TB, path string, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{path: path, clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC)}
	b.open(t, append([]func(*Config){func(c *Config) {
		c.KeySets = nil
		c.Reload = func(ctx context.Context) error { o.reloads.Add(1); return o.follow(ctx, b) }
	}}, change...)...)
	return b
}

// follow is what a node does: it reads the catalogue and has its signer use it.
func (o *office) follow(ctx context.Context, b *bench) error {
	c, err := b.store.Custody(ctx)
	if err != nil || c.Revision == 0 {
		return err
	}
	var key custody.Key
	if err := json.Unmarshal(c.Document, &key); err != nil {
		return err
	}
	set := testKeySet(o.t, "demo", suite.TDES)
	for i := range set.Versions {
		if set.Versions[i].Kind == keyderive.KindLoad {
			set.Versions[i].State, set.Versions[i].ActivateAt = key.State, key.ActivateAt
		}
	}
	return b.Use(c.Revision, b.current.Load().policy, []KeySet{set})
}

// decide commits a change of officers, and answers the index of its entry.
func (o *office) decide(b *bench, key custody.Key) uint64 {
	o.t.Helper()
	key.Name, key.Boundary = custody.Name{Kind: keyderive.KindLoad, Version: 1}, keyderive.BoundaryProcess
	document, err := json.Marshal(key)
	require.NoError(o.t, err)
	at := new(uint64)
	require.NoError(o.t, b.store.Commit(context.Background(), store.Change{Custody: true,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			*at = index
			now := p.Custody()
			now.Revision, now.Document = now.Revision+1, document
			return []audit.Entry{{Event: "Change", Time: b.clock, Outcome: "APPLIED"}}, nil
		}}))
	return *at
}

// Two signers on one database, and officers who take a key out of use through one of them, again and again, while the other signs
// for many callers: no MAC2 is recorded, and none leaves, under a key that was not active where the record has it.
func TestNoMACUnderAKeyThatOfficersChanged(t *testing.T) {
	o := &office{t: t}
	first := o.governed(t, t.TempDir()+"/state.db")
	second := o.governed(t, first.path)
	out := [...]custody.KeyState{custody.Suspended, custody.Compromised, custody.Deactivated, custody.PreActive}
	o.decide(first, custody.Key{State: custody.Active})
	require.NoError(t, o.follow(context.Background(), second))

	const callers, cards, rounds = 8, 2000, 12
	var next, approved atomic.Int64
	var leaving sync.Map // audit index of each MAC2 that left
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for {
				n := next.Add(1)
				if n > cards {
					return
				}
				w := second.wallet(t, fmt.Sprintf("31052290%08d", n), softcard.Account{Balance: 1000, Online: 7})
				answer, err := second.AuthorizeLoad(context.Background(), second.caller, w.request(w.offer()))
				if !assert.NoError(t, err) {
					return
				}
				if answer.Outcome == ledger.Approved {
					approved.Add(1)
					leaving.Store(answer.AuditIndex, true)
				} else {
					assert.Equal(t, ledger.KeyNotActive, answer.Outcome)
				}
			}
		})
	}
	type span struct{ from, to uint64 } // entries with the key out of use
	var outs []span
	for round := range rounds {
		for target := int64(round*cards/rounds + 1); next.Load() < target && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		s := span{from: o.decide(first, custody.Key{State: out[round%len(out)]})}
		for was := next.Load(); next.Load() < min(was+20, cards) && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		s.to = o.decide(first, custody.Key{State: custody.Active})
		outs = append(outs, s)
	}
	all.Wait()

	recorded := 0
	for index, e := range second.entries(t) {
		if e.Event != "AuthorizeLoad" || e.Outcome != string(ledger.Approved) {
			continue
		}
		recorded++
		_, left := leaving.Load(uint64(index))
		assert.True(t, left, "entry %d", index)
		assert.False(t, slices.ContainsFunc(outs, func(s span) bool { return uint64(index) > s.from && uint64(index) < s.to }),
			"entry %d is approved while the key was out of use: %v", index, outs)
	}
	require.EqualValues(t, approved.Load(), recorded)
	require.Positive(t, recorded)
	require.Less(t, recorded, cards)
	require.Positive(t, o.reloads.Load(), "the second signer learned of changes by its commits alone")
	w := second.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	w.approved(w.offer())
	require.EqualValues(t, 2*rounds+1, second.Revision())
}

// A key whose time has come is active by the node's clock, with no change and no revision.
func TestAKeyBecomesActiveAtItsTime(t *testing.T) {
	o := &office{t: t}
	b := o.governed(t, t.TempDir()+"/state.db")
	at := b.clock.Add(time.Hour)
	o.decide(b, custody.Key{State: custody.PreActive, ActivateAt: at})
	require.NoError(t, o.follow(context.Background(), b))
	w := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
	state := func() custody.KeyState { return b.view().keys.sets["demo"].version(keyderive.KindLoad, 1).State }

	b.clock = at.Add(-time.Nanosecond)
	require.Equal(t, custody.PreActive, state())
	require.Equal(t, ledger.KeyNotActive, w.authorise(w.offer()).Outcome)
	require.Zero(t, b.view().keys.sets["demo"].newest(keyderive.KindLoad))
	b.clock = at
	require.Equal(t, custody.Active, state())
	require.Equal(t, 1, b.view().keys.sets["demo"].newest(keyderive.KindLoad))
	w.approved(w.offer())
	require.EqualValues(t, 1, b.Revision())
}

// A change that cannot be read, or does not come into use, is no permission to go on: the request fails, and nothing left.
func TestAChangeThatCannotBeReadStopsTheSigner(t *testing.T) {
	for name, reload := range map[string]func(context.Context) error{
		"unreadable": func(context.Context) error { return assert.AnError },
		"not in use": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			o := &office{t: t}
			b := o.governed(t, t.TempDir()+"/state.db", func(c *Config) { c.Reload = reload })
			o.decide(b, custody.Key{State: custody.Active})
			require.NoError(t, o.follow(context.Background(), b))
			w := b.wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
			w.approved(w.offer())
			o.decide(b, custody.Key{State: custody.Active})
			_, err := b.AuthorizeLoad(context.Background(), b.caller, w.request(w.offer()))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.NoError(t, o.follow(context.Background(), b))
			w.approved(w.offer())
		})
	}
}

// Of two that follow the catalogue at once the newer stays; and a catalogue that is changed for ever ends a request.
func TestUseKeepsTheNewest(t *testing.T) {
	b := newBench(t)
	set := testKeySet(t, "demo", suite.TDES)
	require.NoError(t, b.Use(7, b.current.Load().policy, []KeySet{set}))
	require.NoError(t, b.Use(6, b.current.Load().policy, nil))
	require.EqualValues(t, 7, b.Revision())
	require.ErrorContains(t, b.Use(8, b.current.Load().policy, []KeySet{set, set}), "is there twice")
	require.EqualValues(t, 7, b.Revision())

	tried := 0
	b.reload = func(context.Context) error { return b.Use(b.Revision()+1, b.current.Load().policy, []KeySet{set}) }
	_, err := withKeys(context.Background(), b.Signer, func(view) (struct{}, error) {
		tried++
		return struct{}{}, store.ErrRevision
	})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrRevision)
	require.Equal(t, mostRevisions, tried)
}

// tripping calls once what was set before it lends.
type tripping struct {
	keyderive.Key
	trip *func()
}

func (k tripping) Lend(ctx context.Context, levels keyderive.Path, use func(keyderive.Unit) error) error {
	if f := *k.trip; f != nil {
		*k.trip = nil
		f()
	}
	return k.Key.Lend(ctx, levels, use)
}

// A change of officers between a frame's number and its record: the frame leaves when its key still signs, without a gap, and else not.
func TestAChangeBetweenAFramesNumberAndItsRecord(t *testing.T) {
	var trip func()
	var l *till
	o := &office{t: t}
	state := custody.Active
	use := func(ctx context.Context) error {
		c, err := l.bench.store.Custody(ctx)
		require.NoError(t, err)
		set := l.set
		set.Versions = slices.Clone(l.set.Versions)
		for i := range set.Versions {
			if set.Versions[i].Kind == keyderive.KindReader {
				set.Versions[i].State, set.Versions[i].Key = state, tripping{set.Versions[i].Key, &trip}
			}
		}
		return l.Use(c.Revision, l.current.Load().policy, []KeySet{set})
	}
	l = newTill(t, suite.TDES, "pboc-ep", func(c *Config) { c.Reload = use })
	o.decide(l.bench, custody.Key{State: custody.Active})
	require.NoError(t, use(context.Background()))
	m, session := l.line()
	for n := range 3 {
		trip = func() { o.decide(l.bench, custody.Key{State: custody.Active}) }
		sealed := l.seal(session, []byte{byte(n)}, false)
		require.Nil(t, trip, "the change came between")
		require.Equal(t, ledger.Approved, sealed.Outcome)
		require.EqualValues(t, 2+n, l.Revision())
		got, _, err := m.Open(unhex(t, sealed.Frame))
		require.NoError(t, err, "no gap")
		require.Equal(t, []byte{byte(n)}, got)
	}
	trip = func() { state = custody.Suspended; o.decide(l.bench, custody.Key{State: custody.Suspended}) }
	sealed := l.seal(session, []byte{9}, false)
	require.Equal(t, ledger.KeyNotActive, sealed.Outcome)
	require.Empty(t, sealed.Frame)
}

// A change between a purchase's serial number and its record: the number is a gap, and MAC1 is made anew or not at all.
func TestAChangeBetweenASerialNumberAndItsPurchase(t *testing.T) {
	var trip func()
	var l *till
	o := &office{t: t}
	state := custody.Active
	use := func(ctx context.Context) error {
		c, err := l.bench.store.Custody(ctx)
		require.NoError(t, err)
		set := l.set
		set.Versions = slices.Clone(l.set.Versions)
		for i := range set.Versions {
			if set.Versions[i].Kind == keyderive.KindPurchase {
				set.Versions[i].State, set.Versions[i].Key = state, tripping{set.Versions[i].Key, &trip}
			}
		}
		return l.Use(c.Revision, l.current.Load().policy, []KeySet{set})
	}
	l = newTill(t, suite.TDES, "pboc-ep", func(c *Config) { c.Reload = use })
	o.decide(l.bench, custody.Key{State: custody.Active})
	require.NoError(t, use(context.Background()))
	trip = func() { o.decide(l.bench, custody.Key{State: custody.Active}) }
	b := l.approved(l.ask(purse.TTIPurchaseEP))
	require.Equal(t, "00000002", b.TerminalSerial, "1 is a gap")
	trip = func() { state = custody.Suspended; o.decide(l.bench, custody.Key{State: custody.Suspended}) }
	refused, err := l.BeginPurchase(context.Background(), l.caller, l.ask(purse.TTIPurchaseEP))
	require.NoError(t, err)
	require.Equal(t, ledger.KeyNotActive, refused.Outcome)
	require.Empty(t, refused.MAC1)
}
