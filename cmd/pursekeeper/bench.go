package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/internal/config"
)

// benchCmd measures.
type benchCmd struct {
	Load benchLoadCmd `cmd:"" help:"AuthorizeLoad beside the bare PKCS#11 loop that makes the same calls, in one run."`
	TACs benchTACsCmd `cmd:"" name:"tacs" help:"Verify a file of purchase TACs, a million by default, and find the forged ones."`
}

// benchLoadCmd measures a load five ways on a throw-away development token: the bare PKCS#11 loop, the signer in process, sealed and not,
// and the signer over mTLS with its client on the same machine, request by request and over Transact. All but the unsealed take turns: the
// speed of a machine that others use too changes from second to second, and a ratio of rates that were measured one after the other with it.
type benchLoadCmd struct {
	Callers int           `help:"Concurrent callers." default:"64"`
	For     time.Duration `help:"How long each measurement runs, over all rounds." default:"5s"`
	Rounds  int           `help:"Rounds; in each, all measurements take turns." default:"5"`
	JSON    bool          `help:"Print one JSON object instead of the table." name:"json"`
	Profile string        `help:"Measure once more in process, and write a CPU profile of it." type:"path" placeholder:"FILE"`
	Dir     string        `help:"Where to make the throw-away signer; its disk is the one that is measured." type:"existingdir"`
}

// Validate refuses what would measure nothing, for ever.
func (c *benchLoadCmd) Validate() error {
	switch {
	case c.Callers < 1:
		return fmt.Errorf("--callers: %d, expected at least 1", c.Callers)
	case c.Rounds < 1:
		return fmt.Errorf("--rounds: %d, expected at least 1", c.Rounds)
	case c.For/time.Duration(c.Rounds) < time.Millisecond:
		return fmt.Errorf("--for: %v, expected at least %v a round", c.For, time.Millisecond)
	}
	return nil
}

// loadFigures are what one run measured.
type loadFigures struct {
	Callers           int     `json:"callers"`
	Rounds            int     `json:"rounds"`
	BareLoopPerSecond float64 `json:"bareLoopPerSecond"`
	BareLoopThreads   int     `json:"bareLoopThreads"`
	InProcess         figures `json:"inProcess"`
	Unsealed          figures `json:"unsealed"`
	MTLS              figures `json:"mtls"`
	Stream            figures `json:"stream"`
	LoadsPerCommit    float64 `json:"loadsPerCommit"`
}

// figures are of one way to the signer.
type figures struct {
	PerSecond float64 `json:"perSecond"`
	Ratio     float64 `json:"ratio"` // to the bare loop
	P50Millis float64 `json:"p50Millis"`
	P99Millis float64 `json:"p99Millis"`
	CPUMicros float64 `json:"cpuMicros"` // of one load, all processors together
}

// Run measures and prints.
func (c *benchLoadCmd) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp(c.Dir, "pursekeeper-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a throw-away folder
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	folder := devFolder{dir: dir, listen: "127.0.0.1:0", admin: "127.0.0.1:0", say: io.Discard}
	cfg, err := folder.prepare(ctx, "", log)
	if err != nil {
		return err
	}
	figures, err := c.measure(ctx, cfg, folder, log)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(figures)
	}
	figures.print(os.Stdout)
	return nil
}

func (c *benchLoadCmd) measure(ctx context.Context, cfg *config.Config, folder devFolder, log *slog.Logger) (f loadFigures, err error) {
	n, err := newNode(ctx, cfg, log)
	if err != nil {
		return f, err
	}
	defer func() {
		if closed := n.close(); err == nil {
			err = closed
		}
	}()
	b := &loadBench{node: n, callers: c.Callers, length: c.For / time.Duration(c.Rounds)}
	if b.deck, err = newDeck(); err != nil {
		return f, err
	}
	if b.bare, err = newBareCourse(ctx, cfg, n.token); err != nil {
		return f, err
	}
	end, err := b.serve(ctx, folder)
	if err != nil {
		return f, err
	}
	defer end()
	for range c.Rounds {
		if err := b.round(ctx); err != nil {
			return f, err
		}
	}
	if err := b.last(ctx, c.For, c.Profile); err != nil {
		return f, err
	}
	f = b.figures()
	f.Callers, f.Rounds = c.Callers, c.Rounds
	return f, nil
}

func (f loadFigures) print(out io.Writer) {
	fmt.Fprintf(out, "load, 3DES, TOKEN, durable record, %d callers, %d rounds\n\n", f.Callers, f.Rounds)
	fmt.Fprintf(out, "%-31s %8s %7s %8s %8s %11s\n", "", "loads/s", "ratio", "p50 ms", "p99 ms", "cpu µs/load")
	bare := fmt.Sprintf("bare PKCS#11 loop, %d threads", f.BareLoopThreads)
	fmt.Fprintf(out, "%-31s %8.0f %7s\n", bare, f.BareLoopPerSecond, "1.00")
	row := func(name string, m figures) {
		fmt.Fprintf(out, "%-31s %8.0f %7.2f %8.2f %8.2f %11.0f\n", name, m.PerSecond, m.Ratio, m.P50Millis, m.P99Millis, m.CPUMicros)
	}
	row("AuthorizeLoad in process", f.InProcess)
	row("the same, not sealed", f.Unsealed)
	row("AuthorizeLoad over mTLS, unary", f.MTLS)
	row("AuthorizeLoad over Transact", f.Stream)
	fmt.Fprintf(out, "\n%.1f loads in one commit\n", f.LoadsPerCommit)
}
