package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/rpc"
)

// benchCmd measures.
type benchCmd struct {
	Load benchLoadCmd `cmd:"" help:"AuthorizeLoad beside the bare PKCS#11 loop that makes the same calls, in one run."`
	TACs benchTACsCmd `cmd:"" name:"tacs" help:"Verify a file of purchase TACs, a million by default, and find the forged ones."`
}

// benchLoadCmd measures a load four ways on a throw-away development token: the bare PKCS#11 loop, the signer in process,
// and the signer over mTLS with its client on the same machine, request by request and over Transact.
type benchLoadCmd struct {
	Callers int           `help:"Concurrent callers." default:"64"`
	For     time.Duration `help:"How long each measurement runs." default:"5s"`
	JSON    bool          `help:"Print one JSON object instead of the table." name:"json"`
	Profile string        `help:"Write a CPU profile of the measurement in process." type:"path" placeholder:"FILE"`
	Dir     string        `help:"Where to make the throw-away signer; its disk is the one that is measured." type:"existingdir"`
}

// Validate refuses what would measure nothing, for ever.
func (c *benchLoadCmd) Validate() error {
	switch {
	case c.Callers < 1:
		return fmt.Errorf("--callers: %d, expected at least 1", c.Callers)
	case c.For < time.Millisecond:
		return fmt.Errorf("--for: %v, expected at least %v", c.For, time.Millisecond)
	}
	return nil
}

// loadFigures are what one run measured.
type loadFigures struct {
	Callers            int     `json:"callers"`
	BareLoopPerSecond  float64 `json:"bareLoopPerSecond"`
	BareLoopThreads    int     `json:"bareLoopThreads"`
	InProcessPerSecond float64 `json:"inProcessPerSecond"`
	InProcessRatio     float64 `json:"inProcessRatio"`
	InProcessP50Millis float64 `json:"inProcessP50Millis"`
	InProcessP99Millis float64 `json:"inProcessP99Millis"`
	InProcessCPUMicros float64 `json:"inProcessCPUMicros"`
	UnsealedPerSecond  float64 `json:"unsealedPerSecond"`
	UnsealedRatio      float64 `json:"unsealedRatio"`
	UnsealedP50Millis  float64 `json:"unsealedP50Millis"`
	UnsealedP99Millis  float64 `json:"unsealedP99Millis"`
	UnsealedCPUMicros  float64 `json:"unsealedCPUMicros"`
	MTLSPerSecond      float64 `json:"mtlsPerSecond"`
	MTLSRatio          float64 `json:"mtlsRatio"`
	MTLSP50Millis      float64 `json:"mtlsP50Millis"`
	MTLSP99Millis      float64 `json:"mtlsP99Millis"`
	MTLSCPUMicros      float64 `json:"mtlsCPUMicros"`
	StreamPerSecond    float64 `json:"streamPerSecond"`
	StreamRatio        float64 `json:"streamRatio"`
	StreamP50Millis    float64 `json:"streamP50Millis"`
	StreamP99Millis    float64 `json:"streamP99Millis"`
	StreamCPUMicros    float64 `json:"streamCPUMicros"`
	LoadsPerCommit     float64 `json:"loadsPerCommit"`
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
	f.Callers = c.Callers
	if err := f.bare(ctx, cfg, c.For, log); err != nil {
		return f, err
	}
	n, err := newNode(ctx, cfg, log)
	if err != nil {
		return f, err
	}
	defer func() {
		if closed := n.close(); err == nil {
			err = closed
		}
	}()
	deck, err := newDeck()
	if err != nil {
		return f, err
	}
	if err := c.inProcess(ctx, n, deck, &f); err != nil {
		return f, err
	}
	n.endSealing()
	if err := c.unsealed(ctx, n, deck, &f); err != nil {
		return f, err
	}
	n.seal(ctx)
	return f, c.overMTLS(ctx, n, deck, folder, &f)
}

// bare measures the loop that makes the same PKCS#11 calls and nothing else, and keeps the best of one to four threads.
func (f *loadFigures) bare(ctx context.Context, cfg *config.Config, length time.Duration, log *slog.Logger) error {
	c, spec, path, err := bareConfig(cfg, log)
	if err != nil {
		return err
	}
	const probe = 2000
	for threads := 1; threads <= 4; threads++ {
		rate, err := hsm.BareLoad(ctx, c, spec.Label, path, probe, threads)
		if err != nil {
			return err
		}
		n := int(rate * length.Seconds() / 4)
		if rate, err = hsm.BareLoad(ctx, c, spec.Label, path, max(n, probe), threads); err != nil {
			return err
		}
		if rate > f.BareLoopPerSecond {
			f.BareLoopPerSecond, f.BareLoopThreads = rate, threads
		}
	}
	return nil
}

