package tiles

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrOther is the error of a file that is there with another content.
var ErrOther = errors.New("is there with another content")

// File is a tile or bundle to be written.
type File struct {
	Tile Tile
	Data []byte
}

// Write makes files durable, all or some of them when it fails or the process ends:
//
//	write         each beside its place, as NAME.new
//	start         the kernel is asked to send them all to the disk
//	synchronise   each
//	rename        each to its place
//	synchronise   the folders, from the deepest
//
// A file system with a journal commits it for the first file that is synchronised after something changed. Stage after stage, not
// file after file, that is two commits for all files, not two for each: they are the database's too, when it is on the same
// disk.
//
// A file that is there already, of a sealer that was stopped before its checkpoint, must be the same, byte for byte.
func (f Folder) Write(files []File) (err error) {
	folders := map[string]bool{}
	var fresh []draft
	defer func() {
		for _, d := range fresh {
			err = errors.Join(err, d.close())
		}
	}()
	for _, file := range files {
		name := file.Tile.Path()
		for folder := path.Dir(name); !folders[folder]; folder = path.Dir(folder) {
			folders[folder] = true // the last is ".": the log's own
		}
		there, err := os.ReadFile(f.place(name))
		switch {
		case err == nil && bytes.Equal(there, file.Data):
			continue
		case err == nil:
			return fmt.Errorf("%s %w: %s", name, ErrOther, file.Tile.Covers())
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		d, err := f.draft(name, file.Data)
		if err != nil {
			return err
		}
		fresh = append(fresh, d)
	}
	if err := placeAll(fresh); err != nil {
		return err
	}
	return f.syncFolders(folders)
}

// PublishCheckpoint replaces the checkpoint, durably. Everything that it covers must be there before.
func (f Folder) PublishCheckpoint(signed string) error {
	if err := f.replace(checkpointName, signed); err != nil {
		return err
	}
	return syncFolder(string(f))
}

// replace writes a file anew, but for its folder.
func (f Folder) replace(name, text string) error {
	d, err := f.draft(name, []byte(text))
	if err != nil {
		return err
	}
	return errors.Join(placeAll([]draft{d}), d.close())
}

// draft is a file beside its place.
type draft struct {
	place string
	*os.File
}

// draft writes a file beside its place. A rest of an earlier try is written over.
func (f Folder) draft(name string, data []byte) (d draft, err error) {
	place := f.place(name)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return d, err
	}
	file, err := os.OpenFile(place+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return d, err
	}
	if _, err = file.Write(data); err != nil {
		return d, errors.Join(err, file.Close())
	}
	return draft{place, file}, nil
}

func (d draft) close() error {
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// placeAll makes drafts durable and then renames them: a name never stands for bytes that a crash could take.
func placeAll(drafts []draft) error {
	if len(drafts) > 1 {
		for _, d := range drafts {
			// Only a start: what makes a file durable is Sync. So an error, of a file system that has no such call, is none.
			_ = unix.SyncFileRange(int(d.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
		}
	}
	for _, d := range drafts {
		if err := errors.Join(d.Sync(), d.close()); err != nil {
			return err
		}
	}
	for _, d := range drafts {
		if err := os.Rename(d.place+".new", d.place); err != nil {
			return err
		}
	}
	return nil
}

func (f Folder) syncFolders(folders map[string]bool) error {
	names := make([]string, 0, len(folders))
	for name := range folders {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) }) // the deepest first
	for _, name := range names {
		if err := syncFolder(f.place(name)); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(name string) error {
	folder, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
