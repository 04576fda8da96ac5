package verifier_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

const sealedEntries = 600 // two full bundles, and one of 88

var (
	middle = tiles.Bundle(1, 256)
	tail   = tiles.Bundle(2, 88)
)

// attack is one way to damage a log on disk, and what the verifier must say of it.
type attack struct {
	name string
	// do makes the damage; what it returns is the saved checkpoint that the auditor kept, nil for the one before the damage.
	do    func(l *logged)
	kind  verifier.Kind // named without a saved checkpoint; "" where that cannot be seen
	saved verifier.Kind // named with one
	words string        // in the finding
}

func flip(s []byte, old, new string) []byte { return bytes.Replace(s, []byte(old), []byte(new), 1) }

var attacks = []attack{
	{name: "flip a bit of an entry", kind: verifier.Changed, saved: verifier.Changed, words: "tile/entries/001: entry 261 ", do: func(l *logged) {
		entries := l.entries(middle)
		entries[5][len(entries[5])-4] ^= 1
		l.write(middle, entries)
	}},
	{name: "change an entry", kind: verifier.Changed, saved: verifier.Changed, words: "entry 599 ", do: func(l *logged) {
		entries := l.entries(tail)
		entries[87] = flip(entries[87], "APPROVED", "REFUSED")
		l.write(tail, entries)
	}},
	{name: "delete an entry", kind: verifier.Deleted, saved: verifier.Deleted, words: "tile/entries/001: 1 entries were deleted from entry 300 on",
		do: func(l *logged) {
			l.write(middle, slices.Delete(l.entries(middle), 44, 45))
		}},
	{name: "delete an entry and move all after it", kind: verifier.Deleted, saved: verifier.Deleted, words: "entry 10 was deleted",
		do: func(l *logged) {
			first := slices.Delete(l.entries(tiles.Bundle(0, 256)), 10, 11)
			second, third := l.entries(middle), l.entries(tail)
			l.write(tiles.Bundle(0, 256), append(first, second[0]))
			l.write(middle, append(second[1:], third[0]))
			l.write(tail, third[1:])
		}},
	{name: "insert an entry", kind: verifier.Inserted, saved: verifier.Inserted, words: "tile/entries/001: 1 entries were inserted before entry 300",
		do: func(l *logged) {
			entries := l.entries(middle)
			l.write(middle, slices.Insert(entries, 44, flip(bytes.Clone(entries[3]), "APPROVED", "REFUSED")))
		}},
	{name: "insert an entry and move all after it", kind: verifier.Inserted, saved: verifier.Inserted, words: "in the place of entry 300",
		do: func(l *logged) {
			entries := l.entries(middle)
			l.write(middle, slices.Insert(entries, 44, flip(bytes.Clone(entries[3]), "APPROVED", "REFUSED"))[:256])
		}},
	{name: "reorder entries", kind: verifier.Reordered, saved: verifier.Reordered, words: "tile/entries/002.p/88: entries were put in another order, the first is entry 515",
		do: func(l *logged) {
			entries := l.entries(tail)
			entries[3], entries[70] = entries[70], entries[3]
			l.write(tail, entries)
		}},
	{name: "replace an entry and its leaf hash", kind: verifier.TileChanged, saved: verifier.TileChanged, words: "tile/0/001 has the root",
		do: func(l *logged) {
			entries := l.entries(middle)
			entries[5] = flip(entries[5], "APPROVED", "REFUSED")
			l.write(middle, entries)
			l.rehash(middle)
		}},
	{name: "replace an entry of the tail and its leaf hash", kind: verifier.WrongRoot, saved: verifier.WrongRoot, words: "the checkpoint of size 600 says",
		do: func(l *logged) {
			entries := l.entries(tail)
			entries[5] = flip(entries[5], "APPROVED", "REFUSED")
			l.write(tail, entries)
			l.rehash(tail)
		}},
	{name: "reorder whole bundles with their tiles", kind: verifier.TileChanged, saved: verifier.TileChanged, words: "tile/0/000", do: func(l *logged) {
		a, b := l.entries(tiles.Bundle(0, 256)), l.entries(middle)
		l.write(tiles.Bundle(0, 256), b)
		l.write(middle, a)
		l.rehash(tiles.Bundle(0, 256))
		l.rehash(middle)
	}},
	{name: "take a tile away", kind: verifier.Missing, saved: verifier.Missing, words: "tile/0/001 is missing: entries 256 to 511", do: func(l *logged) {
		require.NoError(l, os.Remove(l.place(tiles.Tile{Index: 1, Width: 256})))
	}},
	{name: "take a tile of tiles away", kind: verifier.Missing, saved: verifier.Missing, words: "tile/1/000.p/2 is missing: entries 0 to 511",
		do: func(l *logged) {
			require.NoError(l, os.Remove(l.place(tiles.Tile{Level: 1, Width: 2})))
		}},
	{name: "take a bundle away", kind: verifier.Missing, saved: verifier.Missing, words: "tile/entries/001 is missing", do: func(l *logged) {
		require.NoError(l, os.Remove(l.place(middle)))
	}},
	{name: "cut the tail off", kind: verifier.Missing, saved: verifier.Missing, words: "tile/0/002.p/88 is missing: entries 512 to 599", do: func(l *logged) {
		require.NoError(l, os.Remove(l.place(tail)))
		require.NoError(l, os.Remove(l.place(tiles.Tile{Index: 2, Width: 88})))
	}},
	{name: "cut a file short", kind: verifier.Malformed, saved: verifier.Malformed, words: "ends within an entry", do: func(l *logged) {
		require.NoError(l, os.Truncate(l.place(middle), 1000))
	}},
	{name: "serve a bundle without an end", kind: verifier.Malformed, saved: verifier.Malformed, words: "tile/entries/001 is larger than such a file may be",
		do: func(l *logged) { require.NoError(l, os.Truncate(l.place(middle), 1<<40)) }},
	{name: "serve a tile without an end", kind: verifier.Malformed, saved: verifier.Malformed, words: "tile/0/001 is larger than such a file may be",
		do: func(l *logged) { require.NoError(l, os.Truncate(l.place(tiles.Tile{Index: 1, Width: 256}), 1<<40)) }},
	{name: "cut the tail off and serve the old checkpoint", saved: verifier.CutOrOld, words: "the log has 300 entries, the saved checkpoint 600",
		do: func(l *logged) {
			old := l.copy(l.T)
			old.folder = tiles.Folder(l.TempDir())
			old.db = &database{lines: old.db.lines[:300]}
			old.seal()
			*l = *old
		}},
	{name: "rewrite the log with the database and sign it again", saved: verifier.Rewritten, words: "rewritten before entry 600",
		do: func(l *logged) { l.rewrite(700, 17) }},
	{name: "two checkpoints of one size", saved: verifier.Fork, words: "two checkpoints of size 600",
		do: func(l *logged) { l.rewrite(600, 17) }},
	{name: "sign it by another key", kind: verifier.OtherKey, saved: verifier.OtherKey, words: "not signed by the log's key", do: func(l *logged) {
		key := l.key
		l.signer, l.key = newKey(l, key.Name())
		l.rewrite(600, 17)
		l.key = key
	}},
	{name: "another root under the old signature", kind: verifier.OtherKey, saved: verifier.OtherKey, words: "its signature is wrong", do: func(l *logged) {
		signed := strings.Replace(string(l.checkpoint()), "\n600\n", "\n500\n", 1)
		require.NoError(l, os.WriteFile(string(l.folder)+"/checkpoint", []byte(signed), 0o644))
	}},
	{name: "take the checkpoint away", kind: verifier.NoCheckpoint, saved: verifier.NoCheckpoint, words: "no checkpoint", do: func(l *logged) {
		require.NoError(l, os.Remove(string(l.folder)+"/checkpoint"))
	}},
	{name: "set the clock back", kind: verifier.ClockBack, saved: verifier.ClockBack, words: "entry 605 is dated", do: func(l *logged) {
		l.db.add(l, 10)
		for i := 605; i < 610; i++ {
			e := l.db.entry(l, i)
			e.Time = e.Time.Add(-time.Hour)
			l.db.set(l, i, e)
		}
		l.seal()
	}},
	{name: "write an entry another way before it is sealed", kind: verifier.Form, saved: verifier.Form, words: "entry 600: audit entry: not the canonical encoding",
		do: func(l *logged) {
			l.db.add(l, 1)
			l.db.lines[600] = flip(l.db.lines[600], `"v":1,`, `"v": 1,`)
			l.seal()
		}},
}

