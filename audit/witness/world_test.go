package witness_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/witness"
	"github.com/pursekeeper/pursekeeper/audit/witness/witnesstest"
)

// database is a record in memory. An attacker of the database changes it.
type database struct {
	mu     sync.Mutex
	lines  [][]byte
	sealed audit.Sealed
}

func (d *database) Entries(_ context.Context, from uint64, yield func(uint64, []byte) bool) error {
	d.mu.Lock()
	lines := d.lines
	d.mu.Unlock()
	for i := from; i < uint64(len(lines)); i++ {
		if !yield(i, lines[i]) {
			break
		}
	}
	return nil
}

func (*database) RecentEntries(uint64, int) [][]byte { return nil }

func (*database) Pruned(context.Context) (uint64, error) { return 0, nil }

func (d *database) Sealing(context.Context) (audit.Sealed, uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sealed, uint64(len(d.lines)), nil
}

func (d *database) TakeSealing(_ context.Context, lease audit.Lease, _ time.Time, _ time.Duration) (audit.Lease, error) {
	lease.Fence = 1
	return lease, nil
}

func (d *database) MarkSealed(_ context.Context, _ audit.Lease, sealed audit.Sealed) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealed = sealed
	return nil
}

// record adds n entries; outcome tells one record from another.
func (d *database) record(t testing.TB, n int, outcome string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for range n {
		i := len(d.lines)
		line, err := audit.Entry{Time: time.Unix(int64(i), 0), Event: "AuthorizeLoad", Card: fmt.Sprintf("%016d", i), Outcome: outcome}.Encode()
		require.NoError(t, err)
		d.lines = append(d.lines, line)
	}
}

// node is a log, its database, and what offers its checkpoints.
type node struct {
	*testing.T
	folder tiles.Folder
	db     *database
	signer note.Signer
	key    note.Verifier
	sealer *sealer.Sealer
	offers *witness.Offerer
	alarms chan audit.Event
}

// newNode makes one that some witnesses know; it runs until the test ends.
func newNode(t *testing.T, witnesses ...*witnesstest.Witness) *node {
	t.Helper()
	n := newLog(t)
	for _, w := range witnesses {
		w.Know(n.key)
	}
	n.run(configured(t, witnesses), 10*time.Minute)
	return n
}

// newLog makes one that does not run yet.
func newLog(t *testing.T) *node {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "log.example/pursekeeper")
	require.NoError(t, err)
	n := &node{T: t, db: &database{}, folder: tiles.Folder(filepath.Join(t.TempDir(), "audit"))}
	n.signer, err = note.NewSigner(private)
	require.NoError(t, err)
	n.key, err = note.NewVerifier(public)
	require.NoError(t, err)
	return n
}

func configured(t *testing.T, witnesses []*witnesstest.Witness) (all []witness.Witness) {
	t.Helper()
	for i, w := range witnesses {
		key, err := tiles.ParseWitness(w.VerifierKey())
		require.NoError(t, err)
		client := *w.Client() // which others use at the same time
		client.CheckRedirect = witness.NoRedirect
		all = append(all, witness.Witness{Name: fmt.Sprintf("w%d", i), URL: w.URL + "/", Key: key, HTTP: &client})
	}
	return all
}

// run seals and offers until the test ends.
func (n *node) run(witnesses []witness.Witness, late time.Duration) {
	n.Helper()
	n.alarms = make(chan audit.Event, 10)
	log := slog.New(slog.DiscardHandler)
	alarm := func(e audit.Event) { n.alarms <- e }
	n.offers = witness.New(witness.Config{
		Folder: n.folder, Witnesses: witnesses, Log: log, Alarm: alarm, Interval: time.Millisecond, Late: late,
		Key:      func(context.Context) (note.Verifier, error) { return n.key, nil },
		Cosigned: func(c tiles.Checkpoint, w *tiles.Witness, lines string) error { return n.sealer.Cosigned(c, w, lines) },
	})
	n.sealer = sealer.New(sealer.Config{
		Folder: n.folder, Holder: "test", Record: n.db, Log: log, Alarm: alarm, Interval: time.Millisecond, Published: n.offers.Published,
		Key: func(context.Context) (note.Signer, note.Verifier, error) { return n.signer, n.key, nil },
	})
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { n.sealer.Run(ctx) })
	group.Go(func() { n.offers.Run(ctx) })
	n.Cleanup(func() { stop(); group.Wait() })
}

// forked is another log by the same key, sealed and not offered: an attacker who has the database, the tiles and the use of the key. With
// witnesses it is offered to them.
func (n *node) forked(entries int, witnesses ...*witnesstest.Witness) *node {
	n.Helper()
	f := &node{T: n.T, folder: tiles.Folder(filepath.Join(n.TempDir(), "audit")), db: &database{}, signer: n.signer, key: n.key}
	f.db.record(n, entries, "REFUSED")
	f.run(configured(n.T, witnesses), 10*time.Minute)
	f.sealed(uint64(entries))
	return f
}

// sealed waits until so many entries are.
func (n *node) sealed(entries uint64) {
	n.Helper()
	require.Eventually(n, func() bool { return n.sealer.Status().Sealed == entries && n.sealer.Status().Err == nil }, time.Minute, time.Millisecond)
}

// signed waits until every witness has signed so many entries.
func (n *node) signed(entries uint64) {
	n.Helper()
	require.Eventually(n, func() bool {
		for _, s := range n.offers.Statuses() {
			if s.Size != entries || s.Err != nil || !s.Waiting.IsZero() {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond, "%+v", n.offers.Statuses())
}

func (n *node) checkpoint() []byte {
	n.Helper()
	signed, err := n.folder.Checkpoint()
	require.NoError(n, err)
	return signed
}
