package sealer_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/store"
)

// What is committed is sealed within a second while the sealer runs.
func TestSealsWithinASecond(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	c := config(p, s, &alarms{})
	c.Interval = 0 // its own
	ctx, stop := context.WithCancel(t.Context())
	sealing := sealer.New(c)
	ended := make(chan struct{})
	go func() { sealing.Run(ctx); close(ended) }()
	for n := range 5 {
		require.NoError(t, record(t.Context(), s, 3))
		committed := time.Now()
		for sealing.Status().Sealed < uint64(3*(n+1)) {
			require.Less(t, time.Since(committed), time.Second)
			time.Sleep(5 * time.Millisecond)
		}
	}
	require.NoError(t, record(t.Context(), s, 3))
	stop()
	<-ended
	assert.EqualValues(t, 18, holds(t, p, s, nil), "what was there when it was told to stop is sealed")
	lease, err := s.TakeSealing(t.Context(), audit.Lease{Holder: "another"}, time.Now(), time.Second)
	require.NoError(t, err, "the lease was given back")
	assert.EqualValues(t, 2, lease.Fence)
}

// What is sealed is what was committed, whatever somebody has made of it in the database since; and the next start finds the difference.
func TestSealsWhatWasCommitted(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	require.NoError(t, record(t.Context(), s, 300))
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	require.NoError(t, record(t.Context(), s, 10))
	edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 305`)
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	entries, err := p.folder().Entries(tiles.Bundle(1, 54))
	require.NoError(t, err)
	assert.Contains(t, string(entries[305-256]), "APPROVED")
	refused(t, p, s, "entry 305 of the database is not the one that was sealed")
}

// While entries come fast rounds are few: each covers what came in three intervals.
func TestRoundsAreFewUnderLoad(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	var published atomic.Uint64
	c := config(p, s, &alarms{})
	c.Interval = 0 // its own
	c.Published = func(string) { published.Add(1) }
	ctx, stop := context.WithCancel(t.Context())
	sealing := sealer.New(c)
	ended := make(chan struct{})
	go func() { sealing.Run(ctx); close(ended) }()
	began := time.Now()
	for time.Since(began) < 3*time.Second {
		require.NoError(t, record(t.Context(), s, 400)) // of which one in a round is fast, on any machine
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began)
	stop()
	<-ended
	require.NoError(t, sealing.Status().Err)
	require.Zero(t, sealing.Status().Unsealed())
	assert.LessOrEqual(t, published.Load(), uint64(took/(400*time.Millisecond))+3, "rounds are 600 ms apart")
}

// Two nodes with a folder each and one database: one seals, the other takes over when it stops, and its own folder catches up.
func TestAnotherNodeTakesOver(t *testing.T) {
	p, q := place(t.TempDir()), place(t.TempDir())
	s := p.open(t)
	require.NoError(t, record(t.Context(), s, 300))
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	held, err := s.TakeSealing(t.Context(), audit.Lease{Holder: "node"}, time.Now(), 300*time.Millisecond)
	require.NoError(t, err)

	c := config(q, s, &alarms{})
	c.Holder = "other"
	ctx, stop := context.WithCancel(t.Context())
	other := sealer.New(c)
	ended := make(chan struct{})
	go func() { other.Run(ctx); close(ended) }()
	time.Sleep(100 * time.Millisecond)
	assert.False(t, other.Status().Holder)
	assert.NoError(t, other.Status().Err, "to wait is no error")
	assert.Empty(t, checkpoint(t, q.folder()))
	require.NoError(t, record(t.Context(), s, 300))
	require.Eventually(t, func() bool { return other.Status().Sealed == 600 }, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, s.MarkSealed(t.Context(), held, audit.Sealed{Size: 601}), audit.ErrFenced)
	stop()
	<-ended
	assert.EqualValues(t, 600, holds(t, q, s, checkpoint(t, p.folder())), "it goes on from what the first one published")
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	assert.Equal(t, checkpoint(t, q.folder()), checkpoint(t, p.folder()))
}

// A folder that was lost comes back from the database, with the checkpoint that was marked, and as no other log.
func TestALostFolderComesBack(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	require.NoError(t, record(t.Context(), s, 20_000))
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	before := checkpoint(t, p.folder())
	require.NoError(t, os.RemoveAll(string(p.folder())))
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	assert.Equal(t, before, checkpoint(t, p.folder()))
	holds(t, p, s, before)

	require.NoError(t, os.RemoveAll(string(p.folder())))
	edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 3`)
	refused(t, p, s, "two checkpoints of size 20000")
	assert.Empty(t, checkpoint(t, p.folder()))
}