// rewrite makes the log anew of n entries, one of which is another, and signs it: an attacker who has the database, the tiles and the
// use of the key.
func (l *logged) rewrite(n, index int) {
	l.Helper()
	l.folder = tiles.Folder(l.TempDir())
	l.db = &database{}
	l.db.add(l, n)
	e := l.db.entry(l, index)
	e.Outcome = "REFUSED"
	l.db.set(l, index, e)
	l.seal()
}

func TestAttacks(t *testing.T) {
	whole := newLog(t, sealedEntries)
	before := whole.checkpoint()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			l := whole.copy(t)
			a.do(l)
			without := l.verify(nil)
			if a.kind == "" {
				assert.True(t, without.Held(), "%v", without.Findings)
			} else {
				named(t, without, a.kind, a.words)
			}
			if l.key == whole.key && a.kind != verifier.OtherKey && a.kind != verifier.NoCheckpoint {
				assert.Len(t, without.Unchecked, 3, "it says what it cannot know")
			}
			with := l.verify(before)
			named(t, with, a.saved, a.words)
			if a.kind == "" {
				assert.Len(t, with.Findings, 1)
			}
			if with.Saved != nil {
				assert.Contains(t, strings.Join(with.Unchecked, "\n"), "after the saved checkpoint", "it says what it cannot know")
			}
		})
	}
}

