package tiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Folder is a log's folder.
type Folder string

const checkpointName = "checkpoint"

// largestNote is the most bytes of a signed note, as package note reads one.
const largestNote = 1_000_000

func (f Folder) place(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

// Read returns what a tile or bundle has. A partial one that is not there any more is taken from its full one, as tlog-tiles
// says. The error is fs.ErrNotExist where it is missing.
func (f Folder) Read(t Tile) ([]byte, error) {
	data, err := f.readAtMost(t.Path(), t.largest())
	if errors.Is(err, fs.ErrNotExist) && t.Partial() {
		full, fullErr := f.readAtMost(t.Full().Path(), t.Full().largest())
		if fullErr != nil {
			return nil, err
		}
		return t.first(full)
	}
	return data, err
}

// largest is the most bytes that a tile or bundle of the width is read of: what one entry more than it has may need, for SplitBundle to say so.
func (t Tile) largest() int64 {
	if t.Level == entriesLevel {
		return int64(t.Width+1) * (2 + audit.MaxSize)
	}
	return int64(t.Width+1) * tlog.HashSize
}

// ErrTooLarge is the error of a file that is larger than what it should be may be. Who serves a log does not say how much memory it takes to
// read it.
var ErrTooLarge = errors.New("is larger than such a file may be")

func (f Folder) readAtMost(name string, most int64) ([]byte, error) {
	file, err := os.Open(f.place(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	data.Grow(int(min(info.Size(), most)) + bytes.MinRead)
	if _, err := data.ReadFrom(io.LimitReader(file, most+1)); err != nil {
		return nil, err
	}
	if int64(data.Len()) > most {
		return nil, fmt.Errorf("%s %w: %d bytes", name, ErrTooLarge, most)
	}
	return data.Bytes(), nil
}

// first cuts a full tile or bundle to the tile's width.
func (t Tile) first(full []byte) ([]byte, error) {
	if t.Level != entriesLevel {
		return full[:min(len(full), t.Width*tlog.HashSize)], nil
	}
	entries, err := SplitBundle(full)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, e := range entries[:min(len(entries), t.Width)] {
		n += EntrySize(e)
	}
	return full[:n], nil
}

// Hashes returns the hashes of a tile, which must be as many as its width.
func (f Folder) Hashes(t Tile) ([]tlog.Hash, error) {
	data, err := f.Read(t)
	if err != nil {
		return nil, err
	}
	if len(data) != t.Width*tlog.HashSize {
		return nil, fmt.Errorf("%s has %d bytes, expected %d", t.Path(), len(data), t.Width*tlog.HashSize)
	}
	return Split(data), nil
}

// Entries returns the entries of a bundle, which must be as many as its width.
func (f Folder) Entries(t Tile) ([][]byte, error) {
	data, err := f.Read(t)
	if err != nil {
		return nil, err
	}
	entries, err := SplitBundle(data)
	if err == nil && len(entries) != t.Width {
		err = fmt.Errorf("it holds %d entries, expected %d", len(entries), t.Width)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path(), err)
	}
	return entries, nil
}

// Checkpoint reads the newest checkpoint, as it is signed; empty when there is none.
func (f Folder) Checkpoint() ([]byte, error) { return f.read(checkpointName) }

func (f Folder) read(name string) ([]byte, error) {
	signed, err := f.readAtMost(name, largestNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return signed, err
}

// Edge reads the right edge of the tree that a checkpoint of this folder says, and refuses one that has another root.
func (f Folder) Edge(c Checkpoint) (*Edge, error) {
	e := &Edge{size: c.Size}
	for level := range maxLevel {
		full, width := Level(level, c.Size)
		if full == 0 && width == 0 {
			break
		}
		hashes := make([]tlog.Hash, 0, Width)
		if width > 0 {
			read, err := f.Hashes(Tile{level, full, width})
			if err != nil {
				return nil, fmt.Errorf("right edge of the log: %w", err)
			}
			hashes = append(hashes, read...)
		}
		e.levels = append(e.levels, hashes)
	}
	if root := e.Root(); root != c.Root {
		return nil, fmt.Errorf("the tiles of the right edge have the root %v, the checkpoint of size %d says %v", root, c.Size, c.Root)
	}
	return e, nil
}

// DropPartials removes the partial forms of a tile that is full and sealed.
func (f Folder) DropPartials(t Tile) error { return os.RemoveAll(f.place(t.partials())) }

// DropOldPartials removes what a sealer that was stopped left of the tiles that were filled last, in a tree of a size.
func (f Folder) DropOldPartials(size uint64) error {
	for level := range maxLevel {
		full, _ := Level(level, size)
		if full == 0 {
			return nil
		}
		if err := f.DropPartials(Tile{level, full - 1, Width}); err != nil {
			return err
		}
		if level == 0 {
			if err := f.DropPartials(Bundle(full-1, Width)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadKey reads the verifier key of a log from its file: one line, as note has it.
func ReadKey(file string) (note.Verifier, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := note.NewVerifier(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}
