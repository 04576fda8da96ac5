package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/rpc"
	"github.com/pursekeeper/pursekeeper/store"
)

// node is one running signer: a token, a store, and the signer over both.
type node struct {
	config  *config.Config
	log     *slog.Logger
	token   *hsm.Token
	store   *store.Database
	signer  *signer.Signer
	office  *custody.Office // nil where the key sets are the configuration's
	peers   *peers.Peers
	metrics *rpc.Metrics
	shares  *rpc.Admission
	all     *prometheus.Registry
	found   *findings
	keys    keyring
	sealing sealing
	again   chan os.Signal // SIGHUP: an operator's order to read the certificates, and to try a refused PIN again
}

// gcPercent lets the heap grow to five times what lives before it is collected: little lives, each load leaves some kilobytes, and
// on two cores a collection takes time from the token.
const gcPercent = 400

// newNode opens everything, from the token up, and records that it runs.
func newNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (n *node, err error) {
	n = &node{config: cfg, log: log, all: prometheus.NewRegistry(), found: newFindings(), again: make(chan os.Signal, 1)}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	hsm.MakeRoom(cfg.Token.InFlight)
	signal.Notify(n.again, unix.SIGHUP) // before the log asks for one: by default it ends the process
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	rules, err := policy.New(policy.Rules{Clients: cfg.Clients})
	if err != nil {
		return n, err
	}
	if n.token, err = openToken(ctx, cfg, log); err != nil && !errors.Is(err, hsm.ErrPINLatched) {
		return n, err
	}
	latched := err
	if n.store, err = openStore(ctx, cfg); err != nil {
		return n, err
	}
	sets, err := n.configured(latched != nil)
	if err != nil {
		return n, err
	}
	n.metrics = rpc.NewMetrics(n.all)
	if n.peers, err = peers.Open(peers.Config{Files: cfg.TLS, Log: log, Alarm: n.alarm}); err != nil {
		return n, err
	}
	if err := n.openOffice(); err != nil {
		return n, err
	}
	if n.shares, err = rpc.NewAdmission(rpc.AdmissionConfig(cfg.Admission)); err != nil {
		return n, err
	}
	n.signer, err = signer.New(signer.Config{
		Office: n.office, Policy: rules, Store: n.store, KeySets: sets, Reload: n.reload, Past: n.past(), Sealed: sealedRecord{n},
		Alarm: n.alarm, Turns: n.shares, ChallengeLife: cfg.ChallengeLife, SessionLife: cfg.SessionLife,
	})
	if err != nil {
		return n, err
	}
	n.all.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), n, n.shares)
	if err := n.begin(ctx); err != nil {
		return n, err
	}
	if latched != nil {
		log.Error("the token refused the PIN; after mending it, send SIGHUP", "error", latched)
		err = n.signer.Start(ctx, nil)
	} else {
		err = n.signer.Start(ctx, n.findings(ctx))
	}
	if err == nil {
		n.seal(ctx)
	}
	return n, err
}

// alarm counts an alarm and puts it in the log: the entry itself is durable already.
func (n *node) alarm(event audit.Event) {
	n.metrics.Alarm(event)
	n.log.Warn("alarm", "event", string(event))
}

// openToken logs in, finds every key and compares its check value. With hsm.ErrPINLatched it returns a token too: the service
// stays up, unready, for an operator, because one that ended would be started again and use up the PIN's tries.
func openToken(ctx context.Context, cfg *config.Config, log *slog.Logger) (*hsm.Token, error) {
	c, err := tokenConfig(cfg, log)
	if err != nil {
		return nil, err
	}
	return hsm.Open(ctx, c)
}

