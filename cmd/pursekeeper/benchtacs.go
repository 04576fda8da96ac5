package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// benchTACsCmd verifies a file of TACs on a throw-away development token, by the operation behind VerifyTacs: permission, key, MAC and
// durable record, a batch at a time.
type benchTACsCmd struct {
	Count     int    `help:"TACs to make." default:"1000000"`
	Algorithm string `help:"3DES, SM4, or both one after the other." enum:"3DES,SM4,both" default:"both"`
	Cards     int    `help:"Cards that made them, of each algorithm; 0 is one for each TAC."`
	Forge     int    `help:"TACs with a wrong bit among them." default:"1"`
	File      string `help:"The file of TACs; it is made if it is not there." type:"path" placeholder:"FILE"`
	JSON      bool   `help:"Print one JSON object instead of the table." name:"json"`
	Profile   string `help:"Write a CPU profile of the verification." type:"path" placeholder:"FILE"`
	Dir       string `help:"Where to make the throw-away signer; its disk is the one that is measured." type:"existingdir"`
}

// Validate refuses numbers that do not fit together.
func (c *benchTACsCmd) Validate() error {
	switch {
	case c.Count < 1:
		return fmt.Errorf("--count: %d, expected at least 1", c.Count)
	case c.Forge < 0 || c.Forge > c.Count:
		return fmt.Errorf("--forge: %d, expected 0 to --count", c.Forge)
	case c.Cards < 0:
		return fmt.Errorf("--cards: %d, expected at least 0", c.Cards)
	}
	return nil
}

// mostListed is how many TACs that were not verified are listed.
const mostListed = 100

// tacFigures are what one run measured.
type tacFigures struct {
	File        string     `json:"file"`
	TACs        int        `json:"tacs"`
	Runs        []*tacRun  `json:"runs"`
	PeakMiB     float64    `json:"peakMiB"` // VmHWM of the whole process
	NotVerified int        `json:"notVerified"`
	Listed      []badTAC   `json:"listed"` // the first of them, at most mostListed
	mu          sync.Mutex // guards all of it while batches run
}

// tacRun is a part of the file that is of one key set.
type tacRun struct {
	KeySet    string  `json:"keySet"`
	Boundary  string  `json:"boundary"`
	TACs      int     `json:"tacs"`
	PerSecond float64 `json:"perSecond"`
	CPUMicros float64 `json:"cpuMicros"` // processor time of one TAC, all cores together
}

// badTAC is a TAC that was not verified.
type badTAC struct {
	Line    int    `json:"line"`
	Outcome string `json:"outcome"`
}

// Run makes the file when it is not there, verifies it and prints.
func (c *benchTACsCmd) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp(c.Dir, "pursekeeper-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a throw-away folder
	path := cmp.Or(c.File, filepath.Join(dir, "tacs.csv"))
	forged, made, err := c.make(ctx, path)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	folder := devFolder{dir: filepath.Join(dir, "dev"), listen: "127.0.0.1:0", admin: "127.0.0.1:0", say: io.Discard}
	cfg, err := folder.prepare(ctx, "", log)
	if err != nil {
		return err
	}
	n, err := newNode(ctx, cfg, log)
	if err != nil {
		return err
	}
	figures, err := c.measure(ctx, n, path)
	if err = errors.Join(err, n.close()); err != nil {
		return err
	}
	if err := c.print(os.Stdout, figures); err != nil {
		return err
	}
	if made {
		return figures.check(c.Count, forged)
	}
	return nil
}

// make makes the file unless it is there.
func (c *benchTACsCmd) make(ctx context.Context, path string) (forged []int, made bool, err error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	deck := tacDeck{algorithms: []suite.Algorithm{suite.TDES, suite.SM4}, count: c.Count, cards: c.Cards, forge: c.Forge}
	if c.Algorithm != "both" {
		alg, err := suite.Parse(c.Algorithm)
		if err != nil {
			return nil, false, err
		}
		deck.algorithms = []suite.Algorithm{alg}
	}
	forged, err = deck.write(ctx, path)
	return forged, true, err
}

// measure verifies the whole file.
func (c *benchTACsCmd) measure(ctx context.Context, n *node, path string) (*tacFigures, error) {
	caller, err := n.signer.Identify(ctx, []string{platformIdentity})
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was read only
	reader, err := newTACReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	stop, err := profile(c.Profile)
	if err != nil {
		return nil, err
	}
	defer stop()
	figures := &tacFigures{File: path}
	if err := figures.verify(ctx, n.signer, caller, reader); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	figures.PeakMiB, err = peakMemory()
	return figures, err
}

