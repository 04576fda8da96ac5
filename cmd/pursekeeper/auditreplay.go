package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
)

// auditReplayCmd has a signer compare its record with its keys. The signer does the computing: what comes here is verdicts.
type auditReplayCmd struct {
	clientFlags `set:"as=auditor"`
	From        recordPlace `help:"Where to begin: an index, or a time (RFC 3339)." default:"0" placeholder:"INDEX|TIME"`
	To          recordPlace `help:"Where to end, which is not replayed any more: an index, or a time. Left out: at what is sealed now." placeholder:"INDEX|TIME"`
	Rate        uint64      `help:"At most so many entries a second; 0: as the signer allows." default:"0"`
	Part        uint32      `help:"Entries of one call, each of which the signer records; 0: as many as the signer takes." default:"0"`
	State       string      `help:"File to keep the place in: the same command goes on there after an interruption." type:"path" placeholder:"FILE"`
	Quiet       bool        `help:"Show no progress." short:"q"`
}

// recordPlace is a place in the record: an index, or a time.
type recordPlace struct {
	index uint64
	at    time.Time // zero: index counts
}

// UnmarshalText reads an index or a time.
func (p *recordPlace) UnmarshalText(text []byte) (err error) {
	if p.index, err = strconv.ParseUint(string(text), 10, 62); err == nil {
		return nil
	}
	if p.at, err = time.Parse(time.RFC3339Nano, string(text)); err != nil {
		return fmt.Errorf("%q: expected an index, or a time such as 2026-01-31T00:00:00Z", text)
	}
	return nil
}

func (p recordPlace) moment() *timestamppb.Timestamp {
	if p.at.IsZero() {
		return nil
	}
	return timestamppb.New(p.at)
}

// errDifferent ends the process with 1; the differences are printed before.
var errDifferent = errors.New("the record differs from the keys")

// Run replays to the end and prints the differences and the sum. Its status is 0 only when nothing differed.
func (c *auditReplayCmd) Run(ctx context.Context) error {
	client, err := c.http()
	if err != nil {
		return err
	}
	auditor := pursekeeperv1connect.NewAuditServiceClient(client, c.Server, connect.WithGRPC())
	state, err := openReplayState(c.State, replayOf(c))
	if err != nil {
		return err
	}
	progress := newReplayProgress(os.Stderr, c.Quiet, c.To)
	err = c.replay(ctx, auditor, state, progress.show)
	progress.end()
	if err != nil {
		return err
	}
	state.print(os.Stdout)
	if c.To.index > state.Next {
		fmt.Printf("NOT REPLAYED     from entry %d on: nothing more is sealed\n", state.Next)
	}
	if state.Different > 0 {
		return errDifferent
	}
	return nil
}

// replayer is the signer as a replay needs it.
type replayer interface {
	Replay(context.Context, *v1.ReplayRequest) (*v1.ReplayResponse, error)
}

// replay asks for part after part, to the end. Without an index to end at that is what is sealed at the first answer: the signer records each
// part, and seals what else it does meanwhile, which may be more than it replays.
func (c *auditReplayCmd) replay(ctx context.Context, signer replayer, state *replayState, show func(*replayState)) error {
	for !state.Done {
		began := time.Now()
		to := c.To.index
		if to == 0 {
			to = state.End
		}
		answer, err := signer.Replay(ctx, &v1.ReplayRequest{From: state.Next, To: to, Limit: c.Part, Since: c.From.moment(), Until: c.To.moment()})
		if err != nil {
			return err
		}
		before := state.Next
		if err := state.take(answer); err != nil {
			return err
		}
		show(state)
		if err := c.pace(ctx, state.Next-min(before, state.Next), time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// pace waits as long as so many entries may take at least.
func (c *auditReplayCmd) pace(ctx context.Context, entries uint64, took time.Duration) error {
	if c.Rate == 0 {
		return nil
	}
	least := time.Duration(float64(entries) / float64(c.Rate) * float64(time.Second))
	select {
	case <-time.After(least - took):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replayProgress shows how far a replay is: a bar on a terminal, else a line now and then.
type replayProgress struct {
	out   io.Writer
	quiet bool
	bar   bool
	to    uint64 // 0: what was sealed when it began
	last  time.Time
}

func newReplayProgress(out *os.File, quiet bool, to recordPlace) *replayProgress {
	return &replayProgress{out: out, quiet: quiet, bar: isTerminal(out), to: to.index, last: time.Now()}
}

const (
	barWidth  = 40
	lineEvery = 5 * time.Second
)

func (p *replayProgress) show(s *replayState) {
	switch {
	case p.quiet:
	case p.bar:
		fmt.Fprintf(p.out, "\r\033[K%s", p.text(s))
	case time.Since(p.last) >= lineEvery:
		p.last = time.Now()
		fmt.Fprintln(p.out, p.text(s))
	}
}

func (p *replayProgress) text(s *replayState) string {
	text := fmt.Sprintf("entry %d  %d equal  %d different", s.Next, s.Equal, s.Different)
	to := s.End
	if p.to > 0 {
		to = min(p.to, s.Sealed)
	}
	if to == 0 {
		return text
	}
	full := int(barWidth * min(s.Next, to) / to)
	bar := make([]byte, barWidth)
	for i := range bar {
		bar[i] = '.'
		if i < full {
			bar[i] = '#'
		}
	}
	return fmt.Sprintf("[%s] %3d%%  %s", bar, 100*min(s.Next, to)/to, text)
}

func (p *replayProgress) end() {
	if p.bar && !p.quiet {
		fmt.Fprint(p.out, "\r\033[K")
	}
}
