package sealer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// log is the sealed log as it is open: its last checkpoint, its right edge, and the bundle that is not full yet.
type log struct {
	checkpoint tiles.Checkpoint // published; the zero value before the first
	signed     string           // the one that was there when it was opened, as it is signed; "" without one
	edge       *tiles.Edge
	tail       []byte // the partial bundle

	compared, compareTo uint64 // bundles of this log that were compared with the database, and how many are to be
}

// open reads the right edge of the log and compares it with the database; sealed is its mark, entries the length of the record.
func (s *Sealer) open(ctx context.Context, sealed audit.Sealed, entries uint64) (*log, error) {
	l := &log{edge: &tiles.Edge{}}
	signed, err := s.config.Folder.Checkpoint()
	if err != nil {
		return nil, err
	}
	if len(signed) > 0 {
		if l.checkpoint, err = tiles.OpenCheckpoint(signed, s.key); err != nil {
			return nil, refuse("%s: %w", s.config.Folder, err)
		}
	}
	l.signed, l.checkpoint.Origin = string(signed), s.key.Name()
	switch size := l.checkpoint.Size; {
	case size > sealed.Size:
		return nil, refuse("the log has %d entries, the database marks %d as sealed: the database was set back or is another's",
			size, sealed.Size)
	case sealed.Size > entries:
		return nil, refuse("the database marks %d entries as sealed and has %d", sealed.Size, entries)
	case size == sealed.Size && size > 0 && string(signed) != sealed.Checkpoint:
		if err := s.sameTree(sealed, l.checkpoint); err != nil {
			return nil, err
		}
	}
	if l.checkpoint.Size == 0 {
		return l, nil
	}
	if l.edge, err = s.config.Folder.Edge(l.checkpoint); err != nil {
		return nil, refuse("%w", err)
	}
	full, width := tiles.Level(0, l.checkpoint.Size)
	l.compareTo = full
	if width > 0 {
		if l.tail, err = s.compare(ctx, tiles.Bundle(full, width)); err != nil {
			return nil, err
		}
	}
	for _, index := range []uint64{full - 1, s.suspect} {
		if index < full {
			if err := s.compareKept(ctx, tiles.Bundle(index, tiles.Width)); err != nil {
				s.suspect = index
				return nil, err
			}
		}
	}
	return l, s.config.Folder.DropOldPartials(l.checkpoint.Size)
}

// sameTree refuses a mark of another tree: two checkpoints of one size.
func (s *Sealer) sameTree(sealed audit.Sealed, c tiles.Checkpoint) error {
	marked, err := tiles.OpenCheckpoint([]byte(sealed.Checkpoint), s.key)
	if err != nil {
		return refuse("the database's mark: %w", err)
	}
	if marked != c {
		return refuse("two checkpoints of size %d: the log has the root %v, the database marks %v", c.Size, c.Root, marked.Root)
	}
	return nil
}

// compare reads a bundle and its leaf hashes from the log and refuses entries of the database that are others.
func (s *Sealer) compare(ctx context.Context, bundle tiles.Tile) (data []byte, err error) {
	sealed, err := s.config.Folder.Entries(bundle)
	if err != nil {
		return nil, refuse("%w", err)
	}
	hashes, err := s.config.Folder.Hashes(tiles.Tile{Level: 0, Index: bundle.Index, Width: bundle.Width})
	if err != nil {
		return nil, refuse("%w", err)
	}
	for i, entry := range sealed {
		if tlog.RecordHash(entry) != hashes[i] {
			return nil, refuse("%s: entry %d does not have its leaf hash", bundle.Path(), bundle.Index*tiles.Width+uint64(i))
		}
	}
	lines, err := s.entries(ctx, bundle.Index*tiles.Width, bundle.Width)
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		if !bytes.Equal(line, sealed[i]) {
			return nil, refuse("entry %d of the database is not the one that was sealed", bundle.Index*tiles.Width+uint64(i))
		}
		data, _ = tiles.AppendEntry(data, line) // it came from a bundle
	}
	return data, nil
}

// The share of an interval in which a round goes on with the comparison of the whole log, when it had little to seal, and when entries
// come fast: their callers want the processor. One bundle is compared in each round in any case, so that it comes to an end.
const (
	idleShare = 4
	busyShare = 20
)

// compareSome goes on with the comparison of the whole log.
func (s *Sealer) compareSome(ctx context.Context) error {
	share := s.config.Interval / idleShare
	if s.busy {
		share = s.config.Interval / busyShare
	}
	for began := time.Now(); s.log.compared < s.log.compareTo; {
		if err := s.compareKept(ctx, tiles.Bundle(s.log.compared, tiles.Width)); err != nil {
			s.suspect = s.log.compared
			return err
		}
		s.log.compared++
		if time.Since(began) > share {
			break
		}
	}
	return nil
}

