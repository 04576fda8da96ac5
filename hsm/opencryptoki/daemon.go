package opencryptoki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

const (
	daemon = "pkcsslotd"
	// startLimit bounds the start of the daemon, which takes some 10 ms.
	startLimit = 10 * time.Second
)

// Daemon is a pkcsslotd that this process started.
type Daemon struct {
	command *exec.Cmd
	said    bytes.Buffer // its error output: read after it has ended
	ended   chan error   // of one element
}

// Running reports whether some pkcsslotd serves: whether the tool, a client as any, can list the tokens. That its socket answers is not
// enough: for the first milliseconds a client is then still refused, with CKR_HOST_MEMORY.
func Running(ctx context.Context) bool {
	_, err := slots(ctx)
	return err == nil
}

// Start starts pkcsslotd and waits until it serves. When one serves already, it is left alone and nil is returned. It needs root, or a
// room.
func Start(ctx context.Context) (*Daemon, error) {
	if Running(ctx) {
		return nil, nil
	}
	path, err := lookTool(daemon)
	if err != nil {
		return nil, err
	}
	d := &Daemon{command: exec.Command(path, "-f"), ended: make(chan error, 1)}
	d.command.Stderr = &d.said
	if err := d.command.Start(); err != nil {
		return nil, fmt.Errorf("opencryptoki: %s: %w", daemon, err)
	}
	go func() { d.ended <- d.command.Wait() }()
	if err := d.await(ctx); err != nil {
		return nil, errors.Join(err, d.Kill())
	}
	return d, nil
}

func (d *Daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !Running(ctx) {
		select {
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("opencryptoki: %s ended: %w", daemon, errors.Join(err, firstLine(d.said.String())))
		case <-ctx.Done():
			return fmt.Errorf("opencryptoki: %s does not serve: %w", daemon, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Kill ends the daemon as a power failure would.
func (d *Daemon) Kill() error {
	_ = d.command.Process.Kill() // it may have ended
	err := <-d.ended
	d.ended <- err
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("opencryptoki: %s: %w", daemon, err)
	}
	return nil
}
