// Package archive takes sealed entries off the database, in two steps that an operator runs one after the other.
//
// # Copy
//
// Copy brings a second folder up to the sealed log: its tiles and bundles, durably, then the checkpoint. It verifies the copy as an
// auditor would. A copy that is interrupted goes on where it was.
//
// # Prune
//
// Prune deletes entries from the database that are in the log and in its copy. In this order:
//
//	verify    the whole log, and the whole copy, each against a checkpoint that was saved before
//	compare   every entry that is to go, as the database has it, with the sealed one
//	record    an entry that says what is pruned, and under which checkpoint
//	mark      in the database from where on entries are kept: whoever looks knows that those before it may be gone
//	delete    the rows, a few hundred in a transaction
//
// A process that is killed anywhere leaves a log, a copy and a database that agree; the same command goes on. Only whole bundles
// go, and never the newest entries.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// copiedAtOnce is how many full bundles are copied before their folders are synchronised.
const copiedAtOnce = 64

// Copy brings the folder to up to the log in from, whose key is given, and verifies it. It returns the checkpoint that both have.
func Copy(ctx context.Context, from, to tiles.Folder, key note.Verifier) (tiles.Checkpoint, error) {
	if err := apart(from, to); err != nil {
		return tiles.Checkpoint{}, err
	}
	unlock, err := to.Lock()
	if err != nil {
		return tiles.Checkpoint{}, err
	}
	c, err := copyLog(ctx, from, to, key)
	if err = errors.Join(err, unlock()); err != nil {
		return tiles.Checkpoint{}, err
	}
	return c, nil
}

// ErrOneFolder: the archive is the log itself, by another name or by the same, and no copy of it.
var ErrOneFolder = errors.New("is the folder of the log itself")

func apart(log, archive tiles.Folder) error {
	a, err := os.Stat(string(log))
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	switch b, err := os.Stat(string(archive)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the archive: %w", err)
	case os.SameFile(a, b):
		return fmt.Errorf("the archive %s %w", archive, ErrOneFolder)
	}
	return nil
}

func copyLog(ctx context.Context, from, to tiles.Folder, key note.Verifier) (c tiles.Checkpoint, err error) {
	signed, c, err := opened(from, key)
	if err != nil {
		return c, err
	}
	had, err := to.Checkpoint()
	if err != nil {
		return c, err
	}
	var before tiles.Checkpoint
	if had != nil {
		if before, err = tiles.OpenCheckpoint(had, key); err != nil {
			return c, fmt.Errorf("the archive: %w", err)
		}
	}
	if before.Size > c.Size {
		return c, fmt.Errorf("the archive has %d entries, the log %d: the log was cut, or an old one was put in its place", before.Size, c.Size)
	}
	if err := copyTiles(ctx, from, to, before.Size, c.Size); err != nil {
		return c, err
	}
	if before.Size > 0 {
		if err := to.CheckConsistent(before, c); err != nil {
			return c, fmt.Errorf("the log does not begin with the %d entries of the archive: %w", before.Size, err)
		}
	}
	report, err := verifier.Verify(ctx, verifier.Config{Folder: to, Key: key, Saved: had, Signed: signed, AnyClock: true})
	if err != nil {
		return c, err
	}
	if err := held("the archive", report); err != nil {
		return c, err
	}
	if err := to.PublishCheckpoint(string(signed)); err != nil {
		return c, err
	}
	return c, dropPartials(to, before.Size, c.Size)
}

// dropPartials removes the partial forms, of a tree of an earlier size, of what is full now.
func dropPartials(folder tiles.Folder, before, size uint64) error {
	for t := range tiles.Since(before, size) {
		if had, width := tiles.Level(max(t.Level, 0), before); t.Partial() || width == 0 || t.Index != had {
			continue
		}
		if err := folder.DropPartials(t); err != nil {
			return err
		}
	}
	return nil
}

func opened(folder tiles.Folder, key note.Verifier) (signed []byte, c tiles.Checkpoint, err error) {
	if signed, err = folder.Checkpoint(); err != nil {
		return nil, c, err
	}
	if signed == nil {
		return nil, c, fmt.Errorf("%s has no checkpoint", folder)
	}
	c, err = tiles.OpenCheckpoint(signed, key)
	return signed, c, err
}

// copyTiles copies all that a tree of a size has and one of an earlier size had not.
func copyTiles(ctx context.Context, from, to tiles.Folder, before, size uint64) error {
	var files []tiles.File
	write := func() error {
		err := to.Write(files)
		files = files[:0]
		return err
	}
	for t := range tiles.Since(before, size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := from.Read(t)
		if err != nil {
			return fmt.Errorf("copy %s: %w", t.Path(), err)
		}
		if files = append(files, tiles.File{Tile: t, Data: data}); len(files) == copiedAtOnce {
			if err := write(); err != nil {
				return fmt.Errorf("copy: %w", err)
			}
		}
	}
	if err := write(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// ErrDamaged: what is to be archived, or is archived, does not verify.
var ErrDamaged = errors.New("does not verify")

// held is an error of a log that is not whole. Steps of a clock, which are not looked for, are for the auditor, and no reason to keep an
// entry in the database.
func held(what string, r *verifier.Report) error {
	if !r.Held() {
		f := r.Findings[0]
		return fmt.Errorf("%s %w: %s: %s (run audit verify)", what, ErrDamaged, f.Kind, f.Text)
	}
	return nil
}
