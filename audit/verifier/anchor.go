package verifier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// anchor is a checkpoint from elsewhere, which the log must begin with.
type anchor struct {
	tiles.Checkpoint
	name string // in findings
}

// Witnessed is what a witness signed of the log.
type Witnessed struct {
	Name       string
	KeyHash    string // 8 hex digits
	Checkpoint tiles.Checkpoint
	Time       time.Time // by the witness's clock
}

// anchor compares a checkpoint from elsewhere with the log's, as far as that goes without the tiles, and keeps it for the rest.
func (v *verification) anchor(c tiles.Checkpoint, name string) {
	r := v.report
	switch {
	case c.Size > r.Checkpoint.Size:
		r.find(CutOrOld, "the log has %d entries, %s %d: its tail was cut, or an old checkpoint is served as new",
			r.Checkpoint.Size, name, c.Size)
	case c.Size == r.Checkpoint.Size && c.Root != r.Checkpoint.Root:
		r.find(Fork, "two checkpoints of size %d, both signed: the log's has the root %v, %s %v",
			c.Size, r.Checkpoint.Root, name, c.Root)
	}
	v.anchors = append(v.anchors, anchor{c, name})
}

// compareAnchor compares the tree at the size of an anchor.
func (v *verification) compareAnchor(a anchor, claimed []tlog.Hash) {
	if a.Size >= v.report.Checkpoint.Size {
		return // the two were compared: the same root, a fork, or a log that is shorter
	}
	if root := v.root(a.Size, claimed); !v.blind && root != a.Root {
		v.report.find(Rewritten, "the first %d entries have the root %v, %s says %v: the log was rewritten before entry %d",
			a.Size, root, a.name, a.Root, a.Size)
	}
}

// kept are the newest checkpoints that each witness signed, as the folder has them.
func (v *verification) kept() ([][]byte, error) {
	all := make([][]byte, len(v.Witnesses))
	for i, w := range v.Witnesses {
		var err error
		if all[i], err = v.Folder.Cosigned(w); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cosigned is the larger of the checkpoints that a witness signed: of the published one and the newest that is kept of his. Who serves an old
// checkpoint, with his signature of that time, may have left the newer.
func (v *verification) cosigned(published, kept []byte, w *tiles.Witness) (c tiles.Checkpoint, at time.Time, err error) {
	c, at, err = tiles.OpenCosigned(published, v.Key, w)
	if kept == nil {
		return c, at, err
	}
	other, then, keptErr := tiles.OpenCosigned(kept, v.Key, w)
	if errors.Is(err, tiles.ErrNotCosigned) || err == nil && keptErr == nil && other.Size > c.Size {
		return other, then, keptErr
	}
	return c, at, err
}

// witnesses finds what each witness signed.
func (v *verification) witnesses(published []byte, kept [][]byte) {
	if len(v.Witnesses) == 0 {
		return
	}
	if v.Quorum == 0 {
		v.Quorum = len(v.Witnesses)
	}
	var missing []error
	for i, w := range v.Witnesses {
		c, at, err := v.cosigned(published, kept[i], w)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		v.report.Witnessed = append(v.report.Witnessed, Witnessed{w.Name(), fmt.Sprintf("%08x", w.KeyHash()), c, at})
		v.anchor(c, "the checkpoint that the witness "+w.Name()+" signed")
	}
	if len(v.report.Witnessed) < v.Quorum {
		v.report.find(NotCosigned, "%d of the witnesses signed a checkpoint that is here, expected %d: %v",
			len(v.report.Witnessed), v.Quorum, errors.Join(missing...))
		return
	}
	if _, at := v.witnessed(); at.Before(v.WitnessedSince) {
		v.report.find(CutOrOld, "%d of the witnesses have signed nothing since %s, the last at %s: an old checkpoint is served as new, or the log "+
			"was not offered to them", v.Quorum, v.WitnessedSince.UTC().Format(time.RFC3339), at.Format(time.RFC3339))
	}
}

// witnessed is how many entries as many witnesses have signed as are asked for, and when that many had signed last.
func (v *verification) witnessed() (size uint64, at time.Time) {
	all := slices.Clone(v.report.Witnessed)
	if v.Quorum == 0 || len(all) < v.Quorum {
		return 0, at
	}
	slices.SortFunc(all, func(a, b Witnessed) int { return b.Time.Compare(a.Time) })
	at = all[v.Quorum-1].Time
	slices.SortFunc(all, func(a, b Witnessed) int { return cmp.Compare(b.Checkpoint.Size, a.Checkpoint.Size) })
	return all[v.Quorum-1].Checkpoint.Size, at
}

// unchecked says what could not be known: all that a saved checkpoint or witnesses show without them, and with them what came later.
func (v *verification) unchecked() {
	r := v.report
	size, at := v.witnessed()
	if r.Saved != nil {
		size = max(size, r.Saved.Size)
	}
	say := func(format string, values ...any) { r.Unchecked = append(r.Unchecked, fmt.Sprintf(format, values...)) }
	switch {
	case size == 0:
		say("that the tail was not cut, nor an old checkpoint served as new: the log may have had more entries")
		say("that the log was not rewritten as a whole, with the database, and signed again by who has the key")
		say("that nobody was shown another log of the same size (a fork)")
		return
	case at.IsZero():
		say("that the log had no more entries after the saved checkpoint than it has here: a tail that was cut behind it, or a checkpoint that is old " +
			"but no older, does not show")
	case v.WitnessedSince.IsZero():
		say("that the tail was not cut, nor an old checkpoint served as new: the witnesses signed last at %s, and the log may have had more "+
			"entries since", at.Format(time.RFC3339))
	}
	switch {
	case size >= r.Checkpoint.Size:
	case at.IsZero():
		say("that the entries from %d on are the same for all, and always were: they came after the saved checkpoint", size)
	default:
		say("that the entries from %d on are the same for all: not enough witnesses have signed them yet", size)
	}
}
