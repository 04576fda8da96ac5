package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// Database is what Prune works on; store implements it.
type Database interface {
	past.Database
	// Pruned is the index before which entries may have been deleted.
	Pruned(ctx context.Context) (uint64, error)
	// MarkPruned marks durably that entries before an index may be deleted.
	MarkPruned(ctx context.Context, before uint64) error
	// DeletePruned deletes up to limit of the entries before the mark and returns how many; 0 is none left.
	DeletePruned(ctx context.Context, limit int) (int, error)
}

// Config is what to prune. All fields but Time, Index and Progress are needed.
type Config struct {
	Database Database
	Log      tiles.Folder
	Archive  tiles.Folder // a copy of the log, elsewhere
	Key      note.Verifier
	Saved    []byte // a signed checkpoint of the log, kept elsewhere
	// Before is how far: entries before the index, or, when it is not zero, before the time.
	Index uint64
	Time  time.Time
	// Record writes an entry, durably.
	Record func(context.Context, audit.Entry) error
	// Progress, when not nil, is called now and then while rows are deleted.
	Progress func(deleted uint64)
}

// Pruned is what Prune did.
type Pruned struct {
	From, Before uint64 // entries From to Before-1 were marked; From is Before when there was nothing to mark
	Deleted      uint64 // rows
	Checkpoint   tiles.Checkpoint
}

const (
	// KeptBundles are never pruned: the newest full ones, which the sealer compares when it starts, and what is after them.
	KeptBundles = 2
	// deletedAtOnce is how many rows go in one transaction: a live signer waits for no more.
	deletedAtOnce = 256
)

// Prune takes sealed entries off the database.
func Prune(ctx context.Context, config Config) (p Pruned, err error) {
	if p.Checkpoint, err = config.verify(ctx); err != nil {
		return p, err
	}
	if p.From, err = config.Database.Pruned(ctx); err != nil {
		return p, err
	}
	if p.Before, err = config.compare(ctx, p.From, p.Checkpoint); err != nil {
		return p, err
	}
	if p.Before > p.From {
		err := config.Record(ctx, audit.Entry{
			Time: time.Now(), Event: audit.Pruned, Outcome: "PRUNED",
			Detail: fmt.Sprintf("entries %d up to %d leave the database; the checkpoint of %d entries with the root %v, and an archive, have them",
				p.From, p.Before, p.Checkpoint.Size, p.Checkpoint.Root),
		})
		if err == nil {
			err = config.Database.MarkPruned(ctx, p.Before)
		}
		if err != nil {
			return p, err
		}
	}
	for {
		n, err := config.Database.DeletePruned(ctx, deletedAtOnce)
		if err != nil || n == 0 {
			return p, err
		}
		p.Deleted += uint64(n)
		if config.Progress != nil {
			config.Progress(p.Deleted)
		}
	}
}

// verify verifies the log and its copy, and returns the checkpoint that bounds what may go: the smallest of the three.
func (c Config) verify(ctx context.Context) (least tiles.Checkpoint, err error) {
	if len(c.Saved) == 0 {
		return least, errors.New("a checkpoint that was saved before is needed: without one, a log that was cut or rewritten is not found")
	}
	if least, err = tiles.OpenCheckpoint(c.Saved, c.Key); err != nil {
		return least, fmt.Errorf("the saved checkpoint: %w", err)
	}
	if err := apart(c.Log, c.Archive); err != nil {
		return least, err
	}
	for _, f := range []struct {
		name   string
		folder tiles.Folder
		saved  []byte
	}{{"the log", c.Log, c.Saved}, {"the archive", c.Archive, nil}} {
		if _, size, err := opened(f.folder, c.Key); err != nil {
			return least, fmt.Errorf("%s: %w", f.name, err)
		} else if f.saved == nil && size.Size >= least.Size {
			f.saved = c.Saved // an archive may be older than the saved checkpoint: then the log is asked whether it begins with it
		}
		report, err := verifier.Verify(ctx, verifier.Config{Folder: f.folder, Key: c.Key, Saved: f.saved, AnyClock: true})
		if err != nil {
			return least, err
		}
		if err := held(f.name, report); err != nil {
			return least, err
		}
		if report.Checkpoint.Size < least.Size {
			if err := c.Log.CheckConsistent(report.Checkpoint, least); err != nil {
				return least, fmt.Errorf("%s is of another history: %w", f.name, err)
			}
			least = report.Checkpoint
		}
	}
	return least, nil
}

// compare finds how far to prune, and compares each entry that is to go with the sealed one.
func (c Config) compare(ctx context.Context, from uint64, bound tiles.Checkpoint) (before uint64, err error) {
	most := bound.Size / tiles.Width
	most = (most - min(most, KeptBundles)) * tiles.Width
	if c.Time.IsZero() {
		most = min(most, c.Index)
	}
	before = from
	var bad error
	reader := past.Reader{Database: c.Database, Folder: c.Log, Key: func(context.Context) (note.Verifier, error) { return c.Key, nil }}
	if from >= most {
		return from, nil
	}
	err = reader.Entries(ctx, from, func(e past.Entry) bool {
		if e.Index >= most {
			return false
		}
		switch {
		case e.Archived: // entries before the mark alone may be gone
			bad = fmt.Errorf("entry %d is missing from the database, and was not pruned: nothing is pruned", e.Index)
			return false
		case e.Altered:
			bad = fmt.Errorf("entry %d of the database is not the one that was sealed: nothing is pruned", e.Index)
			return false
		}
		if !c.Time.IsZero() {
			decoded, err := audit.Decode(e.Line)
			if bad = err; err != nil || !decoded.Time.Before(c.Time) {
				return false
			}
		}
		before = e.Index + 1
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return from, err
	}
	return max(from, before/tiles.Width*tiles.Width), nil
}
