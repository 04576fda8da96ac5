package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

const largeVariable = "PURSEKEEPER_AUDIT_ENTRIES"

// generated is a record of authorised loads that are made when they are read: nothing holds them.
type generated struct {
	entries uint64
	sealed  audit.Sealed
}

func (g *generated) line(index uint64) ([]byte, error) {
	card := fmt.Sprintf("%016d", index%100_003)
	return audit.Entry{
		Time: time.Date(2024, 1, 31, 0, 0, 0, 0, time.UTC).Add(time.Duration(index) * 100 * time.Microsecond), Event: "AuthorizeLoad",
		Client: "platform", Role: "platform", Policy: "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
		KeySet: "demo", Card: card, Purse: "EP", Transaction: fmt.Sprintf("demo/%s/EP/LOAD/%04X/%08X", card, index/100_003, index),
		Key: &audit.Key{Set: "demo", Kind: "load", Version: 1, KCV: "26C9F7"}, Boundary: "TOKEN",
		Inputs:  audit.Inputs{Initialize: fmt.Sprintf("000003E8%04X0100%08X7E1722D0", index/100_003, index), AmountFen: 100, Terminal: storyTerminal, Date: storyDate, Time: storyTime},
		Outcome: "APPROVED", MAC2: "60B7B5B7",
	}.Encode()
}

func (g *generated) Entries(_ context.Context, from uint64, yield func(uint64, []byte) bool) error {
	for i := from; i < g.entries; i++ {
		line, err := g.line(i)
		if err != nil || !yield(i, line) {
			return err
		}
	}
	return nil
}

func (g *generated) Pruned(context.Context) (uint64, error) { return 0, nil }

func (g *generated) Sealing(context.Context) (audit.Sealed, uint64, error) {
	return g.sealed, g.entries, nil
}

func (g *generated) TakeSealing(_ context.Context, lease audit.Lease, _ time.Time, _ time.Duration) (audit.Lease, error) {
	lease.Fence = 1
	return lease, nil
}

func (*generated) RecentEntries(uint64, int) [][]byte { return nil }

func (g *generated) MarkSealed(_ context.Context, _ audit.Lease, sealed audit.Sealed) error {
	g.sealed = sealed
	return nil
}

// A long log is sealed faster than entries come, and verified in memory that does not grow with it: by the real program, in a process of
// its own. PURSEKEEPER_AUDIT_ENTRIES asks for more entries than the short form: ten million in `make audit-large`.
func TestLargeLog(t *testing.T) {
	g := &generated{entries: 70_000}
	if text := os.Getenv(largeVariable); text != "" {
		var err error
		g.entries, err = strconv.ParseUint(text, 10, 62)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := newCheckpointKey("log.example/large", keyInSoftware, public, func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil })
	require.NoError(t, err)
	require.NoError(t, publishKey(filepath.Join(dir, "audit.pub"), key.text))
	began := time.Now()
	s := sealer.New(sealer.Config{
		Folder: tiles.Folder(filepath.Join(dir, "audit")), Holder: "large", Record: g, Log: slog.New(slog.DiscardHandler),
		Alarm: func(e audit.Event) { assert.Fail(t, "alarm", e) }, LastRounds: time.Hour,
		Key: func(context.Context) (note.Signer, note.Verifier, error) { return key, key, nil },
	})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
	require.NoError(t, s.Status().Err)
	require.Equal(t, g.entries, s.Status().Sealed)
	took := time.Since(began)
	t.Logf("sealed %d entries in %v: %.0f a second, making them included", g.entries, took.Round(time.Millisecond), float64(g.entries)/took.Seconds())

	began = time.Now()
	p := start(t, []string{"audit", "verify", filepath.Join(dir, "audit"), "--key", filepath.Join(dir, "audit.pub"), "--checkpoint", filepath.Join(dir, "audit", "checkpoint")})
	require.Zero(t, p.status(time.Hour))
	took = time.Since(began)
	memory := p.command.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	t.Logf("verified in %v: %.0f a second, %d MiB at most\n%s", took.Round(time.Millisecond), float64(g.entries)/took.Seconds(), memory/1024, p.out.String())
	// What does not grow with the log: ten million entries held in memory would be gigabytes. The race detector, with which the tests
	// build the program, takes several times what the program does.
	assert.Less(t, memory, int64(400<<10), "KiB")
}
