package tiles

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says what a log is at a size:
//
//	origin, the name of the log and of its key
//	size, decimal
//	root, base64
//
// It is signed as a note. No further lines: none that a reader would skip.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
}

// Text is what is signed.
func (c Checkpoint) Text() string { return fmt.Sprintf("%s\n%d\n%v\n", c.Origin, c.Size, c.Root) }

// Sign makes the note.
func (c Checkpoint) Sign(signer note.Signer) (string, error) {
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	return string(signed), err
}

// ErrOtherKey is the error of a checkpoint that the log's key did not sign.
var ErrOtherKey = errors.New("the checkpoint is not signed by the log's key")

// OpenCheckpoint verifies a signed checkpoint of the log that has the key.
func OpenCheckpoint(signed []byte, key note.Verifier) (c Checkpoint, err error) {
	opened, err := note.Open(signed, note.VerifierList(key))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		return c, fmt.Errorf("%w %s+%08x: %w", ErrOtherKey, key.Name(), key.KeyHash(), err)
	case errors.As(err, &invalid):
		return c, fmt.Errorf("%w: its signature is wrong: %w", ErrOtherKey, err)
	case err != nil:
		return c, fmt.Errorf("checkpoint: %w", err)
	}
	tree, err := tlogTree(opened.Text)
	if err != nil {
		return c, err
	}
	if tree.Origin != key.Name() {
		return c, fmt.Errorf("checkpoint of the log %q, expected %q", tree.Origin, key.Name())
	}
	return tree, nil
}

// tlogTree reads the text and refuses any that Text would write otherwise.
func tlogTree(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return c, fmt.Errorf("checkpoint: %d lines, expected origin, size and root", len(lines)-1)
	}
	c.Origin = lines[0]
	if _, err := fmt.Sscanf(lines[1], "%d", &c.Size); err != nil {
		return c, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, fmt.Errorf("checkpoint: root: %w", err)
	}
	if c.Text() != text || c.Size > maxSize {
		return c, errors.New("checkpoint: not written as checkpoints are")
	}
	return c, nil
}

// maxSize is what the tree's arithmetic and the database hold.
const maxSize = 1<<62 - 1
