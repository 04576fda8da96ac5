package verifier_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// database is a record in memory: what the sealer seals. An attacker of the database changes it.
type database struct {
	lines  [][]byte
	sealed audit.Sealed
}

func (d *database) Entries(_ context.Context, from uint64, yield func(uint64, []byte) bool) error {
	for i := from; i < uint64(len(d.lines)); i++ {
		if !yield(i, d.lines[i]) {
			break
		}
	}
	return nil
}

func (*database) RecentEntries(uint64, int) [][]byte       { return nil }
func (d *database) Pruned(context.Context) (uint64, error) { return 0, nil }

func (d *database) Sealing(context.Context) (audit.Sealed, uint64, error) {
	return d.sealed, uint64(len(d.lines)), nil
}

func (d *database) TakeSealing(_ context.Context, lease audit.Lease, _ time.Time, _ time.Duration) (audit.Lease, error) {
	lease.Fence = 1
	return lease, nil
}

func (d *database) MarkSealed(_ context.Context, _ audit.Lease, sealed audit.Sealed) error {
	d.sealed = sealed
	return nil
}

// add records n entries, a second apart.
func (d *database) add(t testing.TB, n int) {
	t.Helper()
	for range n {
		i := len(d.lines)
		e := audit.Entry{
			Time: time.Date(2024, 1, 31, 0, 0, i, 0, time.UTC), Event: "AuthorizeLoad", Client: "platform", KeySet: "demo",
			Card: fmt.Sprintf("%016d", i), Outcome: "APPROVED",
		}
		d.set(t, i, e)
	}
}

func (d *database) set(t testing.TB, index int, e audit.Entry) {
	t.Helper()
	line, err := e.Encode()
	require.NoError(t, err)
	if index == len(d.lines) {
		d.lines = append(d.lines, nil)
	}
	d.lines[index] = line
}

func (d *database) entry(t testing.TB, index int) audit.Entry {
	t.Helper()
	e, err := audit.Decode(d.lines[index])
	require.NoError(t, err)
	return e
}

// logged is a log with its key, and the database that it was sealed from.
type logged struct {
	*testing.T
	folder tiles.Folder
	db     *database
	signer note.Signer
	key    note.Verifier
}

func newKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	key, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, key
}

// newLog seals n entries.
func newLog(t *testing.T, n int) *logged {
	t.Helper()
	l := &logged{T: t, folder: tiles.Folder(filepath.Join(t.TempDir(), "audit")), db: &database{}}
	l.signer, l.key = newKey(t, "log.example/pursekeeper")
	l.db.add(t, n)
	l.seal()
	return l
}

// seal seals all that the database has.
func (l *logged) seal() {
	l.Helper()
	s := sealer.New(sealer.Config{
		Folder: l.folder, Holder: "test", Record: l.db, Log: slog.New(slog.DiscardHandler), Alarm: func(audit.Event) {},
		Key: func(context.Context) (note.Signer, note.Verifier, error) { return l.signer, l.key, nil },
	})
	ctx, stop := context.WithCancel(l.Context())
	stop()
	s.Run(ctx)
	require.NoError(l, s.Status().Err)
	require.Zero(l, s.Status().Unsealed())
}

// copy is the same log in another folder, for an attacker.
func (l *logged) copy(t *testing.T) *logged {
	t.Helper()
	c := *l
	c.T = t
	c.folder = tiles.Folder(filepath.Join(t.TempDir(), "audit"))
	require.NoError(t, os.CopyFS(string(c.folder), os.DirFS(string(l.folder))))
	c.db = &database{slices.Clone(l.db.lines), l.db.sealed}
	return &c
}

func (l *logged) checkpoint() []byte {
	l.Helper()
	signed, err := l.folder.Checkpoint()
	require.NoError(l, err)
	require.NotEmpty(l, signed)
	return signed
}

func (l *logged) place(t tiles.Tile) string { return filepath.Join(string(l.folder), t.Path()) }

func (l *logged) overwrite(t tiles.Tile, data []byte) {
	l.Helper()
	require.NoError(l, os.WriteFile(l.place(t), data, 0o644))
}

// entries reads a bundle; write writes it back.
func (l *logged) entries(t tiles.Tile) [][]byte {
	l.Helper()
	entries, err := l.folder.Entries(t)
	require.NoError(l, err)
	return entries
}

func (l *logged) write(t tiles.Tile, entries [][]byte) {
	l.Helper()
	var data []byte
	for _, e := range entries {
		data, _ = tiles.AppendEntry(data, e)
	}
	l.overwrite(t, data)
}

// rehash writes the leaf hashes of a bundle anew.
func (l *logged) rehash(bundle tiles.Tile) {
	l.Helper()
	var hashes []tlog.Hash
	for _, e := range l.entries(bundle) {
		hashes = append(hashes, tlog.RecordHash(e))
	}
	l.overwrite(tiles.Tile{Index: bundle.Index, Width: bundle.Width}, tiles.Join(hashes))
}

func (l *logged) verify(saved []byte) *verifier.Report {
	l.Helper()
	report, err := verifier.Verify(l.Context(), verifier.Config{Folder: l.folder, Key: l.key, Saved: saved})
	require.NoError(l, err)
	return report
}
