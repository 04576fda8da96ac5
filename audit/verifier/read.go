package verifier

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Log is a sealed log to read from. The signature of its checkpoint and each entry's leaf hash are compared; whether all of the log is what was
// signed is what Verify says.
type Log struct {
	Folder tiles.Folder
	Key    note.Verifier
}

// ErrNoCheckpoint: nothing is sealed yet, or the folder is no log's.
var ErrNoCheckpoint = errors.New("the log has no checkpoint")

// Checkpoint returns the newest checkpoint, as it is signed and as it was verified, or ErrNoCheckpoint.
func (l Log) Checkpoint() (signed string, c tiles.Checkpoint, err error) {
	text, err := l.Folder.Checkpoint()
	if err != nil {
		return "", c, err
	}
	if len(text) == 0 {
		return "", c, fmt.Errorf("%s: %w", l.Folder, ErrNoCheckpoint)
	}
	c, err = tiles.OpenCheckpoint(text, l.Key)
	return string(text), c, err
}

// Each calls yield with the entries from an index on, in order, of a log of a size that its checkpoint says, until yield returns an error, which is
// returned.
func (l Log) Each(ctx context.Context, from, size uint64, yield func(index uint64, line []byte, e audit.Entry) error) error {
	for at := from; at < size; at = (at/tiles.Width + 1) * tiles.Width {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.bundle(size, at, yield); err != nil {
			return err
		}
	}
	return nil
}

func (l Log) bundle(size, from uint64, yield func(uint64, []byte, audit.Entry) error) error {
	full, width := tiles.Level(0, size)
	bundle := tiles.Bundle(from/tiles.Width, tiles.Width)
	if bundle.Index == full {
		bundle.Width = width
	}
	entries, err := l.Folder.Entries(bundle)
	if err != nil {
		return err
	}
	hashes, err := l.Folder.Hashes(tiles.Tile{Index: bundle.Index, Width: bundle.Width})
	if err != nil {
		return err
	}
	for i := from % tiles.Width; i < uint64(len(entries)); i++ {
		index := bundle.Index*tiles.Width + i
		if tlog.RecordHash(entries[i]) != hashes[i] {
			return fmt.Errorf("entry %d is not the one that was sealed: run audit verify", index)
		}
		e, err := audit.Decode(entries[i])
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if err := yield(index, entries[i], e); err != nil {
			return err
		}
	}
	return nil
}
