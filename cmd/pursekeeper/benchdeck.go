package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
)

var platformIdentity = devpki.Identity("platform")

// deck deals load requests of cards that were never seen, each with a right MAC1. They are made ahead, in memory, by the
// published test master, so that the card's side costs nothing while the signer is measured.
type deck struct {
	master keyderive.Master
	next   uint64 // serial of the next card
}

func newDeck() (*deck, error) {
	clear, err := demoMasters[keyderive.KindLoad].bytes()
	if err != nil {
		return nil, err
	}
	key, err := keyderive.InMemory(suite.TDES, clear)
	if err != nil {
		return nil, err
	}
	issuer, err := keyderive.ParseFactor(demoIssuer)
	if err != nil {
		return nil, err
	}
	return &deck{master: keyderive.NewMaster(key, keyderive.RootFirst(issuer)), next: 0x3105228100000000}, nil
}

// deal makes n requests.
func (d *deck) deal(ctx context.Context, n int) ([]signer.LoadRequest, error) {
	requests := make([]signer.LoadRequest, n)
	for i := range requests {
		var factor keyderive.Factor
		binary.BigEndian.PutUint64(factor[:], d.next)
		d.next++
		r, err := d.request(ctx, factor)
		if err != nil {
			return nil, err
		}
		requests[i] = r
	}
	return requests, nil
}

func (d *deck) request(ctx context.Context, factor keyderive.Factor) (signer.LoadRequest, error) {
	terminal := purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	init := purse.LoadInit{Balance: 1000, Counter: 7, KVER: 1, Random: purse.Random(factor[4:])}
	err := d.master.WithCard(ctx, factor, func(c keyderive.Card) error {
		l, err := purse.NewLoad(init, purse.EP, 100, terminal)
		if err != nil {
			return err
		}
		session, err := c.Session(l.SessionInput())
		if err != nil {
			return err
		}
		init.MAC1, err = session.MAC(l.MAC1Data())
		return err
	})
	return signer.LoadRequest{
		KeySet: "demo", CardSerial: factor.String(), Purse: purse.EP, AmountFen: 100, TerminalID: terminal.String(),
		InitializeResponse: strings.ToUpper(hex.EncodeToString(init.Bytes())), Date: "20240131", Time: "235959",
	}, err
}

// lap is one measurement, or several of the same kind together.
type lap struct {
	times   [][]time.Duration // of each caller
	elapsed time.Duration
	cpu     time.Duration // of the whole process, on all cores
}

// add makes another lap part of l.
func (l *lap) add(other lap) {
	l.times = append(l.times, other.times...)
	l.elapsed += other.elapsed
	l.cpu += other.cpu
}

// course is what is measured one way: round by round, its laps together.
type course struct {
	call func(context.Context, signer.LoadRequest) (outcome string, err error)
	lap
}

// run lets callers call as fast as they are answered, for about length, and adds the lap. Before the first, short ones tell how many
// requests to deal.
func (c *course) run(ctx context.Context, d *deck, callers int, length time.Duration) error {
	n := 4 * callers
	if c.count() > 0 {
		n = int(c.perSecond() * length.Seconds())
	}
	for {
		requests, err := d.deal(ctx, n)
		if err != nil {
			return err
		}
		measured, err := race(ctx, callers, requests, c.call)
		if err != nil {
			return err
		}
		if c.count() > 0 || measured.elapsed > length/2 {
			c.add(measured)
			return nil
		}
		n = int(measured.perSecond() * min(length, 4*max(measured.elapsed, length/20)).Seconds())
	}
}

func race(
	ctx context.Context, callers int, requests []signer.LoadRequest, call func(context.Context, signer.LoadRequest) (string, error),
) (lap, error) {
	measured := lap{times: make([][]time.Duration, callers)}
	errs := make([]error, callers)
	var next atomic.Int64
	var group sync.WaitGroup
	begin, used := time.Now(), processCPU()
	for i := range callers {
		group.Go(func() {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(requests) {
					return
				}
				start := time.Now()
				outcome, err := call(ctx, requests[at])
				if err != nil || outcome != "APPROVED" {
					errs[i] = errors.Join(err, fmt.Errorf("outcome %q", outcome))
					return
				}
				measured.times[i] = append(measured.times[i], time.Since(start))
			}
		})
	}
	group.Wait()
	measured.elapsed, measured.cpu = time.Since(begin), processCPU()-used
	return measured, errors.Join(errs...)
}

func (l lap) count() (n int) {
	for _, times := range l.times {
		n += len(times)
	}
	return n
}

func (l lap) perSecond() float64 { return float64(l.count()) / l.elapsed.Seconds() }

// cpuMicros is the processor time of one load, all cores together: it is steadier than a rate on a busy machine.
func (l lap) cpuMicros() float64 { return float64(l.cpu.Microseconds()) / float64(l.count()) }

func (l lap) figures(bare float64) figures {
	return figures{PerSecond: l.perSecond(), Ratio: l.perSecond() / bare, P50Millis: l.millis(50), P99Millis: l.millis(99), CPUMicros: l.cpuMicros()}
}

// processCPU is the processor time that this process has used.
func processCPU() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// millis is a percentile in milliseconds.
func (l lap) millis(percent int) float64 {
	all := slices.Concat(l.times...)
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[(len(all)-1)*percent/100].Microseconds()) / 1000
}

// connections are the HTTP/2 connections that the callers share, as a platform's would.
type connections struct {
	clients []pursekeeperv1connect.SignerServiceClient
	turn    atomic.Uint64
}

const callersOnOneConnection = 16

func benchClients(callers int, flags clientFlags) (*connections, error) {
	c := &connections{}
	for range (callers + callersOnOneConnection - 1) / callersOnOneConnection {
		client, err := flags.signer()
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, client)
	}
	return c, nil
}

func (c *connections) authorize(ctx context.Context, r signer.LoadRequest) (string, error) {
	client := c.clients[c.turn.Add(1)%uint64(len(c.clients))]
	answer, err := client.AuthorizeLoad(ctx, loadMessage(r))
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(answer.Outcome.String(), "OUTCOME_"), nil
}

func loadMessage(r signer.LoadRequest) *v1.AuthorizeLoadRequest {
	return &v1.AuthorizeLoadRequest{
		KeySet: r.KeySet, CardSerial: r.CardSerial, Purse: v1.Purse_PURSE_EP, AmountFen: r.AmountFen, TerminalId: r.TerminalID,
		InitializeResponse: r.InitializeResponse, Date: r.Date, Time: r.Time,
	}
}

// bareKey is the label of the demonstration load key, and its issuer levels.
func bareKey(cfg *config.Config) (label string, path keyderive.Path, err error) {
	for _, set := range cfg.KeySets {
		for _, key := range set.Keys {
			if set.Name == "demo" && key.Kind == keyderive.KindLoad {
				return keySpec(set, key).Label, set.Issuer.Fixed, nil
			}
		}
	}
	return "", keyderive.Path{}, errors.New("bug: the development signer has no demonstration load key")
}

// profile starts a CPU profile into a file; "" is none.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}
