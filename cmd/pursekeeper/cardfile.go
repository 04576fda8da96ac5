package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// cardFormat names the form of a card file, so that another one is refused.
const cardFormat = "pursekeeper-card-v1"

// maxCardFile bounds a card file: a card has a few kilobytes.
const maxCardFile = 1 << 20

// cardContent is what a card file holds. The card's test keys and its PIN are in it in the clear, so the file is its owner's alone.
type cardContent struct {
	Format string          `json:"format"`
	KeySet string          `json:"keySet"`
	Card   json.RawMessage `json:"card"` // softcard's snapshot
}

// cardFile is a card kept in a file, which one process at a time has. As a card does, it has what it took before it answers: the
// file is replaced as a whole, so that a process that is killed leaves the card as it was or as it is, and never half of each.
type cardFile struct {
	path   string
	locked *os.File // the file at path, with a lock of ours on it
	keySet string
	card   *softcard.Card
	saved  []byte // what the file holds
}

// createCard writes a new card's file. One that is there already is an error.
func createCard(path, keySet string, card *softcard.Card) error {
	content, err := encodeCard(keySet, card)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(dir, ".card-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	err = errors.Join(writeWhole(next, content), next.Close())
	if err != nil {
		return err
	}
	err = os.Link(next.Name(), path) // not Rename: it would replace a card
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: there is a card already; move it away, or name another --file", path)
	}
	return errors.Join(err, syncFolder(dir))
}

// openCard takes the card of a file. Somebody else who has it is an error, at once.
func openCard(path string) (*cardFile, error) {
	path, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; \"pursekeeper card new\" makes a card", err)
	} else if err != nil {
		return nil, err
	}
	f := &cardFile{path: path}
	if f.locked, err = lockCard(path); err != nil {
		return nil, err
	}
	if err := f.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.locked.Close())
	}
	return f, nil
}

// lockCard opens and locks the file at path. The lock is on the file and not on its name, so one that was replaced between the two
// is opened anew.
func lockCard(path string) (*os.File, error) {
	for {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%s: another command has the card", path), file.Close())
		} else if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: lock: %w", path, err), file.Close())
		}
		ours, err := file.Stat()
		there, err2 := os.Stat(path)
		if err := errors.Join(err, err2); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if os.SameFile(ours, there) {
			return file, nil
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

// read makes the card of what the file holds. No error quotes it: keys are in it.
func (f *cardFile) read() error {
	raw, err := io.ReadAll(io.LimitReader(f.locked, maxCardFile+1))
	switch {
	case err != nil:
		return err
	case len(raw) > maxCardFile:
		return errors.New("not a card: larger than any")
	}
	var content cardContent
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		return errors.New("not a card, or a damaged one: it is not the JSON of a card")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("a damaged card: something follows it")
	}
	if content.Format != cardFormat {
		return fmt.Errorf("not a card: format %q, expected %q", content.Format, cardFormat)
	}
	if f.card, err = softcard.Restore(content.Card, rand.Reader); err != nil {
		return fmt.Errorf("a damaged card: %w", err)
	}
	f.keySet, f.saved = content.KeySet, raw
	return nil
}

// save replaces the file when the card has changed.
func (f *cardFile) save() error {
	content, err := encodeCard(f.keySet, f.card)
	if err != nil || bytes.Equal(content, f.saved) {
		return err
	}
	// The name is always the same, so that what a killed process left is written over. The lock keeps others away from it.
	const mode = os.O_RDWR | os.O_CREATE | os.O_TRUNC | syscall.O_NOFOLLOW
	next, err := os.OpenFile(f.path+".new", mode, 0o600)
	if err != nil {
		return err
	}
	// Locked before it has the name, so that nobody can take it in between.
	err = errors.Join(next.Chmod(0o600), syscall.Flock(int(next.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), writeWhole(next, content))
	if err == nil {
		err = os.Rename(next.Name(), f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the card: %w", err), next.Close())
	}
	before := f.locked
	f.locked, f.saved = next, content
	return errors.Join(before.Close(), syncFolder(filepath.Dir(f.path)))
}

// close lets others have the card.
func (f *cardFile) close() error { return f.locked.Close() }

func encodeCard(keySet string, card *softcard.Card) ([]byte, error) {
	snapshot, err := card.Snapshot()
	if err != nil {
		return nil, err
	}
	content, err := json.MarshalIndent(cardContent{cardFormat, keySet, snapshot}, "", "  ")
	return append(content, '\n'), err
}

// writeWhole writes the content so that it is on the disk.
func writeWhole(file *os.File, content []byte) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
