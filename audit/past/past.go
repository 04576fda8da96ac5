// Package past reads the record from where it is: entries that were pruned from the database from the sealed log, all others from
// the database.
//
// Only what is sealed is the past. Every entry is compared with its leaf hash, and the hashes come from tiles that are verified
// against the root of the checkpoint, which the log's key signed. So an entry of the database that somebody changed, and one that
// nobody sealed, is not taken for an entry of the record.
package past

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Database is the record as far as it is in the database; store implements it.
type Database interface {
	// Entries calls yield with each entry from an index on, in order, until it returns false. Pruned ones are left out.
	Entries(ctx context.Context, from uint64, yield func(index uint64, line []byte) bool) error
}

// Entry is one sealed entry.
type Entry struct {
	Index uint64
	Line  []byte // its encoding; with Altered what was found in its place, which may be nothing
	// Altered: it is not the entry that was sealed at this index.
	Altered bool
	// Archived: the database does not have it, the sealed log does.
	Archived bool
}

// ErrNotSealed: there is no checkpoint, or the index is not under it.
var ErrNotSealed = errors.New("not sealed")

// Reader reads the record. Folder and Key are needed; without Database everything comes from the sealed log. Several goroutines may use
// it.
type Reader struct {
	Database Database
	Folder   tiles.Folder
	Key      func(context.Context) (note.Verifier, error) // of the log's checkpoints
}

// Sealed is the number of entries under the log's newest checkpoint.
func (r *Reader) Sealed(ctx context.Context) (uint64, error) {
	c, err := r.checkpoint(ctx)
	return c.Size, err
}

func (r *Reader) checkpoint(ctx context.Context) (c tiles.Checkpoint, err error) {
	key, err := r.Key(ctx)
	if err != nil {
		return c, err
	}
	signed, err := r.Folder.Checkpoint()
	if err != nil {
		return c, err
	}
	if signed == nil {
		return c, fmt.Errorf("%w: %s has no checkpoint", ErrNotSealed, r.Folder)
	}
	return tiles.OpenCheckpoint(signed, key)
}

// Entries calls yield with each sealed entry from an index on, in order, until it returns false.
func (r *Reader) Entries(ctx context.Context, from uint64, yield func(Entry) bool) error {
	c, err := r.checkpoint(ctx)
	if err != nil {
		return err
	}
	hashes := r.Folder.HashReader(c)
	for at := from; at < c.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := min(c.Size, (at/tiles.Width+1)*tiles.Width)
		entries, err := r.bundle(ctx, c, hashes, at, end)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !yield(e) {
				return nil
			}
		}
		at = end
	}
	return nil
}

// Entry returns one sealed entry, or ErrNotSealed.
func (r *Reader) Entry(ctx context.Context, index uint64) (e Entry, err error) {
	c, err := r.checkpoint(ctx)
	if err != nil {
		return e, err
	}
	if index >= c.Size {
		return e, fmt.Errorf("entry %d: %w: the checkpoint has %d", index, ErrNotSealed, c.Size)
	}
	entries, err := r.bundle(ctx, c, r.Folder.HashReader(c), index, index+1)
	if err != nil {
		return e, err
	}
	return entries[0], nil
}

// bundle returns entries of one bundle, with each compared with its leaf hash.
func (r *Reader) bundle(ctx context.Context, c tiles.Checkpoint, hashes tlog.HashReader, from, to uint64) ([]Entry, error) {
	places := make([]int64, to-from)
	for i := range places {
		places[i] = tlog.StoredHashIndex(0, int64(from)+int64(i))
	}
	sealed, err := hashes.ReadHashes(places)
	if err != nil {
		return nil, fmt.Errorf("leaf hashes of entries %d to %d: %w", from, to-1, err)
	}
	entries, missing, err := r.kept(ctx, from, to)
	if err != nil {
		return nil, err
	}
	if missing {
		if err := r.archived(c, from, entries); err != nil {
			return nil, err
		}
	}
	for i := range entries {
		entries[i].Altered = entries[i].Line == nil || tlog.RecordHash(entries[i].Line) != sealed[i]
	}
	return entries, nil
}

// kept is what the database has of the entries; missing is whether it lacks one.
func (r *Reader) kept(ctx context.Context, from, to uint64) (entries []Entry, missing bool, err error) {
	entries = make([]Entry, to-from)
	for i := range entries {
		entries[i].Index = from + uint64(i)
	}
	if r.Database == nil {
		return entries, true, nil
	}
	found := 0
	err = r.Database.Entries(ctx, from, func(index uint64, line []byte) bool {
		if index >= to {
			return false
		}
		entries[index-from].Line = line
		found++
		return index+1 < to
	})
	return entries, found < len(entries), err
}

// archived fills in from the sealed log what the database does not have.
func (r *Reader) archived(c tiles.Checkpoint, from uint64, entries []Entry) error {
	full, width := tiles.Level(0, c.Size)
	bundle := tiles.Bundle(from/tiles.Width, tiles.Width)
	if bundle.Index == full {
		bundle.Width = width
	}
	lines, err := r.Folder.Entries(bundle)
	if err != nil {
		return fmt.Errorf("entries %d to %d are not in the database: %w", from, from+uint64(len(entries))-1, err)
	}
	for i := range entries {
		if entries[i].Line == nil {
			entries[i].Line, entries[i].Archived = lines[from%tiles.Width+uint64(i)], true
		}
	}
	return nil
}
