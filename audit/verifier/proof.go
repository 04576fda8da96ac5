package verifier

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Proof is an entry with the proof that it is in the log, as C2SP tlog-proof writes it:
//
//	c2sp.org/tlog-proof@v1
//	extra    the entry's bytes, base64
//	index    decimal
//	hashes   of the inclusion proof, base64, one a line, from the leaf's sibling to the root's child
//	         an empty line
//	         the signed checkpoint
type Proof struct {
	Index      uint64
	Entry      []byte
	Hashes     tlog.RecordProof
	Checkpoint string // signed
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// Prove takes the proof of an entry from the log, whose tiles it checks on the way.
func Prove(folder tiles.Folder, key note.Verifier, index uint64) (*Proof, error) {
	signed, err := folder.Checkpoint()
	if err != nil {
		return nil, err
	}
	if signed == nil {
		return nil, fmt.Errorf("%s has no checkpoint", folder)
	}
	c, err := tiles.OpenCheckpoint(signed, key)
	if err != nil {
		return nil, err
	}
	if index >= c.Size {
		return nil, fmt.Errorf("entry %d is not sealed: the checkpoint has %d", index, c.Size)
	}
	full, width := tiles.Level(0, c.Size)
	if index/tiles.Width < full {
		width = tiles.Width
	}
	entries, err := folder.Entries(tiles.Bundle(index/tiles.Width, width))
	if err != nil {
		return nil, err
	}
	p := &Proof{Index: index, Entry: entries[index%tiles.Width], Checkpoint: string(signed)}
	if p.Hashes, err = tlog.ProveRecord(int64(c.Size), int64(index), folder.HashReader(c)); err != nil {
		return nil, err
	}
	_, _, err = p.Check(key)
	return p, err
}

// Check verifies the proof and returns the entry and the checkpoint that it is under.
func (p *Proof) Check(key note.Verifier) (e audit.Entry, c tiles.Checkpoint, err error) {
	if c, err = tiles.OpenCheckpoint([]byte(p.Checkpoint), key); err != nil {
		return e, c, err
	}
	if p.Index >= c.Size {
		return e, c, fmt.Errorf("entry %d is not in a log of %d", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, int64(c.Size), c.Root, int64(p.Index), tlog.RecordHash(p.Entry)); err != nil {
		return e, c, fmt.Errorf("entry %d is not what the checkpoint covers: %w", p.Index, err)
	}
	e, err = audit.Decode(p.Entry)
	return e, c, err
}

// String writes the proof as a file.
func (p *Proof) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(p.Entry), p.Index)
	for _, h := range p.Hashes {
		fmt.Fprintln(&b, h)
	}
	return b.String() + "\n" + p.Checkpoint
}

var errProof = errors.New("not a proof of an entry")

// ParseProof reads what String writes, and nothing else. It verifies nothing.
func ParseProof(text string) (*Proof, error) {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != proofHeader {
		return nil, fmt.Errorf("%w: expected %s, the entry, its index, hashes and a checkpoint", errProof, proofHeader)
	}
	extra, isExtra := strings.CutPrefix(lines[1], "extra ")
	number, isIndex := strings.CutPrefix(lines[2], "index ")
	if !isExtra || !isIndex {
		return nil, fmt.Errorf("%w: the second line is not the entry, or the third not its index", errProof)
	}
	p := &Proof{Checkpoint: checkpoint}
	var err error
	if p.Entry, err = base64.StdEncoding.DecodeString(extra); err != nil {
		return nil, fmt.Errorf("%w: entry: %w", errProof, err)
	}
	if p.Index, err = strconv.ParseUint(number, 10, 62); err != nil {
		return nil, fmt.Errorf("%w: index: %w", errProof, err)
	}
	for _, line := range lines[3:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProof, err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	if p.String() != text {
		return nil, fmt.Errorf("%w: not written as proofs are", errProof)
	}
	return p, nil
}