// compareKept compares a full bundle; entries that were pruned from the database, which may happen meanwhile, are compared with their
// leaf hashes alone.
func (s *Sealer) compareKept(ctx context.Context, bundle tiles.Tile) error {
	_, compared := s.compare(ctx, bundle)
	if !errors.Is(compared, errMissing) {
		return compared
	}
	pruned, err := s.config.Record.Pruned(ctx)
	if err == nil && bundle.Index*tiles.Width >= pruned {
		err = compared
	}
	return err
}

var errMissing = errors.New("is missing")

// entries reads n entries of the database from an index on; they are there, one after another, or the error says which is not.
func (s *Sealer) entries(ctx context.Context, from uint64, n int) (lines [][]byte, err error) {
	lines = make([][]byte, 0, n)
	next := from
	err = s.config.Record.Entries(ctx, from, func(index uint64, line []byte) bool {
		if index != next {
			return false
		}
		next++
		lines = append(lines, line)
		return len(lines) < n
	})
	if err == nil && len(lines) < n {
		err = refuse("entry %d of the database %w", next, errMissing)
	}
	return lines, err
}

// seal adds the entries up to a size. Where the database's mark is ahead of the log it goes to the mark first, publishing nothing
// before: what is signed there already must come out.
func (s *Sealer) seal(ctx context.Context, sealed audit.Sealed, to uint64) error {
	l := s.log
	from := l.edge.Size()
	if from < sealed.Size {
		to = min(to, sealed.Size)
	}
	lines := s.config.Record.RecentEntries(from, int(to-from))
	if lines == nil {
		var err error
		if lines, err = s.entries(ctx, from, int(to-from)); err != nil {
			return err
		}
	}
	files, err := l.add(lines)
	if err != nil {
		return err
	}
	if err := s.config.Folder.Write(files); errors.Is(err, tiles.ErrOther) {
		return refuse("%w: the entries were others when they were first sealed", err)
	} else if err != nil {
		return err
	}
	if to < sealed.Size {
		return nil
	}
	next := tiles.Checkpoint{Origin: l.checkpoint.Origin, Size: to, Root: l.edge.Root()}
	if err := s.config.Folder.CheckConsistent(l.checkpoint, next); err != nil {
		return refuse("the tree of %d entries does not begin with that of %d: %w", next.Size, l.checkpoint.Size, err)
	}
	signed := sealed.Checkpoint
	if to == sealed.Size {
		err = s.sameTree(sealed, next)
	} else {
		signed, err = s.mark(ctx, next)
	}
	if err != nil {
		return err
	}
	if err := s.publish(signed); err != nil {
		return err
	}
	l.checkpoint = next
	s.tell(signed)
	return s.drop(files)
}

// mark signs a checkpoint and marks it in the database, which compares the fence.
func (s *Sealer) mark(ctx context.Context, c tiles.Checkpoint) (signed string, err error) {
	if signed, err = c.Sign(s.signer); err != nil {
		return "", err
	}
	return signed, s.config.Record.MarkSealed(ctx, s.lease, audit.Sealed{Size: c.Size, Checkpoint: signed})
}

// drop removes the partial forms of what is full now.
func (s *Sealer) drop(files []tiles.File) error {
	for _, file := range files {
		if !file.Tile.Partial() {
			if err := s.config.Folder.DropPartials(file.Tile); err != nil {
				return err
			}
		}
	}
	return nil
}

// room is how many bytes the first of lines take in the bundle that the next of them is in.
func (l *log) room(lines [][]byte) (bytes int) {
	_, width := tiles.Level(0, l.edge.Size())
	for _, line := range lines[:min(len(lines), tiles.Width-width)] {
		bytes += tiles.EntrySize(line)
	}
	return bytes
}

// add appends entries to the tree and returns the tiles and bundles that are new.
func (l *log) add(lines [][]byte) (files []tiles.File, err error) {
	bundle := bytes.Clone(l.tail)
	for i, line := range lines {
		if cap(bundle)-len(bundle) < tiles.EntrySize(line) {
			bundle = slices.Grow(bundle, l.room(lines[i:]))
		}
		if bundle, err = tiles.AppendEntry(bundle, line); err != nil {
			return nil, refuse("entry %d: %w", l.edge.Size(), err)
		}
		l.edge.Append(tlog.RecordHash(line), func(t tiles.Tile, data []byte) {
			files = append(files, tiles.File{Tile: t, Data: data})
		})
		if full, width := tiles.Level(0, l.edge.Size()); width == 0 {
			files = append(files, tiles.File{Tile: tiles.Bundle(full-1, tiles.Width), Data: bundle})
			bundle = nil
		}
	}
	if full, width := tiles.Level(0, l.edge.Size()); width > 0 {
		files = append(files, tiles.File{Tile: tiles.Bundle(full, width), Data: bundle})
	}
	l.edge.Partial(func(t tiles.Tile, data []byte) { files = append(files, tiles.File{Tile: t, Data: data}) })
	l.tail = bundle
	return files, nil
}
