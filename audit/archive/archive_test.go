package archive_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/archive"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/store"
)

// softSigner is a key of checkpoints in software.
type softSigner struct {
	note.Verifier
	private ed25519.PrivateKey
}

func (s softSigner) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(s.private, message), nil
}

func newSigner(t testing.TB, seed byte) softSigner {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	text, err := note.NewEd25519VerifierKey("log.example/archive", private.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	verifier, err := note.NewVerifier(text)
	require.NoError(t, err)
	return softSigner{verifier, private}
}

// world is a database, its sealed log, and a place for a copy.
type world struct {
	*testing.T
	store        *store.Database
	path         string
	log, archive tiles.Folder
	key          softSigner
	epoch        time.Time
}

// newWorld seals n entries, a minute apart.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, path: filepath.Join(dir, "state.db"), log: tiles.Folder(filepath.Join(dir, "audit")),
		archive: tiles.Folder(filepath.Join(dir, "archive")), key: newSigner(t, 1), epoch: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	w.store, err = store.OpenSQLite(t.Context(), w.path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.store.Close()) })
	if n > 0 {
		w.add(n)
	}
	return w
}

func (w *world) add(n int) {
	w.Helper()
	require.NoError(w, w.store.Commit(w.Context(), store.Change{Decide: func(_ *store.Purse, first uint64) (entries []audit.Entry, err error) {
		for i := range uint64(n) {
			at := w.epoch.Add(time.Duration(first+i) * time.Minute)
			entries = append(entries, audit.Entry{Time: at, Event: "AuthorizeLoad", Card: fmt.Sprintf("%016d", first+i), Outcome: "APPROVED"})
		}
		return entries, nil
	}}))
	require.NoError(w, w.seal().Err)
}

// seal seals all that is there, as a node that was started anew does.
func (w *world) seal() sealer.Status {
	w.Helper()
	s := sealer.New(sealer.Config{Folder: w.log, Holder: "node", Record: w.store, Log: slog.New(slog.DiscardHandler), Alarm: func(audit.Event) {},
		Interval: time.Millisecond, Key: func(context.Context) (note.Signer, note.Verifier, error) { return w.key, w.key, nil }})
	ctx, stop := context.WithCancel(w.Context())
	stop()
	s.Run(ctx)
	return s.Status()
}

func (w *world) checkpoint(f tiles.Folder) []byte {
	w.Helper()
	signed, err := f.Checkpoint()
	require.NoError(w, err)
	return signed
}

func (w *world) copy() {
	w.Helper()
	c, err := archive.Copy(w.Context(), w.log, w.archive, w.key)
	require.NoError(w, err)
	require.Equal(w, w.checkpoint(w.log), w.checkpoint(w.archive))
	require.NotZero(w, c.Size)
}

func (w *world) config(index uint64) archive.Config {
	return archive.Config{Database: w.store, Log: w.log, Archive: w.archive, Key: w.key, Saved: w.checkpoint(w.log), Index: index,
		Record: func(ctx context.Context, e audit.Entry) error {
			return w.store.Commit(ctx, store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) { return []audit.Entry{e}, nil }})
		}}
}

// kept is the first index that the database has, and how many it has.
func (w *world) kept() (first uint64, n int) {
	w.Helper()
	require.NoError(w, w.store.Entries(w.Context(), 0, func(index uint64, _ []byte) bool {
		if n++; n == 1 {
			first = index
		}
		return true
	}))
	return first, n
}

func (w *world) edit(statement string) {
	w.Helper()
	db, err := sql.Open("sqlite", "file:"+w.path)
	require.NoError(w, err)
	_, err = db.Exec(statement)
	require.NoError(w, errors.Join(err, db.Close()))
}

func (w *world) reader(database past.Database) *past.Reader {
	return &past.Reader{Database: database, Folder: w.log, Key: func(context.Context) (note.Verifier, error) { return w.key, nil }}
}

