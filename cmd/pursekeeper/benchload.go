package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/rpc"
)

// loadBench is one run of bench load: a node, and what is measured on it.
type loadBench struct {
	node    *node
	deck    *deck
	callers int
	length  time.Duration // of one measurement in one round

	bare                               *bareCourse
	inProcess, unsealed, unary, stream course
	loads, groups                      uint64 // of the record, in process
}

// bareCourse is the loop that makes the same PKCS#11 calls and nothing else, over one to four threads.
type bareCourse struct {
	loop *hsm.BareLoop
	runs [mostBareThreads]struct {
		loads int
		took  time.Duration
	}
}

const (
	mostBareThreads = 4
	bareProbe       = 200 // loads, of which the first run of each number of threads is not counted
)

func newBareCourse(ctx context.Context, cfg *config.Config, token *hsm.Token) (*bareCourse, error) {
	label, path, err := bareKey(cfg)
	if err != nil {
		return nil, err
	}
	loop, err := token.BareLoop(ctx, label, path, mostBareThreads)
	return &bareCourse{loop: loop}, err
}

// run measures each number of threads for a fourth of length.
func (b *bareCourse) run(ctx context.Context, length time.Duration) error {
	for i := range b.runs {
		took, err := b.loop.Run(ctx, bareProbe, i+1)
		if err != nil {
			return err
		}
		n := max(bareProbe, int(bareProbe*(length.Seconds()/mostBareThreads)/took.Seconds()))
		if took, err = b.loop.Run(ctx, n, i+1); err != nil {
			return err
		}
		b.runs[i].loads += n
		b.runs[i].took += took
	}
	return nil
}

// best is the rate of the best number of threads, over all rounds.
func (b *bareCourse) best() (perSecond float64, threads int) {
	for i, run := range b.runs {
		if rate := float64(run.loads) / run.took.Seconds(); rate > perSecond {
			perSecond, threads = rate, i+1
		}
	}
	return perSecond, threads
}

// serve sets up the ways to the signer: in process, and over gRPC, TLS 1.3 and client certificates, with the client in this process.
func (b *loadBench) serve(ctx context.Context, folder devFolder) (end func(), err error) {
	caller, err := b.node.signer.Identify(ctx, []string{platformIdentity})
	if err != nil {
		return nil, err
	}
	b.inProcess.call = func(ctx context.Context, r signer.LoadRequest) (string, error) {
		a, err := b.node.signer.AuthorizeLoad(ctx, caller, r)
		return string(a.Outcome), err
	}
	b.unsealed.call = b.inProcess.call

	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := b.node
	server := rpc.NewServer(rpc.NewHandler(rpc.Config{
		Signer: n.signer, Peers: n.peers, Metrics: n.metrics, Log: n.log, Timeout: n.config.RequestTimeout,
		Admission: n.shares,
	}), n.log)
	go func() { _ = server.ServeTLS(public, "", "") }()
	ctx, cancel := context.WithCancel(ctx) // ends the streams
	end = func() {
		cancel()
		_ = server.Close() // the end of a measurement
	}
	clients, err := benchClients(b.callers, clientFlags{Server: "https://" + public.Addr().String(), TLS: folder.path("tls"), As: "platform"})
	if err == nil {
		b.unary.call = clients.authorize
		var streams *pipes
		if streams, err = openPipes(ctx, clients); err == nil {
			b.stream.call = streams.authorize
			return end, nil
		}
	}
	end()
	return nil, err
}

// round measures once what takes turns. The bare loop has the machine to itself: all that was recorded before it is sealed.
func (b *loadBench) round(ctx context.Context) error {
	if err := b.allSealed(ctx); err != nil {
		return err
	}
	if err := b.bare.run(ctx, b.length); err != nil {
		return err
	}
	warm := course{call: b.inProcess.call, lap: b.inProcess.lap} // its lap is not kept
	if err := warm.run(ctx, b.deck, b.callers, min(b.length, sealingLag)); err != nil {
		return err
	}
	stats := b.node.store.Stats()
	groups, loads := stats.Groups.Load(), b.inProcess.count()
	if err := b.inProcess.run(ctx, b.deck, b.callers, b.length); err != nil {
		return err
	}
	if loads > 0 { // the first round's has short laps before it
		b.groups += stats.Groups.Load() - groups
		b.loads += uint64(b.inProcess.count() - loads)
	}
	return errors.Join(b.unary.run(ctx, b.deck, b.callers, b.length), b.stream.run(ctx, b.deck, b.callers, b.length))
}

// sealingLag is how long the sealer lets entries wait while they come fast. Requests have come for as long before a lap in process begins, so
// that as much is sealed in the lap as it records.
const sealingLag = 700 * time.Millisecond

// allSealed waits until no entry waits to be sealed.
func (b *loadBench) allSealed(ctx context.Context) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		sealed, entries, err := b.node.store.Sealing(ctx)
		if err != nil || sealed.Size >= entries {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// last measures what comes after all rounds: the signer in process while nothing is sealed, and with a profile when a file is named.
func (b *loadBench) last(ctx context.Context, length time.Duration, path string) error {
	if path != "" {
		stop, err := profile(path)
		if err != nil {
			return err
		}
		again := course{call: b.inProcess.call}
		err = again.run(ctx, b.deck, b.callers, length)
		stop()
		if err != nil {
			return err
		}
	}
	b.node.endSealing()
	return b.unsealed.run(ctx, b.deck, b.callers, length)
}

func (b *loadBench) figures() (f loadFigures) {
	f.BareLoopPerSecond, f.BareLoopThreads = b.bare.best()
	f.InProcess = b.inProcess.figures(f.BareLoopPerSecond)
	f.Unsealed = b.unsealed.figures(f.BareLoopPerSecond)
	f.MTLS = b.unary.figures(f.BareLoopPerSecond)
	f.Stream = b.stream.figures(f.BareLoopPerSecond)
	if b.groups > 0 {
		f.LoadsPerCommit = float64(b.loads) / float64(b.groups)
	}
	return f
}