// tacsInFlight is how many batches are verified at once, while one more is read: one waits for its record when the other computes.
const tacsInFlight = 2

// verify verifies all that reader has, run by run.
func (f *tacFigures) verify(ctx context.Context, s *signer.Signer, caller policy.Caller, reader *tacReader) error {
	next, err := reader.next(signer.MaxTACs)
	for err == nil {
		run := &tacRun{KeySet: next.keySet}
		f.Runs = append(f.Runs, run)
		begin, used := time.Now(), processCPU()
		places, failed := make(chan struct{}, tacsInFlight), make(chan error, 1)
		var group sync.WaitGroup
		for err == nil && next.keySet == run.KeySet && len(failed) == 0 {
			batch := next
			places <- struct{}{}
			group.Go(func() {
				defer func() { <-places }()
				if err := f.verifyBatch(ctx, s, caller, run, batch); err != nil {
					select {
					case failed <- err:
					default: // another was first
					}
				}
			})
			next, err = reader.next(signer.MaxTACs)
		}
		group.Wait()
		select {
		case failure := <-failed:
			return failure
		default:
		}
		run.PerSecond = float64(run.TACs) / time.Since(begin).Seconds()
		run.CPUMicros = float64((processCPU() - used).Microseconds()) / float64(run.TACs)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (f *tacFigures) verifyBatch(ctx context.Context, s *signer.Signer, caller policy.Caller, run *tacRun, batch tacBatch) error {
	answer, err := s.VerifyTacs(ctx, caller, batch.items)
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", batch.first, batch.first+len(batch.items)-1, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.TACs += len(batch.items)
	run.TACs += len(batch.items)
	if answer.Verified == len(batch.items) {
		run.Boundary = answer.Results[0].Key.Boundary
		return nil
	}
	for i, r := range answer.Results {
		if r.Err == nil && r.Outcome == ledger.Verified {
			run.Boundary = r.Key.Boundary
			continue
		}
		bad := badTAC{Line: batch.first + i, Outcome: string(r.Outcome)}
		if r.Err != nil {
			bad.Outcome = r.Err.Error()
		}
		f.NotVerified++
		f.Listed = append(f.Listed, bad)
	}
	slices.SortFunc(f.Listed, func(a, b badTAC) int { return cmp.Compare(a.Line, b.Line) })
	f.Listed = slices.Clone(f.Listed[:min(len(f.Listed), mostListed)])
	return nil
}

// errTACs says that the signer found other TACs forged than were.
var errTACs = errors.New("the signer did not find exactly the forged TACs")

// check compares what was found with what was made.
func (f *tacFigures) check(count int, forged []int) error {
	if f.TACs != count || f.NotVerified != len(forged) {
		return fmt.Errorf("%w: %d of %d, expected %d of %d", errTACs, f.NotVerified, f.TACs, len(forged), count)
	}
	for i, bad := range f.Listed {
		if bad.Line != forged[i] || bad.Outcome != string(ledger.TACMismatch) {
			return fmt.Errorf("%w: line %d %s, expected line %d", errTACs, bad.Line, bad.Outcome, forged[i])
		}
	}
	return nil
}

// peakMemory is the most that the process has had resident, in MiB.
func peakMemory() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, text, found := strings.Cut(string(status), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(text, &kib); !found || err != nil {
		return 0, errors.New("/proc/self/status: no VmHWM")
	}
	return kib / 1024, nil
}

func (c *benchTACsCmd) print(out io.Writer, f *tacFigures) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(f)
	}
	fmt.Fprintf(out, "purchase TACs from %s, in process, durable record\n\n", f.File)
	fmt.Fprintf(out, "%-20s %-8s %10s %9s %11s\n", "key set", "boundary", "TACs", "TACs/s", "cpu µs/TAC")
	for _, r := range f.Runs {
		fmt.Fprintf(out, "%-20s %-8s %10d %9.0f %11.2f\n", r.KeySet, r.Boundary, r.TACs, r.PerSecond, r.CPUMicros)
	}
	fmt.Fprintf(out, "\npeak memory %.0f MiB\nnot verified: %d of %d\n", f.PeakMiB, f.NotVerified, f.TACs)
	for _, bad := range f.Listed {
		fmt.Fprintf(out, "  line %d: %s\n", bad.Line, bad.Outcome)
	}
	if more := f.NotVerified - len(f.Listed); more > 0 {
		fmt.Fprintf(out, "  and %d more\n", more)
	}
	return nil
}
