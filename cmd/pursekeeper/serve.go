package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// serveCmd is the production entry.
type serveCmd struct {
	Config string `help:"Configuration file; docs/configuration.md documents every field." required:"" type:"path"`
	Check  bool   `help:"Validate the configuration, open the token, compare every key's check value, and end."`
}

// Run serves until a signal stops it.
func (c *serveCmd) Run(ctx context.Context) error {
	cfg, err := config.Read(c.Config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if c.Check {
		return check(ctx, cfg, log)
	}
	return serve(ctx, cfg, log, nil)
}

// check is serve without serving, and without opening the store for anything but to read the catalogue: it changes nothing.
func check(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	if err := harden(); err != nil {
		return err
	}
	sets, _, from, err := keysOf(ctx, cfg)
	empty := errors.Is(err, errNoCatalogue)
	if err != nil && !empty {
		return err
	}
	token, err := openToken(ctx, cfg, log)
	if err != nil {
		return err
	}
	if cfg.Catalogued() {
		n := node{config: cfg, log: log, token: token}
		err = n.adoptAll(ctx, sets)
	}
	if err := errors.Join(err, token.Ready(ctx), token.Close()); err != nil {
		return err
	}
	if empty {
		fmt.Printf("the configuration is valid, and the token %q takes its PIN; %v\n", cfg.Token.Label, errNoCatalogue)
		return nil
	}
	fmt.Printf("the configuration is valid; the token %q has all %d keys, with the check values that are written in %s\n",
		cfg.Token.Label, len(specs(sets)), from)
	return nil
}

// refusePublishedKey keeps a published test key off a token that is not for development: everybody has it.
func refusePublishedKey(set config.KeySet, key config.Key) error {
	for _, master := range slices.Concat(slices.Collect(maps.Values(demoMasters)), slices.Collect(maps.Values(issuanceMasters))) {
		published, err := master.checkValue(set.Algorithm)
		if err != nil {
			return err
		}
		if key.KCV == published {
			return fmt.Errorf("key set %s: the %v key of version %d has the check value of a published test key, "+
				"which only a token with development: true may hold", set.Name, key.Kind, key.Version)
		}
	}
	return nil
}

// serve runs a node until ctx ends, its token asks for a restart, or a server fails. started, when not nil, is called once
// with the addresses that it listens on.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, started func(public, admin net.Addr)) (err error) {
	if err := harden(); err != nil {
		return err
	}
	public, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer public.Close() //nolint:errcheck // the server closes it first
	admin, err := net.Listen("tcp", cfg.Admin)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	defer admin.Close() //nolint:errcheck // likewise
	n, err := newNode(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	log.Info("serving", "listen", public.Addr().String(), "admin", admin.Addr().String(), "keySets", len(n.keys.current()))
	if started != nil {
		started(public.Addr(), admin.Addr())
	}
	return n.serve(ctx, public, admin)
}

// harden keeps keys out of core files and out of a debugger that is not root's, and sees that memory can be locked at all.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turn core files off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process not dumpable: %w", err)
	}
	return secret.Available()
}