// edit changes the database behind the store's back.
func edit(t *testing.T, p place, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", p.database())
	require.NoError(t, err)
	result, err := db.Exec(statement)
	require.NoError(t, err)
	changed, err := result.RowsAffected()
	require.NoError(t, err)
	require.NotZero(t, changed)
	require.NoError(t, db.Close())
}

// refused seals and sees that it is refused, with an alarm, and that nothing was published.
func refused(t *testing.T, p place, s *store.Database, words string) {
	t.Helper()
	before := checkpoint(t, p.folder())
	var a alarms
	status := once(t, config(p, s, &a))
	require.ErrorIs(t, status.Err, sealer.ErrRefused)
	require.ErrorContains(t, status.Err, words)
	assert.Equal(t, 1, a.of(audit.SealingRefused))
	assert.Equal(t, before, checkpoint(t, p.folder()))
}

// Whatever makes the log and the database disagree is refused before anything is signed.
func TestRefusals(t *testing.T) {
	const n = 1000 // three full bundles and 232
	for _, test := range []struct {
		name, words string
		do          func(t *testing.T, p place)
	}{
		{"an entry of the tail changed in the database", "entry 990 of the database is not the one that was sealed", func(t *testing.T, p place) {
			edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 990`)
		}},
		{"an old entry changed in the database", "entry 3 of the database is not the one that was sealed", func(t *testing.T, p place) {
			edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 3`)
		}},
		{"an old entry deleted in the database", "entry 3 of the database is missing", func(t *testing.T, p place) {
			edit(t, p, `DELETE FROM audit_entries WHERE idx = 3`)
		}},
		{"the database's mark set back", "was set back", func(t *testing.T, p place) {
			edit(t, p, `UPDATE audit_sealing SET size = 500`)
		}},
		{"the database of another log", "was set back", func(t *testing.T, p place) {
			edit(t, p, `UPDATE audit_sealing SET size = 0, checkpoint = ''`)
		}},
		{"another mark of the same size", "two checkpoints of size 1000", func(t *testing.T, p place) {
			signer, _, err := key(1)
			require.NoError(t, err)
			signed, err := tiles.Checkpoint{Origin: signer.Name(), Size: n, Root: tlog.Hash{1}}.Sign(signer)
			require.NoError(t, err)
			edit(t, p, `UPDATE audit_sealing SET checkpoint = '`+signed+`'`)
		}},
		{"a checkpoint by another key", "not signed by the log's key", func(t *testing.T, p place) {
			signer, _, err := key(2)
			require.NoError(t, err)
			c, err := tiles.Checkpoint{Origin: signer.Name(), Size: n, Root: tlog.Hash{1}}.Sign(signer)
			require.NoError(t, err)
			require.NoError(t, p.folder().PublishCheckpoint(c))
		}},
		{"a hash of the right edge changed", "right edge have the root", func(t *testing.T, p place) {
			flip(t, p, tiles.Tile{Index: 3, Width: 232})
		}},
		{"a tile of the right edge missing", "right edge of the log", func(t *testing.T, p place) {
			require.NoError(t, os.Remove(filepath.Join(string(p.folder()), tiles.Tile{Level: 1, Width: 3}.Path())))
		}},
		{"a sealed entry changed on the disk", "entry 0 does not have its leaf hash", func(t *testing.T, p place) {
			flip(t, p, tiles.Bundle(0, 256))
		}},
		{"an unsealed tile of other entries", "is there with another content", func(t *testing.T, p place) {
			require.NoError(t, p.folder().Write([]tiles.File{{Tile: tiles.Bundle(3, 256), Data: []byte("other")}}))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := place(t.TempDir())
			s := p.open(t)
			require.NoError(t, record(t.Context(), s, n))
			require.NoError(t, once(t, config(p, s, &alarms{})).Err)
			test.do(t, p)
			if test.name != "an old entry deleted in the database" {
				require.NoError(t, record(t.Context(), s, 300))
			}
			refused(t, p, s, test.words)
		})
	}
}

func flip(t *testing.T, p place, tile tiles.Tile) {
	t.Helper()
	name := filepath.Join(string(p.folder()), tile.Path())
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	data[20] ^= 1
	require.NoError(t, os.WriteFile(name, data, 0o644))
}

