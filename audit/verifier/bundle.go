package verifier

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// bundle compares entries with their leaf hashes and returns the hashes that the log claims: those of the tile, or where it has none,
// of the entries.
func (v *verification) bundle(b *bundle) (claimed []tlog.Hash) {
	leaves := tiles.Tile{Index: b.tile.Index, Width: b.tile.Width}
	if b.tileErr != nil {
		v.unread(leaves, b.tileErr)
	} else {
		v.report.Tiles++
	}
	if b.err != nil {
		v.unread(b.tile, b.err)
	}
	switch {
	case b.tileErr == nil && b.err == nil:
		v.compare(b)
		claimed = b.sealed
	case b.tileErr == nil:
		claimed = b.sealed
	case b.err == nil && len(b.hashes) == b.tile.Width:
		claimed = b.hashes
	default:
		v.blind = true
		claimed = make([]tlog.Hash, b.tile.Width)
	}
	v.entries(b)
	return claimed
}

// compare says how entries that are not the sealed ones differ.
func (v *verification) compare(b *bundle) {
	first := b.tile.Index * tiles.Width
	at := 0
	for at < len(b.hashes) && at < len(b.sealed) && b.hashes[at] == b.sealed[at] {
		at++
	}
	got, sealed := b.hashes[at:], b.sealed[at:]
	name := b.tile.Path()
	switch {
	case len(got) == 0 && len(sealed) == 0:
		v.report.Entries += uint64(len(b.hashes))
	case len(got) < len(sealed) && slices.Equal(got, sealed[len(sealed)-len(got):]):
		v.report.find(Deleted, "%s: %d entries were deleted from entry %d on", name, len(sealed)-len(got), first+uint64(at))
	case len(got) > len(sealed) && slices.Equal(got[len(got)-len(sealed):], sealed):
		v.report.find(Inserted, "%s: %d entries were inserted before entry %d", name, len(got)-len(sealed), first+uint64(at))
	case len(got) == len(sealed) && slices.Equal(sorted(got), sorted(sealed)):
		v.report.find(Reordered, "%s: entries were put in another order, the first is entry %d", name, first+uint64(at))
	case len(got) > 1 && len(sealed) > 1 && slices.Equal(got[:len(got)-1], sealed[1:]):
		v.report.find(Deleted, "%s: entry %d was deleted, and those after it moved up", name, first+uint64(at))
	case len(got) > 1 && len(sealed) > 1 && slices.Equal(got[1:], sealed[:len(sealed)-1]):
		v.report.find(Inserted, "%s: an entry was inserted in the place of entry %d, and those after it moved down", name, first+uint64(at))
	default:
		v.changed(b, at)
	}
}

// changed names every entry that does not have its hash, and a number of entries that is not the tile's.
func (v *verification) changed(b *bundle, from int) {
	first := b.tile.Index * tiles.Width
	if len(b.hashes) != len(b.sealed) {
		v.report.find(Malformed, "%s holds %d entries, expected %d", b.tile.Path(), len(b.hashes), len(b.sealed))
	}
	for i := from; i < min(len(b.hashes), len(b.sealed)); i++ {
		if b.hashes[i] != b.sealed[i] {
			v.report.find(Changed, "%s: entry %d is not the one that was sealed: it has the hash %v, its leaf %v", b.tile.Path(),
				first+uint64(i), b.hashes[i], b.sealed[i])
		}
	}
}

func sorted(hashes []tlog.Hash) []tlog.Hash {
	return slices.SortedFunc(slices.Values(hashes), func(a, b tlog.Hash) int { return slices.Compare(a[:], b[:]) })
}

// entries looks at what the entries say themselves: their form, and their time, which goes forward.
func (v *verification) entries(b *bundle) {
	for i, d := range b.decoded {
		index := b.tile.Index*tiles.Width + uint64(i)
		if d.err != nil {
			v.report.find(Form, "%s: entry %d: %v", b.tile.Path(), index, d.err)
			continue
		}
		switch back := v.newest.Sub(d.at); {
		case back <= 0:
			v.newest = d.at
		case back > clockStep:
			if !v.AnyClock && !v.known[index] {
				v.report.find(ClockBack, "%s: entry %d is dated %v, %v before an earlier one: a clock was set back", b.tile.Path(), index,
					d.at, back)
			}
			v.newest = d.at // one step is one finding
		}
	}
}
