package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// console is the terminal of a ceremony: a ceremony.Screen.
type console struct{ in, out *os.File }

// maxLine bounds what is typed in one line.
const maxLine = 1 << 10

// clearScreen goes home, clears what is seen, and what an xterm and its like have scrolled away.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// openConsole takes the process's own terminal. A pipe in its place would be a component in a file.
func openConsole() (*console, error) {
	c := &console{os.Stdin, os.Stdout}
	for _, f := range []*os.File{c.in, c.out} {
		if !term.IsTerminal(int(f.Fd())) {
			return nil, fmt.Errorf("%s is no terminal: a ceremony takes no input from a pipe, and shows nothing to one", f.Name())
		}
	}
	return c, nil
}

// Show implements ceremony.Screen.
func (c *console) Show(text string) error {
	_, err := io.WriteString(c.out, text)
	return err
}

// Reveal implements ceremony.Screen: the bytes go from locked memory to the terminal.
func (c *console) Reveal(text secret.Bytes) error {
	_, err := c.out.Write(text.Reveal("to show it to its custodian"))
	return err
}

// Clear implements ceremony.Screen.
func (c *console) Clear() error { return c.Show(clearScreen) }

// Line implements ceremony.Screen.
func (c *console) Line(ctx context.Context, prompt string) (string, error) {
	if err := c.Show(prompt); err != nil {
		return "", err
	}
	line, err := c.read(ctx)
	defer line.Wipe()
	return string(bytes.TrimSpace(line.Reveal("it was typed in clear"))), err
}

// Secret implements ceremony.Screen. What was typed before the echo was off is thrown away. The caller wipes the line.
func (c *console) Secret(ctx context.Context, prompt string) (line secret.Bytes, err error) {
	before, err := unix.IoctlGetTermios(int(c.in.Fd()), unix.TCGETS)
	if err != nil {
		return line, fmt.Errorf("terminal: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	// Ctrl-\ would end the process with a listing of its stacks, Ctrl-Z leave it with a component in memory, and both the echo off.
	quiet.Cc[unix.VQUIT], quiet.Cc[unix.VSUSP] = disabled, disabled
	if err := unix.IoctlSetTermios(int(c.in.Fd()), unix.TCSETSF, &quiet); err != nil {
		return line, fmt.Errorf("terminal: %w", err)
	}
	defer func() {
		if restored := unix.IoctlSetTermios(int(c.in.Fd()), unix.TCSETSF, before); err == nil && restored != nil {
			line.Wipe()
			err = fmt.Errorf("terminal: %w", restored)
		}
	}()
	if err := c.Show(prompt); err != nil {
		return line, err
	}
	return c.read(ctx)
}

// disabled is no character, of a terminal's special ones (POSIX, _POSIX_VDISABLE, as Linux has it).
const disabled = 0

// pollTime is how often a wait for the keyboard looks whether the process is to end, in milliseconds.
const pollTime = 50

var errClosed = errors.New("the terminal is closed")

// read reads one line, as the terminal hands it over when it is complete, straight into locked memory, without its end.
func (c *console) read(ctx context.Context) (line secret.Bytes, err error) {
	room := secret.New(maxLine)
	defer room.Wipe()
	typed, n := room.Reveal("to read a line into it"), 0
	for {
		if err := c.wait(ctx); err != nil {
			return line, err
		}
		got, err := unix.Read(int(c.in.Fd()), typed[n:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return line, fmt.Errorf("%w: %w", errClosed, err)
		case got == 0 && n < maxLine:
			return line, errClosed
		}
		if n += got; typed[n-1] == '\n' {
			return secret.Copy(bytes.TrimSuffix(typed[:n-1], []byte("\r"))), nil
		}
		if n == maxLine {
			return line, fmt.Errorf("a line of more than %d characters", maxLine)
		}
	}
}

// wait returns when a line is there.
func (c *console) wait(ctx context.Context) error {
	fds := []unix.PollFd{{Fd: int32(c.in.Fd()), Events: unix.POLLIN}}
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}
		n, err := unix.Poll(fds, pollTime)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("%w: %w", errClosed, err)
		case n > 0:
			return nil
		}
	}
}
