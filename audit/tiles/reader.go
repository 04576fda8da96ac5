package tiles

import (
	"golang.org/x/mod/sumdb/tlog"
)

// HashReader reads the tree of a checkpoint for proofs; every tile that it reads is verified against the checkpoint's root.
func (f Folder) HashReader(c Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(c.Size), Hash: c.Root}, tileReader{f})
}

// CheckConsistent proves, from the tiles on disk, that the tree of the newer checkpoint begins with that of the older.
func (f Folder) CheckConsistent(older, newer Checkpoint) error {
	if older.Size == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(int64(newer.Size), int64(older.Size), f.HashReader(newer))
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, int64(newer.Size), newer.Root, int64(older.Size), older.Root)
}

// tileReader gives tlog the tiles of a folder.
type tileReader struct{ folder Folder }

func (tileReader) Height() int { return 8 }

func (r tileReader) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(wanted))
	for i, t := range wanted {
		hashes, err := r.folder.Hashes(Tile{t.L, uint64(t.N), t.W})
		if err != nil {
			return nil, err
		}
		all[i] = Join(hashes)
	}
	return all, nil
}

func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