// whole is the sealed record as a reader has it.
func (w *world) whole(r *past.Reader, from uint64) (lines []string) {
	w.Helper()
	next := from
	require.NoError(w, r.Entries(w.Context(), from, func(e past.Entry) bool {
		require.Equal(w, next, e.Index)
		require.False(w, e.Altered, e.Index)
		next++
		lines = append(lines, string(e.Line))
		return true
	}))
	return lines
}

// Sealed entries leave the database by whole bundles, the newest stay, and the record reads as before, from any index on.
func TestPrune(t *testing.T) {
	w := newWorld(t, 1300)
	before := w.whole(w.reader(w.store), 0)
	w.copy()
	p, err := archive.Prune(t.Context(), w.config(600))
	require.NoError(t, err)
	assert.Equal(t, []uint64{0, 512, 512}, []uint64{p.From, p.Before, p.Deleted})
	first, n := w.kept()
	assert.EqualValues(t, 512, first)
	assert.Equal(t, 1300-512+1, n, "and an entry that says so")
	require.NoError(t, w.seal().Err)

	for _, r := range []*past.Reader{w.reader(w.store), w.reader(nil)} {
		after := w.whole(r, 0)
		require.Len(t, after, 1301)
		assert.Equal(t, before, after[:1300])
		assert.Contains(t, after[1300], `"event":"Pruned","outcome":"PRUNED","detail":"entries 0 up to 512 leave the database; the checkpoint of 1300 entries with the root `)
		for _, from := range []uint64{1, 255, 256, 500, 511, 512, 513, 1299, 1300} {
			assert.Equal(t, after[from:], w.whole(r, from), from)
			e, err := r.Entry(t.Context(), from)
			require.NoError(t, err)
			assert.Equal(t, after[from], string(e.Line))
		}
		_, err = r.Entry(t.Context(), 1301)
		require.ErrorIs(t, err, past.ErrNotSealed)
	}

	p, err = archive.Prune(t.Context(), w.config(600))
	require.NoError(t, err)
	assert.Equal(t, archive.Pruned{From: 512, Before: 512, Checkpoint: p.Checkpoint}, p, "again is nothing")
	p, err = archive.Prune(t.Context(), w.config(1<<40))
	require.NoError(t, err)
	assert.EqualValues(t, 768, p.Before, "the newest two full bundles stay")
	w.add(300)
	config := w.config(0)
	config.Time = w.epoch.Add(1024 * time.Minute)
	w.copy()
	p, err = archive.Prune(t.Context(), config)
	require.NoError(t, err)
	assert.EqualValues(t, 1024, p.Before, "before a time")
	for range 3 {
		w.add(1) // a sealer that begins over a pruned database compares what is left, and goes on
	}
}

