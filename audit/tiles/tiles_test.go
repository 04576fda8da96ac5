package tiles

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/audit"
)

func TestPathsAreThoseOfTlogTiles(t *testing.T) {
	for _, test := range []struct {
		tile Tile
		path string
	}{
		{Tile{0, 0, 256}, "tile/0/000"},
		{Tile{0, 0, 1}, "tile/0/000.p/1"},
		{Tile{1, 1234067, 256}, "tile/1/x001/x234/067"},
		{Tile{2, 1000, 112}, "tile/2/x001/000.p/112"},
		{Bundle(999, 256), "tile/entries/999"},
		{Bundle(273, 112), "tile/entries/273.p/112"},
	} {
		assert.Equal(t, test.path, test.tile.Path())
	}
	// x/mod writes the same paths with the height in them.
	rapid.Check(t, func(t *rapid.T) {
		tile := Tile{rapid.IntRange(0, 7).Draw(t, "level"), rapid.Uint64Range(0, 1<<40).Draw(t, "index"), rapid.IntRange(1, 256).Draw(t, "width")}
		theirs := tlog.Tile{H: 8, L: tile.Level, N: int64(tile.Index), W: tile.Width}.Path()
		assert.Equal(t, strings.Replace(theirs, "tile/8/", "tile/", 1), tile.Path())
	})
}

// A tree of 70,000, as the specification counts it.
func TestLevelsOfSeventyThousand(t *testing.T) {
	for level, want := range [][2]int{{273, 112}, {1, 17}, {0, 1}, {0, 0}} {
		full, width := Level(level, 70_000)
		assert.Equal(t, want, [2]int{int(full), width}, "level %d", level)
	}
	assert.Equal(t, "entries 69888 to 69999", Tile{0, 273, 112}.Covers())
	assert.Equal(t, "entries 65536 to 69887", Tile{1, 1, 17}.Covers())
}

func leaf(i uint64) tlog.Hash { return tlog.RecordHash(fmt.Appendf(nil, "leaf %d", i)) }

// reference is a tree as x/mod stores it: every hash.
type reference []tlog.Hash

func (r reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = r[index]
	}
	return found, nil
}

func (r *reference) add(t require.TestingT, i uint64) {
	hashes, err := tlog.StoredHashesForRecordHash(int64(i), leaf(i), *r)
	require.NoError(t, err)
	*r = append(*r, hashes...)
}

// The edge has the roots and tiles of x/mod's own tree, at all sizes around those where a tile, or a tile of tiles, is full.
func TestTheEdgeIsTheTree(t *testing.T) {
	const most = 65536 + 2*256 + 3
	var (
		r    reference
		e    Edge
		seen = map[Tile][]byte{}
	)
	interesting := func(n uint64) bool {
		return n < 600 || n > 65536-3 && n < 65536+5 || n%256 < 2 || n%256 == 255 && n > 65000 || n == most
	}
	root, err := tlog.TreeHash(0, nil)
	require.NoError(t, err)
	assert.Equal(t, root, e.Root())
	for n := uint64(0); n < most; n++ {
		r.add(t, n)
		e.Append(leaf(n), func(tile Tile, data []byte) { seen[tile] = data })
		if !interesting(n + 1) {
			continue
		}
		root, err := tlog.TreeHash(int64(n+1), r)
		require.NoError(t, err)
		require.Equal(t, root, e.Root(), "size %d", n+1)
		widths := map[int]int{}
		e.Partial(func(tile Tile, data []byte) {
			widths[tile.Level] = tile.Width
			want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: tile.Level, N: int64(tile.Index), W: tile.Width}, r)
			require.NoError(t, err)
			require.Equal(t, want, data, "%s at size %d", tile.Path(), n+1)
		})
		for level := range 4 {
			_, width := Level(level, n+1)
			require.Equal(t, width, widths[level], "size %d level %d", n+1, level)
		}
	}
	assert.Len(t, seen, 258+1)
	for tile, data := range seen {
		want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: tile.Level, N: int64(tile.Index), W: tile.Width}, r)
		require.NoError(t, err)
		require.Equal(t, want, data, tile.Path())
	}
}

// write puts a tree of n leaves into a folder, in steps of any sizes, and returns its checkpoint.
func write(t require.TestingT, f Folder, n uint64, step func() uint64) Checkpoint {
	var e Edge
	for e.Size() < n {
		var files []File
		for range min(step(), n-e.Size()) {
			e.Append(leaf(e.Size()), func(tile Tile, data []byte) { files = append(files, File{tile, data}) })
		}
		e.Partial(func(tile Tile, data []byte) { files = append(files, File{tile, data}) })
		require.NoError(t, f.Write(files))
	}
	return Checkpoint{"log", n, e.Root()}
}

