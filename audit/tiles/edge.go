package tiles

import (
	"golang.org/x/mod/sumdb/tlog"
)

// Edge is the right edge of a tree: all that is needed to add leaves and to know the root. Its zero value is the empty tree. It is
// not safe for several goroutines.
type Edge struct {
	size   uint64
	levels [][]tlog.Hash // of each level the hashes of its partial tile
}

// Size is the number of leaves.
func (e *Edge) Size() uint64 { return e.size }

// Append adds a leaf and calls full with each tile that it completes.
func (e *Edge) Append(leaf tlog.Hash, full func(Tile, []byte)) {
	e.size++
	hash := leaf
	for level := 0; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, make([]tlog.Hash, 0, Width))
		}
		e.levels[level] = append(e.levels[level], hash)
		if len(e.levels[level]) < Width {
			return
		}
		full(Tile{level, e.size>>(8*(level+1)) - 1, Width}, Join(e.levels[level]))
		hash = TileRoot(e.levels[level])
		e.levels[level] = e.levels[level][:0]
	}
}

// Partial calls yield with each partial tile of the tree.
func (e *Edge) Partial(yield func(Tile, []byte)) {
	for level, hashes := range e.levels {
		if len(hashes) > 0 {
			yield(Tile{level, e.size >> (8 * (level + 1)), len(hashes)}, Join(hashes))
		}
	}
}

// Root is the tree's root, as RFC 6962 defines it; of the empty tree the hash of nothing.
func (e *Edge) Root() tlog.Hash { return RootOf(e.levels) }

// RootOf folds the hashes of the partial tiles of a tree, those of level 0 first, to its root.
func RootOf(levels [][]tlog.Hash) tlog.Hash {
	var root tlog.Hash
	some := false
	for _, hashes := range levels { // from the right: the smallest subtrees first
		for end := len(hashes); end > 0; {
			width := end & -end // the perfect subtree that ends here
			subtree := TileRoot(hashes[end-width : end])
			if some {
				subtree = tlog.NodeHash(subtree, root)
			}
			root, some = subtree, true
			end -= width
		}
	}
	if !some {
		root, _ = tlog.TreeHash(0, nil) // never fails: nothing is read
	}
	return root
}

// TileRoot is the root over a power of two of hashes.
func TileRoot(hashes []tlog.Hash) tlog.Hash {
	var scratch [Width]tlog.Hash
	n := copy(scratch[:], hashes)
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			scratch[i] = tlog.NodeHash(scratch[2*i], scratch[2*i+1])
		}
	}
	return scratch[0]
}

// Join writes hashes one after another, as a tile has them.
func Join(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}

// Split is the way back.
func Split(data []byte) []tlog.Hash {
	hashes := make([]tlog.Hash, len(data)/tlog.HashSize)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes
}
