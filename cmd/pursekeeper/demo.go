package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/internal/config"
)

// demoCmd tells the story of a load on a throw-away signer.
type demoCmd struct{}

// Run makes a signer in a temporary folder, serves it over mTLS on this machine, and plays client and card against it.
func (demoCmd) Run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "pursekeeper-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	folder := devFolder{dir: dir, listen: "127.0.0.1:0", admin: "127.0.0.1:0", say: io.Discard}
	cfg, err := folder.prepare(ctx, "", log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	address := make(chan net.Addr, 1)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, cfg, log, func(public, _ net.Addr) { address <- public }) }()
	select {
	case err := <-ended:
		return err
	case public := <-address:
		err = tell(ctx, os.Stdout, folder, public)
	}
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	return printRecord(os.Stdout, cfg)
}

// services are the signer's two for those who work with cards.
type services struct {
	signer pursekeeperv1connect.SignerServiceClient
	reader pursekeeperv1connect.ReaderServiceClient
}

// connectServices calls the signer as a platform and as a reader.
func connectServices(server, tls string) (on services, err error) {
	if on.signer, err = (clientFlags{Server: server, TLS: tls, As: "platform"}).signer(); err != nil {
		return on, err
	}
	on.reader, err = clientFlags{Server: server, TLS: tls, As: "reader"}.reader()
	return on, err
}

// tell plays every scene with a 3DES card and with an SM4 card.
func tell(ctx context.Context, out io.Writer, folder devFolder, public net.Addr) error {
	on, err := connectServices("https://"+public.String(), folder.path("tls"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "A signer with its keys in a SoftHSM token, called over mutual TLS. All keys are published test keys.\n")
	for _, set := range []string{"demo", "demo-sm4"} {
		if err := tellCard(ctx, out, on, set); err != nil {
			return fmt.Errorf("key set %s: %w", set, err)
		}
	}
	return nil
}

func tellCard(ctx context.Context, out io.Writer, on services, set string) error {
	s, err := newStory(ctx, out, on, set)
	if err != nil {
		return err
	}
	for _, scene := range []struct {
		title string
		play  func() error
	}{
		{"a load", s.firstLoad},
		{"the same request again, and one with a flipped bit", s.repeatAndTamper},
		{"the answer is lost: the card took the load, and GET TRANSACTION PROVE tells", s.lostAnswer},
		{"the command is lost: the card did not take the load, and is loaded again at the same counter", s.lostCommand},
		{"a third is lost too: a fresh INITIALIZE proves that it was never taken", s.settleLost},
		{"a purchase, with the signer as the terminal's secure module", s.pay},
		{"an unload: MAC3 alone proves that the money left the card", s.cashOut},
		{"an overdraft limit", s.lend},
		{"the application is blocked, and unblocked", s.blockAndUnblock},
		{"three wrong PINs block the PIN, and PIN UNBLOCK gives its tries back", s.forgetPIN},
		{"the day's TACs in one batch, one of them forged", s.clear},
	} {
		s.title(scene.title)
		if err := scene.play(); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return nil
}

// printRecord shows what the signer recorded, from the store that it left.
func printRecord(out io.Writer, cfg *config.Config) error {
	return withRecord(cfg, func(index uint64, line []byte) {
		fmt.Fprintf(out, "%4d  %s\n", index, summary(line))
	}, func() { fmt.Fprintf(out, "\nThe record, an entry for each decision, committed with it\n\n") })
}
