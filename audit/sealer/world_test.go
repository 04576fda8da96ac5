package sealer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/store"
)

// key is a key of checkpoints in software, the same for the same seed.
func key(seed byte) (note.Signer, note.Verifier, error) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	text, err := note.NewEd25519VerifierKey("log.example/sealer", private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(text)
	return softSigner{verifier, private}, verifier, err
}

type softSigner struct {
	note.Verifier
	private ed25519.PrivateKey
}

func (s softSigner) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(s.private, message), nil
}

// place is a folder with a database and a log.
type place string

func (p place) database() string     { return filepath.Join(string(p), "state.db") }
func (p place) folder() tiles.Folder { return tiles.Folder(filepath.Join(string(p), "audit")) }

func (p place) open(t testing.TB) *store.Database {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), p.database())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// record commits n entries in one change.
func record(ctx context.Context, s store.Store, n int) error {
	return s.Commit(ctx, store.Change{Decide: func(_ *store.Purse, first uint64) ([]audit.Entry, error) {
		entries := make([]audit.Entry, n)
		for i := range entries {
			entries[i] = audit.Entry{Time: time.Now(), Event: "AuthorizeLoad", Card: fmt.Sprintf("%016d", first+uint64(i)), Outcome: "APPROVED"}
		}
		return entries, nil
	}})
}

// alarms counts.
type alarms struct {
	mu    sync.Mutex
	count map[audit.Event]int
}

func (a *alarms) raise(e audit.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = map[audit.Event]int{}
	}
	a.count[e]++
}

func (a *alarms) of(e audit.Event) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[e]
}

func config(p place, record sealer.Record, a *alarms) sealer.Config {
	return sealer.Config{
		Folder: p.folder(), Holder: "node", Record: record, Log: slog.New(slog.DiscardHandler), Alarm: a.raise, Interval: time.Millisecond,
		Key: func(context.Context) (note.Signer, note.Verifier, error) { return key(1) },
	}
}

// once seals all that is there and returns how it went.
func once(t testing.TB, c sealer.Config) sealer.Status {
	t.Helper()
	s := sealer.New(c)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
	return s.Status()
}

func checkpoint(t testing.TB, f tiles.Folder) []byte {
	t.Helper()
	signed, err := f.Checkpoint()
	require.NoError(t, err)
	return signed
}

// holds verifies the log, with a checkpoint that was saved before, and that it is what the database has.
func holds(t testing.TB, p place, s store.Store, saved []byte) (size uint64) {
	t.Helper()
	_, k, err := key(1)
	require.NoError(t, err)
	report, err := verifier.Verify(t.Context(), verifier.Config{Folder: p.folder(), Key: k, Saved: saved})
	require.NoError(t, err)
	require.True(t, report.Held(), "%v", report.Findings)
	size = report.Checkpoint.Size
	full, width := tiles.Level(0, size)
	var bundle [][]byte
	require.NoError(t, s.Entries(t.Context(), 0, func(index uint64, line []byte) bool {
		if index >= size {
			return false
		}
		if index%tiles.Width == 0 {
			tile := tiles.Bundle(index/tiles.Width, tiles.Width)
			if tile.Index == full {
				tile.Width = width
			}
			bundle, err = p.folder().Entries(tile)
			require.NoError(t, err)
		}
		require.Equal(t, string(line), string(bundle[index%tiles.Width]))
		return true
	}))
	return size
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, child(place(dir)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
