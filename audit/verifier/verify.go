package verifier

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Config is what to verify. Folder and Key are needed.
type Config struct {
	Folder tiles.Folder
	Key    note.Verifier
	Saved  []byte // a signed checkpoint of the same log, kept elsewhere; nil without one
	// Witnesses are keys of those who sign the log's checkpoints too, none twice. Quorum of them must have signed one that is here; 0: all.
	Witnesses []*tiles.Witness
	Quorum    int
	// WitnessedSince is when they must have signed last, or later; zero: any time.
	WitnessedSince time.Time
	Signed         []byte // the signed checkpoint to verify under; nil: the folder's newest
	// KnownClock holds indexes of entries whose step back in time is known, and no finding.
	KnownClock []uint64
	// AnyClock makes no finding of any step: for who asks only whether the log is whole.
	AnyClock bool
	// Progress, when not nil, is called now and then.
	Progress func(done, of uint64)
}

// clockStep is how far back in time an entry may be dated: nodes' clocks differ, and a group of entries commits in another order
// than they were dated.
const clockStep = time.Minute

// Verify reads the whole log. The error is of reading, or ctx's; what is wrong with the log is in the report.
func Verify(ctx context.Context, config Config) (*Report, error) {
	v := &verification{Config: config, report: &Report{}, known: map[uint64]bool{}}
	for _, index := range config.KnownClock {
		v.known[index] = true
	}
	err := v.checkpoints()
	if err == nil && v.report.Checkpoint.Origin != "" {
		err = v.walk(ctx)
	}
	return v.report, err
}

// verification is one run.
type verification struct {
	Config
	report  *Report
	anchors []anchor
	known   map[uint64]bool
	levels  []level // above level 0
	blind   bool    // hashes of the tree are not known: its root says nothing
	newest  time.Time
}

// level is the tile of a level that is being filled: its hashes as the log claims them. What the tiles below come to was
// compared with them, so one wrong tile is one finding, not one at each level above.
type level struct{ claimed []tlog.Hash }

func (v *verification) checkpoints() error {
	r := v.report
	kept, err := v.kept() // before the checkpoint: a signer that writes to the folder publishes that first
	if err != nil {
		return err
	}
	signed := v.Signed
	if signed == nil {
		signed, err = v.Folder.Checkpoint()
	}
	switch {
	case err != nil:
		return err
	case signed == nil:
		r.find(NoCheckpoint, "%s has no checkpoint", v.Folder)
		return nil
	}
	opened, err := tiles.OpenCheckpoint(signed, v.Key)
	if err != nil {
		r.find(kindOf(err), "%v", err)
		return nil
	}
	r.Checkpoint = opened
	if v.Saved != nil {
		saved, err := tiles.OpenCheckpoint(v.Saved, v.Key)
		if err != nil {
			r.find(kindOf(err), "the saved checkpoint: %v", err)
			return nil
		}
		r.Saved = &saved
		v.anchor(saved, "the saved checkpoint")
	}
	v.witnesses(signed, kept)
	v.unchecked()
	return nil
}

func kindOf(err error) Kind {
	if errors.Is(err, tiles.ErrOtherKey) {
		return OtherKey
	}
	return NoCheckpoint
}

// bundle is a bundle of entries and what was computed of it alone.
type bundle struct {
	tile    tiles.Tile
	entries [][]byte
	hashes  []tlog.Hash
	decoded []decoded
	err     error // of reading or splitting
	sealed  []tlog.Hash
	tileErr error // of reading the leaf hashes
}

type decoded struct {
	at  time.Time
	err error
}

// load reads a bundle and its leaf hashes, and decodes its entries.
func load(folder tiles.Folder, index uint64, width int) *bundle {
	b := &bundle{tile: tiles.Bundle(index, width)}
	data, err := folder.Read(b.tile)
	if err == nil {
		b.entries, err = tiles.SplitBundle(data)
	}
	b.err = err
	b.hashes, b.decoded = make([]tlog.Hash, len(b.entries)), make([]decoded, len(b.entries))
	for i, line := range b.entries {
		b.hashes[i] = tlog.RecordHash(line)
		e, err := audit.Decode(line)
		b.decoded[i] = decoded{e.Time, err}
	}
	b.sealed, b.tileErr = folder.Hashes(tiles.Tile{Index: index, Width: width})
	return b
}

