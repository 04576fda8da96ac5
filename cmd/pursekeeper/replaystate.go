package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

// replayed is what a replay was asked for; a state goes on with the same alone.
type replayed struct {
	Server string `json:"server"`
	From   string `json:"from"`
	To     string `json:"to"`
}

func replayOf(c *auditReplayCmd) replayed {
	return replayed{Server: c.Server, From: c.From.String(), To: c.To.String()}
}

// String is the place as its flag has it; "" is none.
func (p recordPlace) String() string {
	switch {
	case !p.at.IsZero():
		return p.at.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
	case p.index == 0:
		return ""
	}
	return fmt.Sprint(p.index)
}

// replayState is where a replay is, and what it found so far. It is one JSON object; a field that it does not know is an error.
type replayState struct {
	replayed
	Next          uint64            `json:"next"` // index to go on from
	Sealed        uint64            `json:"sealed"`
	End           uint64            `json:"end"` // what was sealed when it began; 0: it did not yet
	Done          bool              `json:"done"`
	Equal         uint64            `json:"equal"`
	Different     uint64            `json:"different"`
	NoMAC         uint64            `json:"noMac"`
	NotReplayable map[string]uint64 `json:"notReplayable"` // by reason
	KeyGone       map[string]uint64 `json:"keyGone"`       // by key
	Differences   []difference      `json:"differences"`   // the first of them

	file string // "": kept nowhere
}

// difference is one entry that differs, as the record has it. What the keys make in its place is not known here.
type difference struct {
	Index       uint64 `json:"index"`
	What        string `json:"what"`
	Event       string `json:"event"`
	Outcome     string `json:"outcome"`
	Transaction string `json:"transaction"`
}

// mostDifferences bounds those that are kept; all are counted.
const mostDifferences = 10_000

// openReplayState reads a state, or begins one.
func openReplayState(file string, asked replayed) (*replayState, error) {
	s := &replayState{replayed: asked, NotReplayable: map[string]uint64{}, KeyGone: map[string]uint64{}, file: file}
	if from := new(recordPlace); asked.From != "" {
		if err := from.UnmarshalText([]byte(asked.From)); err != nil {
			return nil, err
		}
		s.Next = from.index
	}
	if file == "" {
		return s, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	had := &replayState{file: file}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(had); err != nil {
		return nil, fmt.Errorf("state %s: %w", file, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("state %s: something is behind it", file)
	}
	switch {
	case had.replayed != asked:
		return nil, fmt.Errorf("state %s is of a replay from %q to %q at %s: another one needs another file", file, had.From, had.To, had.Server)
	case had.NotReplayable == nil || had.KeyGone == nil || had.Next < s.Next:
		return nil, fmt.Errorf("state %s: not written as states are", file)
	}
	return had, nil
}

// take adds an answer, and keeps the state where it outlives the process.
func (s *replayState) take(answer *v1.ReplayResponse) error {
	if answer.Next < s.Next || answer.Next == s.Next && !answer.Done {
		return fmt.Errorf("the signer goes on from entry %d after entry %d", answer.Next, s.Next)
	}
	for _, r := range answer.Results {
		switch r.Verdict {
		case v1.ReplayVerdict_REPLAY_VERDICT_EQUAL:
			s.Equal++
		case v1.ReplayVerdict_REPLAY_VERDICT_NO_MAC:
			s.NoMAC++
		case v1.ReplayVerdict_REPLAY_VERDICT_NOT_REPLAYABLE:
			s.NotReplayable[r.Reason]++
		case v1.ReplayVerdict_REPLAY_VERDICT_KEY_GONE:
			s.KeyGone[r.Reason]++
		case v1.ReplayVerdict_REPLAY_VERDICT_DIFFERENT:
			s.Different++
			if len(s.Differences) < mostDifferences {
				s.Differences = append(s.Differences, difference{r.Index, r.Reason, r.Event, r.Outcome, r.TransactionId})
			}
		default:
			return fmt.Errorf("entry %d: the signer answers the verdict %v, which this program does not know", r.Index, r.Verdict)
		}
	}
	s.Next, s.Done, s.Sealed = answer.Next, answer.Done, answer.Sealed
	if s.End == 0 {
		s.End = answer.Sealed
	}
	return s.keep()
}

// keep keeps the state: whenever the process dies, a whole one is there.
func (s *replayState) keep() error {
	if s.file == "" {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(s.file, append(text, '\n'), 0o600)
}

// replaceFile writes a file beside its place and renames it, durably: whatever dies, the old one is there, or the whole new one.
func replaceFile(name string, text []byte, mode fs.FileMode) error {
	next, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (s *replayState) print(out io.Writer) {
	for _, d := range s.Differences {
		fmt.Fprintf(out, "DIFFERENT        entry %d: %s\n", d.Index, printable(d.String()))
	}
	if more := s.Different - uint64(len(s.Differences)); more > 0 {
		fmt.Fprintf(out, "DIFFERENT        and %s more\n", entries(more))
	}
	fmt.Fprintf(out, "equal            %s\n", entries(s.Equal))
	fmt.Fprintf(out, "different        %s\n", entries(s.Different))
	for _, reason := range slices.Sorted(maps.Keys(s.NotReplayable)) {
		fmt.Fprintf(out, "not replayable   %s: %s\n", entries(s.NotReplayable[reason]), notReplayable(reason))
	}
	for _, key := range slices.Sorted(maps.Keys(s.KeyGone)) {
		fmt.Fprintf(out, "key gone         %s: %s\n", entries(s.KeyGone[key]), printable(key))
	}
	fmt.Fprintf(out, "no MAC           %s\n", entries(s.NoMAC))
}

// String is what was recorded, and in what the keys say otherwise.
func (d difference) String() string {
	if d.Event == "" {
		return "it is not the entry that was sealed"
	}
	text := fmt.Sprintf("%s is recorded as %s", d.Event, d.Outcome)
	if d.Transaction != "" {
		text += ", " + d.Transaction
	}
	return fmt.Sprintf("%s: %s differs", text, d.What)
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// notReplayable is a reason in words.
func notReplayable(reason string) string {
	words := map[string]string{
		"PIN":            "the command carries a PIN, which is not recorded",
		"KEY_WRITE":      "the command is a card's key, which is not recorded",
		"READER_SESSION": "the proofs are of a reader's session",
		"READER_FRAME":   "a frame's data is not recorded",
		"BATCH":          "of a batch the verified items are in its digest alone",
		"CARD_LOCKED":    "the card was locked, and the record does not say what its MAC was",
		"SETTLEMENT":     "the settlement was over, and the record does not say what the card's MAC was",
		"NO_MORE_VALUES": "after five wrong values no more is taken, right or wrong",
		"KEY_SUSPENDED":  "the key may not verify in its state",
		"KEY_SET":        "a key set that you may not use, or that the signer does not have",
		"EVENT":          "an event of another version of the signer",
	}
	if text, ok := words[reason]; ok {
		return text
	}
	return printable(reason)
}