func tokenConfig(cfg *config.Config, log *slog.Logger) (hsm.Config, error) {
	c := hsm.Config{
		Module: cfg.Token.Module, TokenLabel: cfg.Token.Label, Log: log, PIN: cfg.Token.PIN.Read,
		InFlight: cfg.Token.InFlight, Queue: cfg.Token.Queue, Hang: cfg.Token.Hang, Profile: cfg.Token.Profile,
	}
	if !c.Profile.Tested {
		log.Warn("the token's profile was not tested on hardware", "profile", c.Profile.Name)
	}
	c.Keys = specs(cfg.KeySets)
	if cfg.Token.SoftHSMConf != "" {
		return c, os.Setenv(softhsm.ConfVariable, cfg.Token.SoftHSMConf)
	}
	return c, nil
}

// ready computes on every key and asks the store.
func (n *node) ready(ctx context.Context) error {
	return errors.Join(n.token.Ready(ctx), n.store.Ready(ctx), n.keysReady())
}

// serve answers until ctx ends or the token asks for a restart, which ends the process with hsm.ExitRestart.
func (n *node) serve(ctx context.Context, public, admin net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go n.watch(ctx, stop)
	go n.follow(ctx)
	go n.tend(ctx)
	go n.sweep(ctx)
	if p := n.config.Postgres; p != nil && p.Password != nil {
		go p.Password.Keep(ctx, func(err error) { n.log.Warn("the source of the database's password", "error", err) })
	}
	go n.peers.Watch(ctx)
	go n.config.Token.PIN.Keep(ctx, func(err error) { n.log.Warn("the PIN's source", "error", err) })
	handler := rpc.NewHandler(rpc.Config{
		Signer: n.signer, Peers: n.peers, Metrics: n.metrics, Log: n.log, Timeout: n.config.RequestTimeout,
		Admission: n.shares,
	})
	err := rpc.Serve(ctx, rpc.NewServer(handler, n.log), rpc.NewAdmin(n.ready, n.all, n.log),
		public, admin, n.config.ShutdownTimeout)
	n.log.Info("stopped", "cause", context.Cause(ctx))
	var restart exitCode
	if errors.As(context.Cause(ctx), &restart) {
		return errors.Join(restart, err)
	}
	return err
}

// watch stops the service when its token needs a new process, and lets an operator have the certificates read, and a refused PIN tried
// again, by SIGHUP.
func (n *node) watch(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		select {
		case <-n.token.Done():
			n.log.Error("the token needs a new process", "error", n.token.Err())
			stop(exitCode(hsm.ExitRestart))
			return
		case <-n.again:
			go n.peers.Look(true) // a file system that hangs holds nothing up
			tried := n.token.Unlatch()
			n.log.Info("SIGHUP", "pinTriedAgain", tried)
			if tried {
				go n.unlatched(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

// unlatched records what a start records, once the token has taken the PIN that an operator mended; not when it does not soon.
func (n *node) unlatched(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, unlatchTime)
	defer cancel()
	for n.token.State() != hsm.StateReady {
		select {
		case <-time.After(stateInterval):
		case <-ctx.Done():
			return
		}
	}
	if err := n.signer.Start(ctx, n.findings(ctx)); err != nil {
		n.log.Error("the start could not be recorded", "error", err)
	}
}

// A token that is being opened is looked at every stateInterval, for unlatchTime at most.
const (
	stateInterval = 100 * time.Millisecond
	unlatchTime   = 30 * time.Second
)

// close ends what newNode opened: the sealing, then the store, then the token.
func (n *node) close() (err error) {
	signal.Stop(n.again)
	n.endSealing()
	if n.store != nil {
		err = n.store.Close()
	}
	if n.token != nil {
		err = errors.Join(err, n.closeToken())
	}
	return err
}

var errTokenHangs = errors.New("close token: a call hangs inside the library")

// closeToken ends the token when its library lets it. One that asked for a new process is left as it is, and one with a hanging
// call is left after a while: the end of the process takes both, and a supervisor waits for it.
func (n *node) closeToken() error {
	if n.token.Err() != nil {
		return nil
	}
	closed := make(chan error, 1)
	go func() { closed <- n.token.Close() }()
	select {
	case err := <-closed:
		return err
	case <-n.token.Done():
		return errTokenHangs
	case <-time.After(n.config.ShutdownTimeout):
		return errTokenHangs
	}
}