// What must not be lost is not: each of these refuses, and deletes nothing.
func TestPruneRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(*world, *archive.Config)
		want string
	}{
		"no saved checkpoint": {func(_ *world, c *archive.Config) { c.Saved = nil }, "a checkpoint that was saved before is needed"},
		"a checkpoint by another key": {func(w *world, c *archive.Config) {
			signed, err := tiles.Checkpoint{Origin: "log.example/archive", Size: 1300}.Sign(newSigner(w, 2))
			require.NoError(w, err)
			c.Saved = []byte(signed)
		}, "the saved checkpoint"},
		"a log that was cut": {func(w *world, c *archive.Config) {
			w.add(10)
			c.Saved = w.checkpoint(w.log)
			require.NoError(w, w.log.PublishCheckpoint(string(w.checkpoint(w.archive))))
		}, "cut-or-old"},
		"no archive": {func(w *world, _ *archive.Config) { require.NoError(w, os.RemoveAll(string(w.archive))) }, "the archive: "},
		"an archive with a bundle less": {func(w *world, _ *archive.Config) {
			require.NoError(w, os.Remove(filepath.Join(string(w.archive), "tile/entries/001")))
		}, "the archive does not verify: missing"},
		"an archive with another entry": {func(w *world, _ *archive.Config) { w.flip(w.archive) }, "the archive does not verify: changed"},
		"a log with another entry":      {func(w *world, _ *archive.Config) { w.flip(w.log) }, "the log does not verify: changed"},
		"a database with another entry": {func(w *world, _ *archive.Config) {
			w.edit(`UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 300`)
		}, "entry 300 of the database is not the one that was sealed"},
		"a database with an entry less": {func(w *world, _ *archive.Config) {
			w.edit(`DELETE FROM audit_entries WHERE idx = 300`)
		}, "entry 300 is missing from the database"},
		"an archive that is the log": {func(w *world, c *archive.Config) {
			c.Archive = tiles.Folder(filepath.Join(w.TempDir(), "archive"))
			require.NoError(w, os.Symlink(string(w.log), string(c.Archive)))
		}, "is the folder of the log itself"},
		"a record that cannot be written": {func(_ *world, c *archive.Config) {
			c.Record = func(context.Context, audit.Entry) error { return store.ErrUnavailable }
		}, "the store is unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1300)
			w.copy()
			config := w.config(600)
			test.harm(w, &config)
			_, err := archive.Prune(t.Context(), config)
			require.ErrorContains(t, err, test.want)
			first, n := w.kept()
			assert.Zero(t, first)
			assert.GreaterOrEqual(t, n, 1299, "all but the one that is taken away")
		})
	}
}

// flip changes an entry of the second bundle.
func (w *world) flip(f tiles.Folder) {
	w.Helper()
	name := filepath.Join(string(f), "tile/entries/001")
	data, err := os.ReadFile(name)
	require.NoError(w, err)
	require.NoError(w, os.WriteFile(name, bytes.Replace(data, []byte("APPROVED"), []byte("APPROVEE"), 1), 0o600))
}

// failing is a database whose nth change fails: it is not made, or it is and nobody learns of it.
type failing struct {
	*store.Database
	left int
	made bool
}

var errStep = errors.New("the step fails")

func (f *failing) step(do func() error) error {
	f.left--
	switch {
	case f.left != 0:
		return do()
	case f.made:
		return errors.Join(do(), errStep)
	}
	return errStep
}

func (f *failing) MarkPruned(ctx context.Context, before uint64) error {
	return f.step(func() error { return f.Database.MarkPruned(ctx, before) })
}

func (f *failing) DeletePruned(ctx context.Context, limit int) (n int, err error) {
	err = f.step(func() (err error) { n, err = f.Database.DeletePruned(ctx, limit); return err })
	return n, err
}

// A prune that ends at any of its steps, made or not, leaves a whole record, over which a sealer goes on; the same again ends it.
func TestPruneEndsAnywhere(t *testing.T) {
	for step := 1; step <= 4; step++ { // record, mark, delete, delete
		for _, made := range []bool{false, true} {
			w := newWorld(t, 1300)
			before := w.whole(w.reader(w.store), 0)
			w.copy()
			config := w.config(600)
			database := &failing{w.store, step, made}
			record := config.Record
			config.Database = database
			config.Record = func(ctx context.Context, e audit.Entry) error {
				return database.step(func() error { return record(ctx, e) })
			}
			_, err := archive.Prune(t.Context(), config)
			require.ErrorIs(t, err, errStep)
			require.NoError(t, w.seal().Err)
			require.Equal(t, before, w.whole(w.reader(w.store), 0)[:1300], "step %d %v", step, made)
			_, err = archive.Prune(t.Context(), w.config(600))
			require.NoError(t, err)
			first, _ := w.kept()
			assert.EqualValues(t, 512, first)
			require.NoError(t, w.seal().Err)
			after := w.whole(w.reader(w.store), 0)
			assert.Equal(t, before, after[:1300])
			assert.Contains(t, after[1300], `"event":"Pruned"`, "nothing goes that no entry tells of")
		}
	}
}