// walk goes through the bundles in order; a few are read and decoded ahead.
func (v *verification) walk(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	full, width := tiles.Level(0, v.report.Checkpoint.Size)
	bundles := full
	if width > 0 {
		bundles++
	}
	ahead := make(chan chan *bundle, 2*runtime.GOMAXPROCS(0))
	go func() {
		defer close(ahead)
		for i := range bundles {
			loaded := make(chan *bundle, 1)
			select {
			case ahead <- loaded:
			case <-ctx.Done():
				return
			}
			go func() {
				if i < full {
					loaded <- load(v.Folder, i, tiles.Width)
				} else {
					loaded <- load(v.Folder, i, width)
				}
			}()
		}
	}()
	var claimed []tlog.Hash
	for loaded := range ahead {
		b := <-loaded
		claimed = v.bundle(b)
		for _, a := range v.anchors {
			if a.Size/tiles.Width == b.tile.Index {
				v.compareAnchor(a, claimed[:min(len(claimed), int(a.Size%tiles.Width))])
			}
		}
		if !b.tile.Partial() {
			v.up(1, b.tile.Index, tiles.TileRoot(claimed))
			claimed = nil
		}
		if v.Progress != nil && b.tile.Index%64 == 0 {
			v.Progress(b.tile.Index*tiles.Width, v.report.Checkpoint.Size)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	v.end(claimed)
	return nil
}

// end compares the roots when all is read.
func (v *verification) end(claimed []tlog.Hash) {
	c := v.report.Checkpoint
	if root := v.root(c.Size, claimed); !v.blind && root != c.Root {
		v.report.find(WrongRoot, "the tiles have the root %v, the checkpoint of size %d says %v: entries and hashes were replaced together, "+
			"in the tiles of the right edge", root, c.Size, c.Root)
	}
}

// root is that of the first size entries, whose leaf hashes beyond full tiles are claimed.
func (v *verification) root(size uint64, claimed []tlog.Hash) tlog.Hash {
	levels := [][]tlog.Hash{claimed}
	for i, l := range v.levels {
		_, width := tiles.Level(i+1, size)
		levels = append(levels, l.claimed[:min(width, len(l.claimed))])
	}
	return tiles.RootOf(levels)
}

// up compares the root of a full tile with what the tile above it says.
func (v *verification) up(number int, index uint64, root tlog.Hash) {
	if len(v.levels) < number {
		v.levels = append(v.levels, level{})
	}
	l := &v.levels[number-1]
	at := int(index % tiles.Width)
	if at == 0 {
		full, width := tiles.Level(number, v.report.Checkpoint.Size)
		if index/tiles.Width < full {
			width = tiles.Width
		}
		l.claimed = v.tile(tiles.Tile{Level: number, Index: index / tiles.Width, Width: width})
	}
	below := tiles.Tile{Level: number - 1, Index: index, Width: tiles.Width}
	switch {
	case at >= len(l.claimed): // the tile is missing: the tree is what is below it
		l.claimed = append(l.claimed, root)
	case l.claimed[at] != root:
		v.report.find(TileChanged, "%s has the root %v, the tile above it says %v: %s or their hashes were replaced", below.Path(), root,
			l.claimed[at], below.Covers())
	}
	if at == tiles.Width-1 {
		v.up(number+1, index/tiles.Width, tiles.TileRoot(l.claimed))
	}
}

// tile reads a tile; nil, and a finding, when it cannot be read.
func (v *verification) tile(t tiles.Tile) []tlog.Hash {
	hashes, err := v.Folder.Hashes(t)
	if err != nil {
		v.unread(t, err)
		return nil
	}
	v.report.Tiles++
	return hashes
}

func (v *verification) unread(t tiles.Tile, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		v.report.find(Missing, "%s is missing: %s", t.Path(), t.Covers())
		return
	}
	v.report.find(Malformed, "%s: %v", t.Path(), err)
}
