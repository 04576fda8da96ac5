// Package verifier is what an auditor runs over a sealed log (audit/tiles): the whole of it ([Verify]), or a proof of one entry
// ([CheckProof]). It needs the files and the log's public key: no token, no database, no network. It reads the log once, in order, and
// keeps one tile of each level in memory, however long the log is.
//
// # What it can know
//
// The key's signature covers the root of the tree, and the root every entry and its place. So any change of an entry, its place or
// its number shows against the checkpoint, and is named as near as the tiles tell. Who has the key can sign another log, and
// who serves the files can serve an old checkpoint with its tiles: each such log is whole in itself. Only a checkpoint that was saved
// elsewhere before shows it, or one that witnesses signed: they sign only what goes on from what they signed before. Without either the
// report says that this was not checked.
package verifier

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Kind is what is wrong. Scripts may tell findings apart by it.
type Kind string

// The kinds of findings.
const (
	NoCheckpoint Kind = "no-checkpoint" // there is none, or it cannot be read
	OtherKey     Kind = "other-key"     // a checkpoint that the log's key did not sign
	Missing      Kind = "missing"       // a tile or bundle is not there
	Malformed    Kind = "malformed"     // a tile or bundle is not written as they are
	Changed      Kind = "changed"       // an entry does not have its leaf hash
	Deleted      Kind = "deleted"       // an entry is gone, those after it moved up
	Inserted     Kind = "inserted"      // an entry is there that was not sealed
	Reordered    Kind = "reordered"     // entries of a bundle changed places
	TileChanged  Kind = "tile-changed"  // a tile does not have the root that the tile above it says
	WrongRoot    Kind = "wrong-root"    // the tree does not have the checkpoint's root
	Form         Kind = "form"          // an entry is not in its canonical encoding
	ClockBack    Kind = "clock-back"    // an entry is dated before an earlier one
	CutOrOld     Kind = "cut-or-old"    // the log is shorter than the saved checkpoint
	Rewritten    Kind = "rewritten"     // the log does not begin with what the saved checkpoint says
	Fork         Kind = "fork"          // two checkpoints of one size
	NotCosigned  Kind = "not-cosigned"  // fewer witnesses signed a checkpoint of the log than are asked for
)

// Finding is one thing that is wrong, in words.
type Finding struct {
	Kind Kind
	Text string
}

// Report is what came of a verification.
type Report struct {
	Checkpoint tiles.Checkpoint
	Saved      *tiles.Checkpoint // nil without one
	Witnessed  []Witnessed       // of the witnesses that are asked for and signed
	Entries    uint64            // that were read and have their leaf hashes
	Tiles      uint64            // of hashes that were read
	Findings   []Finding
	More       uint64   // findings beyond maxFindings
	Unchecked  []string // what could not be known
}

// Held reports whether all that was checked held.
func (r *Report) Held() bool { return len(r.Findings) == 0 }

// maxFindings bounds the findings that are kept: after one deleted entry every later bundle is wrong.
const maxFindings = 20

func (r *Report) find(kind Kind, format string, values ...any) {
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, Finding{kind, fmt.Sprintf(format, values...)})
}