func named(t *testing.T, r *verifier.Report, kind verifier.Kind, words string) {
	t.Helper()
	require.False(t, r.Held())
	assert.Equal(t, kind, r.Findings[0].Kind, "%v", r.Findings)
	assert.Contains(t, r.Findings[0].Text, words)
}

// One damage is named once, at its place, in a log of whole tiles.
func TestOneDamageIsOneFinding(t *testing.T) {
	whole := newLog(t, 65536+256+1)
	for name, do := range map[string]func(l *logged){
		"entry": func(l *logged) {
			entries := l.entries(tiles.Bundle(77, 256))
			entries[9] = flip(entries[9], "APPROVED", "REFUSED")
			l.write(tiles.Bundle(77, 256), entries)
		},
		"entry and hash": func(l *logged) {
			entries := l.entries(tiles.Bundle(77, 256))
			entries[9] = flip(entries[9], "APPROVED", "REFUSED")
			l.write(tiles.Bundle(77, 256), entries)
			l.rehash(tiles.Bundle(77, 256))
		},
		"hash of a tile": func(l *logged) {
			tile := tiles.Tile{Level: 1, Width: 256}
			hashes, err := l.folder.Hashes(tile)
			require.NoError(l, err)
			hashes[77][0] ^= 1
			l.overwrite(tile, tiles.Join(hashes))
		},
		"tile of tiles": func(l *logged) { require.NoError(l, os.Remove(l.place(tiles.Tile{Level: 1, Width: 256}))) },
	} {
		t.Run(name, func(t *testing.T) {
			l := whole.copy(t)
			do(l)
			report := l.verify(l.checkpoint())
			require.NotEmpty(t, report.Findings)
			if name != "hash of a tile" { // it is wrong to the tile below it and to the one above
				require.Len(t, report.Findings, 1, "%v", report.Findings)
			}
			text := report.Findings[0].Text
			assert.True(t, strings.Contains(text, "077") || strings.Contains(text, "tile/1/000"), text)
		})
	}
	report := whole.verify(whole.checkpoint())
	assert.True(t, report.Held(), "%v", report.Findings)
	assert.EqualValues(t, 65536+257, report.Entries)
}

// A log that grows verifies at every size against every checkpoint that was saved before.
func TestAnHonestLogHolds(t *testing.T) {
	l := newLog(t, 1)
	saved := [][]byte{l.checkpoint()}
	for _, size := range []int{2, 255, 256, 257, 511, 512, 700} {
		l.db.add(t, size-len(l.db.lines))
		l.seal()
		saved = append(saved, l.checkpoint())
		for _, s := range saved {
			report := l.verify(s)
			require.True(t, report.Held(), "%d: %v", size, report.Findings)
			assert.EqualValues(t, size, report.Entries)
		}
	}
	report := l.verify(nil)
	assert.True(t, report.Held())
	assert.Contains(t, strings.Join(report.Unchecked, "\n"), "tail was not cut")
	assert.NotZero(t, report.Tiles)
}

