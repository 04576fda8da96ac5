package tiles

import (
	"fmt"
	"iter"
	"strconv"
)

// Width is how many hashes a full tile has, and how many entries a full bundle.
const Width = 256

// entriesLevel is where the bundles of entries are in the place of a level.
const entriesLevel = -1

// Tile names one tile, or one bundle of entries.
type Tile struct {
	Level int    // 0: leaf hashes; see Bundle
	Index uint64 // within the level
	Width int    // 1 to 256; less than 256 while it is partial
}

// Bundle names a bundle of entries.
func Bundle(index uint64, width int) Tile { return Tile{entriesLevel, index, width} }

// Partial reports whether the tile is not full.
func (t Tile) Partial() bool { return t.Width < Width }

// Full is the tile with all its hashes.
func (t Tile) Full() Tile {
	t.Width = Width
	return t
}

// Path is the tile's place below the log's folder, with slashes.
func (t Tile) Path() string {
	if t.Partial() {
		return t.partials() + "/" + strconv.Itoa(t.Width)
	}
	return t.stem()
}

// partials is the folder of the tile's partial forms.
func (t Tile) partials() string { return t.stem() + ".p" }

func (t Tile) stem() string {
	number := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		number = fmt.Sprintf("x%03d/%s", n%1000, number)
	}
	if t.Level == entriesLevel {
		return "tile/entries/" + number
	}
	return fmt.Sprintf("tile/%d/%s", t.Level, number)
}

// Covers says in words which entries are below the tile.
func (t Tile) Covers() string {
	shift := 8 * max(t.Level, 0)
	first := t.Index * Width << shift
	return fmt.Sprintf("entries %d to %d", first, first+uint64(t.Width)<<shift-1)
}

// Level says which tiles of a level a tree has: full ones, and the width of the partial one after them, 0 if there is none.
func Level(level int, size uint64) (full uint64, width int) {
	if 8*level >= 64 {
		return 0, 0
	}
	hashes := size >> (8 * level)
	return hashes / Width, int(hashes % Width)
}

// Since yields the tiles and bundles that a tree of a size has and one of a smaller size had not: full ones, and the partial ones at its
// right edge.
func Since(before, size uint64) iter.Seq[Tile] {
	return func(yield func(Tile) bool) {
		for level := entriesLevel; level < maxLevel; level++ {
			of := max(level, 0)
			had, _ := Level(of, before)
			full, width := Level(of, size)
			for index := had; index < full; index++ {
				if !yield(Tile{level, index, Width}) {
					return
				}
			}
			if width > 0 && !yield(Tile{level, full, width}) {
				return
			}
		}
	}
}

// maxLevel bounds the levels of a tree of 2^64 entries.
const maxLevel = 8