// inProcess measures the signer's own operation: permission, token, durable record, and the sealer beside it.
func (c *benchLoadCmd) inProcess(ctx context.Context, n *node, deck *deck, f *loadFigures) error {
	stop, err := profile(c.Profile)
	if err != nil {
		return err
	}
	defer stop()
	before := n.store.Stats().Groups.Load()
	run, err := c.authorize(ctx, n, deck)
	if err != nil {
		return err
	}
	f.InProcessPerSecond = run.perSecond()
	f.InProcessRatio = f.InProcessPerSecond / f.BareLoopPerSecond
	f.InProcessP50Millis, f.InProcessP99Millis, f.InProcessCPUMicros = run.millis(50), run.millis(99), run.cpuMicros()
	f.LoadsPerCommit = float64(run.count()) / float64(n.store.Stats().Groups.Load()-before)
	return nil
}

// unsealed measures the same while nothing is sealed: what the sealer costs is the difference.
func (c *benchLoadCmd) unsealed(ctx context.Context, n *node, deck *deck, f *loadFigures) error {
	run, err := c.authorize(ctx, n, deck)
	if err != nil {
		return err
	}
	f.UnsealedPerSecond = run.perSecond()
	f.UnsealedRatio = f.UnsealedPerSecond / f.BareLoopPerSecond
	f.UnsealedP50Millis, f.UnsealedP99Millis, f.UnsealedCPUMicros = run.millis(50), run.millis(99), run.cpuMicros()
	return nil
}

func (c *benchLoadCmd) authorize(ctx context.Context, n *node, deck *deck) (lap, error) {
	caller, err := n.signer.Identify(ctx, []string{platformIdentity})
	if err != nil {
		return lap{}, err
	}
	return deck.run(ctx, c.Callers, c.For, func(ctx context.Context, r signer.LoadRequest) (string, error) {
		a, err := n.signer.AuthorizeLoad(ctx, caller, r)
		return string(a.Outcome), err
	})
}

// overMTLS measures the same over gRPC, TLS 1.3 and client certificates, with the client in this process.
func (c *benchLoadCmd) overMTLS(ctx context.Context, n *node, deck *deck, folder devFolder, f *loadFigures) error {
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := rpc.NewHandler(rpc.Config{
		Signer: n.signer, Peers: n.peers, Metrics: n.metrics, Log: n.log, Timeout: n.config.RequestTimeout,
		Admission: n.shares,
	})
	server := rpc.NewServer(handler, n.log)
	go func() { _ = server.ServeTLS(public, "", "") }()
	defer server.Close() //nolint:errcheck // the end of a measurement

	clients, err := benchClients(c.Callers, clientFlags{Server: "https://" + public.Addr().String(), TLS: folder.path("tls"), As: "platform"})
	if err != nil {
		return err
	}
	run, err := deck.run(ctx, c.Callers, c.For, clients.authorize)
	if err != nil {
		return err
	}
	f.MTLSPerSecond = run.perSecond()
	f.MTLSRatio = f.MTLSPerSecond / f.BareLoopPerSecond
	f.MTLSP50Millis, f.MTLSP99Millis, f.MTLSCPUMicros = run.millis(50), run.millis(99), run.cpuMicros()

	ctx, cancel := context.WithCancel(ctx) // ends the streams
	defer cancel()
	streams, err := openPipes(ctx, clients)
	if err != nil {
		return err
	}
	if run, err = deck.run(ctx, c.Callers, c.For, streams.authorize); err != nil {
		return err
	}
	f.StreamPerSecond = run.perSecond()
	f.StreamRatio = f.StreamPerSecond / f.BareLoopPerSecond
	f.StreamP50Millis, f.StreamP99Millis, f.StreamCPUMicros = run.millis(50), run.millis(99), run.cpuMicros()
	return nil
}

func (f loadFigures) print(out io.Writer) {
	fmt.Fprintf(out, "load, 3DES, TOKEN, durable record, %d callers\n\n", f.Callers)
	fmt.Fprintf(out, "%-31s %8s %7s %8s %8s %11s\n", "", "loads/s", "ratio", "p50 ms", "p99 ms", "cpu µs/load")
	bare := fmt.Sprintf("bare PKCS#11 loop, %d threads", f.BareLoopThreads)
	fmt.Fprintf(out, "%-31s %8.0f %7s\n", bare, f.BareLoopPerSecond, "1.00")
	row := func(name string, rate, ratio, p50, p99, cpu float64) {
		fmt.Fprintf(out, "%-31s %8.0f %7.2f %8.2f %8.2f %11.0f\n", name, rate, ratio, p50, p99, cpu)
	}
	row("AuthorizeLoad in process", f.InProcessPerSecond, f.InProcessRatio, f.InProcessP50Millis, f.InProcessP99Millis, f.InProcessCPUMicros)
	row("the same, not sealed", f.UnsealedPerSecond, f.UnsealedRatio, f.UnsealedP50Millis, f.UnsealedP99Millis, f.UnsealedCPUMicros)
	row("AuthorizeLoad over mTLS, unary", f.MTLSPerSecond, f.MTLSRatio, f.MTLSP50Millis, f.MTLSP99Millis, f.MTLSCPUMicros)
	row("AuthorizeLoad over Transact", f.StreamPerSecond, f.StreamRatio, f.StreamP50Millis, f.StreamP99Millis, f.StreamCPUMicros)
	fmt.Fprintf(out, "\n%.1f loads in one commit\n", f.LoadsPerCommit)
}