// A saved checkpoint shows nothing of what came after it, and the report says so.
func TestWhatASavedCheckpointDoesNotShow(t *testing.T) {
	l := newLog(t, 300)
	saved := l.checkpoint()
	for name, entries := range map[string]int{"the same size": 0, "longer": 50} {
		t.Run(name, func(t *testing.T) {
			l := l.copy(t)
			if entries > 0 {
				l.db.add(t, entries)
				l.seal()
			}
			report := l.verify(saved)
			require.True(t, report.Held(), "%v", report.Findings)
			unchecked := strings.Join(report.Unchecked, "\n")
			assert.Contains(t, unchecked, "no more entries after the saved checkpoint than it has here")
			if entries > 0 {
				assert.Contains(t, unchecked, "the entries from 300 on are the same for all")
			} else {
				assert.NotContains(t, unchecked, "the same for all")
			}
			assert.NotContains(t, unchecked, "rewritten as a whole")
		})
	}
	// One of no entry shows nothing at all.
	none, err := tiles.Checkpoint{Origin: l.key.Name(), Root: tiles.RootOf(nil)}.Sign(l.signer)
	require.NoError(t, err)
	report := l.verify([]byte(none))
	require.True(t, report.Held(), "%v", report.Findings)
	assert.Len(t, report.Unchecked, 3)
}

// A step of the clock that the auditor knows of is no finding; another one still is.
func TestAKnownStepOfTheClock(t *testing.T) {
	l := newLog(t, 10)
	for _, i := range []int{10, 12} {
		l.db.add(t, 2)
		e := l.db.entry(t, i)
		e.Time = e.Time.Add(-time.Hour)
		l.db.set(t, i, e)
	}
	l.db.add(t, 1)
	l.seal()
	report, err := verifier.Verify(t.Context(), verifier.Config{Folder: l.folder, Key: l.key, KnownClock: []uint64{10}})
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	assert.Contains(t, report.Findings[0].Text, "entry 12 ")
}

func TestProofs(t *testing.T) {
	l := newLog(t, sealedEntries)
	for _, index := range []uint64{0, 255, 256, 511, 512, 599} {
		p, err := verifier.Prove(l.folder, l.key, index)
		require.NoError(t, err)
		text := p.String()
		assert.True(t, strings.HasPrefix(text, "c2sp.org/tlog-proof@v1\nextra "))
		back, err := verifier.ParseProof(text)
		require.NoError(t, err)
		assert.Equal(t, p, back)
		e, c, err := back.Check(l.key)
		require.NoError(t, err)
		assert.EqualValues(t, 600, c.Size)
		assert.Equal(t, l.db.entry(t, int(index)), e)

		// Any other byte of the file is another proof, or none.
		_, other := newKey(t, l.key.Name())
		_, _, err = back.Check(other)
		require.ErrorIs(t, err, tiles.ErrOtherKey)
		for at := 0; at < len(text); at += 1 + len(text)/60 {
			changed := []byte(text)
			changed[at] ^= 1
			p, err := verifier.ParseProof(string(changed))
			if err != nil {
				continue
			}
			_, _, err = p.Check(l.key)
			require.Error(t, err, "byte %d of %q", at, text)
		}
	}
	_, err := verifier.Prove(l.folder, l.key, 600)
	require.ErrorContains(t, err, "entry 600 is not sealed")
	require.NoError(t, os.Remove(l.place(tiles.Tile{Level: 1, Width: 2})))
	_, err = verifier.Prove(l.folder, l.key, 3)
	require.Error(t, err)
}

// A proof of an entry that is another's place, or of an entry that means the same and is written otherwise, does not hold.
func TestAProofIsOfOneEntryAtOnePlace(t *testing.T) {
	l := newLog(t, sealedEntries)
	p, err := verifier.Prove(l.folder, l.key, 7)
	require.NoError(t, err)
	moved := *p
	moved.Index = 8
	_, _, err = moved.Check(l.key)
	require.Error(t, err)
	other := *p
	other.Entry = flip(bytes.Clone(p.Entry), "APPROVED", "REFUSED")
	_, _, err = other.Check(l.key)
	require.Error(t, err)
	signed, err := note.Sign(&note.Note{Text: tiles.Checkpoint{Origin: l.key.Name(), Size: 600, Root: [32]byte{1}}.Text()}, l.signer)
	require.NoError(t, err)
	other = *p
	other.Checkpoint = string(signed)
	_, _, err = other.Check(l.key)
	require.Error(t, err)
}

func FuzzParseProof(f *testing.F) {
	f.Add("c2sp.org/tlog-proof@v1\nextra e30=\nindex 0\n\nlog\n1\nAAAA\n\n— log AAAA\n")
	f.Add("c2sp.org/tlog-proof@v1\nextra \nindex 1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := verifier.ParseProof(text); err == nil {
			assert.Equal(t, text, p.String())
		}
	})
}