// An archive grows with its log, an interrupted copy goes on, and one of another history is refused.
func TestCopy(t *testing.T) {
	w := newWorld(t, 300)
	for _, n := range []int{0, 1, 211, 1, 700} {
		if n > 0 {
			w.add(n)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_, err := archive.Copy(ctx, w.log, w.archive, w.key)
		require.ErrorIs(t, err, context.Canceled)
		w.copy()
		w.copy()
	}
	_, err := archive.Copy(t.Context(), w.log, w.log, w.key)
	require.ErrorIs(t, err, archive.ErrOneFolder)
	left, err := filepath.Glob(filepath.Join(string(w.archive), "tile", "*", "*.p", "*"))
	require.NoError(t, err)
	for _, partial := range left {
		assert.NoFileExists(t, strings.TrimSuffix(filepath.Dir(partial), ".p"), "of a full tile nothing partial is left")
	}

	other := newWorld(t, 0)
	other.epoch = other.epoch.Add(time.Hour)
	other.add(100)
	_, err = archive.Copy(t.Context(), other.log, w.archive, w.key)
	require.ErrorContains(t, err, "the log was cut")
	other.add(2000)
	_, err = archive.Copy(t.Context(), other.log, w.archive, w.key)
	require.Error(t, err)
	require.NoError(t, os.RemoveAll(string(w.archive)))
	w.flip(w.log)
	_, err = archive.Copy(t.Context(), w.log, w.archive, w.key)
	require.ErrorIs(t, err, archive.ErrDamaged)
	signed, err := w.archive.Checkpoint()
	require.NoError(t, err)
	assert.Empty(t, signed, "what does not verify has no checkpoint")
}

// A reader says which entry is not the sealed one, in the database and in the log, and believes no tile that the checkpoint does not cover.
func TestReaderFindsWhatIsAltered(t *testing.T) {
	w := newWorld(t, 1300)
	w.edit(`UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 3`)
	w.edit(`DELETE FROM audit_entries WHERE idx BETWEEN 256 AND 600`)
	w.flip(w.log)
	var altered []uint64
	require.NoError(t, w.reader(w.store).Entries(t.Context(), 0, func(e past.Entry) bool {
		if e.Altered {
			altered = append(altered, e.Index)
		}
		return true
	}))
	assert.Equal(t, []uint64{3, 256}, altered)
	tile := filepath.Join(string(w.log), "tile/0/001")
	hashes, err := os.ReadFile(tile)
	require.NoError(t, err)
	hashes[0] ^= 1
	require.NoError(t, os.WriteFile(tile, hashes, 0o600))
	_, err = w.reader(w.store).Entry(t.Context(), 256)
	require.Error(t, err, "a leaf hash that is not under the checkpoint")
	_, err = w.reader(w.store).Entry(t.Context(), 0)
	require.NoError(t, err)
}

// After a prune a log that was lost cannot be made again from the database. It is refused, and comes back from its archive.
func TestALostLogComesBackFromItsArchive(t *testing.T) {
	w := newWorld(t, 1300)
	w.copy()
	w.add(20)
	before := w.whole(w.reader(w.store), 0)
	_, err := archive.Prune(t.Context(), w.config(600))
	require.NoError(t, err)
	require.NoError(t, w.seal().Err)
	signed := w.checkpoint(w.log)
	require.NoError(t, os.RemoveAll(string(w.log)))
	require.ErrorIs(t, w.seal().Err, sealer.ErrRefused)
	assert.Empty(t, w.checkpoint(w.log))

	require.NoError(t, os.RemoveAll(string(w.log)))
	_, err = archive.Copy(t.Context(), w.archive, w.log, w.key)
	require.NoError(t, err)
	require.NoError(t, w.seal().Err)
	assert.Equal(t, string(signed), string(w.checkpoint(w.log)), "to the checkpoint that was marked")
	assert.Equal(t, before, w.whole(w.reader(nil), 0)[:1320])
}