// A refusal stays one while the sealer runs, also of an entry that only the comparison of the whole log found.
func TestARefusalStays(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	require.NoError(t, record(t.Context(), s, 256*40))
	require.NoError(t, once(t, config(p, s, &alarms{})).Err)
	edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'APPROVED', 'REFUSED') WHERE idx = 9000`)
	var a alarms
	sealing := sealer.New(config(p, s, &a))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { sealing.Run(ctx); close(ended) }()
	require.Eventually(t, func() bool { return a.of(audit.SealingRefused) == 1 }, 10*time.Second, time.Millisecond)
	before := sealing.Status().Sealed
	require.NoError(t, record(t.Context(), s, 10))
	time.Sleep(1500 * time.Millisecond) // it tries again meanwhile
	assert.Equal(t, before, sealing.Status().Sealed)
	require.ErrorContains(t, sealing.Status().Err, "entry 9000 of the database")
	assert.Equal(t, 1, a.of(audit.SealingRefused), "said once")
	edit(t, p, `UPDATE audit_entries SET entry = replace(entry, 'REFUSED', 'APPROVED') WHERE idx = 9000`)
	require.Eventually(t, func() bool { return sealing.Status().Sealed == 256*40+10 }, 10*time.Second, time.Millisecond, "mended")
	stop()
	<-ended
}

// A key that is away for a while, and a database that is: nothing is lost, and entries that wait for long are an alarm, once.
func TestWhatIsAwayComesBack(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	require.NoError(t, s.Commit(t.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Time: time.Now().Add(-time.Minute), Event: audit.Started, Outcome: "OK"}}, nil
	}}))
	var a alarms
	c := config(p, s, &a)
	away := make(chan struct{})
	c.Key = func(context.Context) (note.Signer, note.Verifier, error) {
		select {
		case <-away:
			return key(1)
		default:
			return softSigner{}, nil, errors.New("the token is away") // what comes with an error is not used
		}
	}
	sealing := sealer.New(c)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { sealing.Run(ctx); close(ended) }()
	require.Eventually(t, func() bool { return a.of(audit.SealingLate) == 1 }, 10*time.Second, time.Millisecond)
	status := sealing.Status()
	require.ErrorContains(t, status.Err, "the token is away")
	assert.EqualValues(t, 1, status.Unsealed())
	assert.WithinDuration(t, time.Now().Add(-time.Minute), status.Oldest, 5*time.Second)
	assert.Zero(t, a.of(audit.SealingRefused))
	close(away)
	require.Eventually(t, func() bool { return sealing.Status().Sealed == 1 }, 10*time.Second, time.Millisecond)
	assert.Zero(t, sealing.Status().Oldest)
	assert.Equal(t, 1, a.of(audit.SealingLate))
	stop()
	<-ended
}

// A disk that answers no more is an alarm, and counted, although the round that waits for it says nothing: here the checkpoint is a pipe that
// nobody writes to.
func TestADiskThatHangs(t *testing.T) {
	p := place(t.TempDir())
	s := p.open(t)
	require.NoError(t, os.MkdirAll(string(p.folder()), 0o755))
	pipe := filepath.Join(string(p.folder()), "checkpoint")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, s.Commit(t.Context(), store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Time: time.Now().Add(-time.Minute), Event: audit.Started, Outcome: "OK"}}, nil
	}}))
	var a alarms
	sealing := sealer.New(config(p, s, &a))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { sealing.Run(ctx); close(ended) }()
	late := assert.Eventually(t, func() bool { return a.of(audit.SealingLate) == 1 }, 30*time.Second, time.Millisecond)
	if late {
		status := sealing.Status()
		assert.EqualValues(t, 1, status.Unsealed())
		assert.WithinDuration(t, time.Now().Add(-time.Minute), status.Oldest, 30*time.Second)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.Eventually(t, func() bool { return sealing.Status().Sealed == 1 }, 30*time.Second, time.Millisecond)
	assert.Equal(t, 1, a.of(audit.SealingLate), "said once")
	stop()
	<-ended
	c, err := tiles.OpenCheckpoint(checkpoint(t, p.folder()), verifierKey(t))
	require.NoError(t, err)
	require.ErrorIs(t, sealing.Cosigned(c, nil, "after its end"), sealer.ErrEnded)
}

func verifierKey(t *testing.T) note.Verifier {
	t.Helper()
	_, k, err := key(1)
	require.NoError(t, err)
	return k
}

// Two sealers of one host do not share a folder.
func TestAFolderHasOneSealer(t *testing.T) {
	p := place(t.TempDir())
	unlock, err := p.folder().Lock()
	require.NoError(t, err)
	require.ErrorIs(t, once(t, config(p, p.open(t), &alarms{})).Err, tiles.ErrLocked)
	require.NoError(t, unlock())
}