// Whatever sizes a log was sealed at, its tiles prove every entry and every earlier size, read by x/mod's own reader.
func TestTilesProve(t *testing.T) {
	var r reference
	for i := range uint64(66_200) {
		r.add(t, i)
	}
	folder := Folder(t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		around := rapid.SampledFrom([]uint64{256, 512, 65536, 66048}).Draw(t, "around")
		if around > 60000 && rapid.IntRange(0, 9).Draw(t, "seldom") > 0 {
			around = 256
		}
		size := around + rapid.Uint64Range(0, 80).Draw(t, "more") - 40
		c := write(t, folder, size, func() uint64 { return rapid.Uint64Range(1+size/20, 1+size/3).Draw(t, "step") })
		want, err := tlog.TreeHash(int64(size), r)
		require.NoError(t, err)
		require.Equal(t, want, c.Root)
		index := rapid.Uint64Range(0, size-1).Draw(t, "index")
		proof, err := tlog.ProveRecord(int64(size), int64(index), folder.HashReader(c))
		require.NoError(t, err)
		require.NoError(t, tlog.CheckRecord(proof, int64(size), c.Root, int64(index), leaf(index)))
		older := rapid.Uint64Range(1, size).Draw(t, "older")
		root, err := tlog.TreeHash(int64(older), r)
		require.NoError(t, err)
		require.NoError(t, folder.CheckConsistent(Checkpoint{"log", older, root}, c))
		require.Error(t, folder.CheckConsistent(Checkpoint{"log", older, leaf(99_999)}, c))
		edge, err := folder.Edge(c)
		require.NoError(t, err)
		require.Equal(t, c.Root, edge.Root())
		_, err = folder.Edge(Checkpoint{"log", size, leaf(0)})
		require.ErrorContains(t, err, "right edge")
	})
}

func TestWhatIsThereStays(t *testing.T) {
	f := Folder(t.TempDir())
	tile := Tile{0, 0, 2}
	require.NoError(t, f.Write([]File{{tile, make([]byte, 64)}}))
	require.NoError(t, f.Write([]File{{tile, make([]byte, 64)}}))
	err := f.Write([]File{{tile, append(make([]byte, 63), 1)}})
	require.ErrorIs(t, err, ErrOther)
	require.ErrorContains(t, err, "tile/0/000.p/2")
	read, err := f.Hashes(tile)
	require.NoError(t, err)
	assert.Equal(t, make([]tlog.Hash, 2), read)
	_, err = f.Read(Tile{0, 1, 2})
	require.ErrorIs(t, err, fs.ErrNotExist)

	// A rest of a write that was cut is written over.
	place := f.place(tile.Path())
	require.NoError(t, os.Rename(place, place+".new"))
	require.NoError(t, os.Truncate(place+".new", 3))
	require.NoError(t, f.Write([]File{{tile, make([]byte, 64)}}))
	_, err = os.Stat(place + ".new")
	require.ErrorIs(t, err, fs.ErrNotExist)

	full := make([]byte, 256*tlog.HashSize)
	full[0] = 7
	require.NoError(t, f.Write([]File{{tile.Full(), full}}))
	require.NoError(t, f.DropOldPartials(256))
	_, err = os.Stat(filepath.Dir(place))
	require.ErrorIs(t, err, fs.ErrNotExist)
	read, err = f.Hashes(tile)
	require.NoError(t, err, "a partial tile is read from its full one")
	assert.Len(t, read, 2)
	assert.EqualValues(t, 7, read[0][0])
}

func TestBundles(t *testing.T) {
	var bundle []byte
	for _, entry := range []string{"", "one", strings.Repeat("x", audit.MaxSize)} {
		var err error
		bundle, err = AppendEntry(bundle, []byte(entry))
		require.NoError(t, err)
	}
	assert.Equal(t, "\x00\x00\x00\x03one\xff\xffx", string(bundle[:10]))
	entries, err := SplitBundle(bundle)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	assert.Equal(t, "one", string(entries[1]))
	for _, cut := range []int{1, 3, 6, len(bundle) - 1} {
		_, err := SplitBundle(bundle[:cut])
		require.ErrorIs(t, err, errCut, "%d", cut)
	}
	_, err = AppendEntry(nil, make([]byte, audit.MaxSize+1))
	require.Error(t, err)
	_, err = SplitBundle(make([]byte, 2*258))
	require.ErrorContains(t, err, "more than 257")
}

func TestCheckpoints(t *testing.T) {
	private, public, err := note.GenerateKey(rand.Reader, "log.example/a")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	key, err := note.NewVerifier(public)
	require.NoError(t, err)
	c := Checkpoint{"log.example/a", 42, leaf(1)}
	signed, err := c.Sign(signer)
	require.NoError(t, err)
	back, err := OpenCheckpoint([]byte(signed), key)
	require.NoError(t, err)
	assert.Equal(t, c, back)

	_, err = OpenCheckpoint([]byte(strings.Replace(signed, "\n42\n", "\n43\n", 1)), key)
	require.ErrorIs(t, err, ErrOtherKey)
	other, otherPublic, err := note.GenerateKey(rand.Reader, "log.example/a")
	require.NoError(t, err)
	otherKey, err := note.NewVerifier(otherPublic)
	require.NoError(t, err)
	_, err = OpenCheckpoint([]byte(signed), otherKey)
	require.ErrorIs(t, err, ErrOtherKey)
	_ = other
	for _, text := range []string{
		"log.example/b\n42\n" + leaf(1).String() + "\n",
		"log.example/a\n042\n" + leaf(1).String() + "\n",
		"log.example/a\n-1\n" + leaf(1).String() + "\n",
		"log.example/a\n4611686018427387904\n" + leaf(1).String() + "\n",
		"log.example/a\n42\nAAAA\n",
		"log.example/a\n42\n" + leaf(1).String() + "\nmore\n",
		"log.example/a\n42\n",
	} {
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		require.NoError(t, err)
		_, err = OpenCheckpoint(signed, key)
		assert.Error(t, err, text)
	}
	_, err = OpenCheckpoint(nil, key)
	require.Error(t, err)
}

func TestOneSealerOfAFolder(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "audit"))
	unlock, err := f.Lock()
	require.NoError(t, err)
	_, err = f.Lock()
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, unlock())
	again, err := f.Lock()
	require.NoError(t, errors.Join(err, again()))
}
