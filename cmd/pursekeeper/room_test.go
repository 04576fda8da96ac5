package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// room is the program at a pseudo-terminal of its own, and those who sit there.
type room struct {
	command  *exec.Cmd
	keyboard *os.File // the terminal's other end
	mu       sync.Mutex
	screen   bytes.Buffer // everything that was on the screen
	seen     int          // how much of it was looked at
	closed   chan struct{}
	after    []func() error // done when the program has ended
}

func enterRoom(command *exec.Cmd) (*room, error) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	master, err := pty.StartWithSize(command, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		return nil, err
	}
	keyboard, err := closable(master)
	if err != nil {
		return nil, err
	}
	r := &room{command: command, keyboard: keyboard, closed: make(chan struct{})}
	go func() {
		defer close(r.closed)
		_, _ = io.Copy(r, keyboard) // ends with EIO when the program has
	}()
	return r, nil
}

// closable is the same terminal, of which a read that waits does not keep it open.
func closable(master *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(master.Fd()))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(syscall.SetNonblock(fd, true), master.Close()); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), master.Name()), nil
}

func (r *room) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.screen.Write(p)
}

func (r *room) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.screen.String()
}

var errNotSeen = errors.New("it is not on the screen")

// see waits for a text after what was seen before.
func (r *room) see(text string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		over := false
		select {
		case <-r.closed:
			over = true
		default:
		}
		screen := r.text()
		if at := strings.Index(screen[r.seen:], text); at >= 0 {
			r.seen += at + len(text)
			return nil
		}
		if over {
			break
		}
	}
	return errNotSeen
}

// leave waits for the end, and returns whether it was a good one.
func (r *room) leave() error {
	ended := make(chan error, 1)
	go func() { ended <- r.command.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(patience):
		_ = r.command.Process.Kill()
		err = errors.Join(errors.New("the program does not end"), <-ended)
	}
	_ = r.keyboard.Close()
	<-r.closed
	for _, f := range r.after {
		err = errors.Join(err, f())
	}
	return err
}

// play does what a script says, a line each:
//
//	see TEXT      wait for a text on the screen, after the last one
//	type TEXT     a line at the keyboard
//	copy          types the check value that follows the last thing seen
//	press ^C      an interrupt by the keyboard
//	signal KILL   the process is killed; HUP and TERM too
//	hang up       the terminal is closed
//	lock FILE     no commit to a store until the program has ended
func (r *room) play(script string) error {
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		var err error
		switch verb {
		case "", "#":
		case "see":
			err = r.see(rest)
		case "type":
			_, err = r.keyboard.WriteString(rest + "\n")
		case "copy":
			err = r.copyValue()
		case "press":
			_, err = r.keyboard.Write([]byte{3})
		case "signal":
			err = r.command.Process.Signal(map[string]syscall.Signal{"KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}[rest])
		case "hang":
			err = r.keyboard.Close()
		case "lock":
			var unlock func() error
			if unlock, err = lockStore(filepath.Join(r.command.Dir, rest)); err == nil {
				r.after = append(r.after, unlock)
			}
		default:
			err = errors.New("no such verb")
		}
		if err != nil {
			return errors.Join(errors.New(line), err)
		}
	}
	return nil
}

// copyValue types the six digits that come next on the screen.
func (r *room) copyValue() error {
	if err := r.see("check value "); err != nil {
		return err
	}
	value := ""
	for end := time.Now().Add(patience); len(value) < 6 && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		value = strings.TrimSpace(r.text()[r.seen:min(r.seen+6, len(r.text()))])
	}
	if err := r.see("type its check value: "); err != nil {
		return err
	}
	_, err := r.keyboard.WriteString(value + "\n")
	return err
}

// cmdRoom is `[!] room SCRIPT ARGUMENT…`: the program at a terminal, played by the script. What was on the screen is in the file "screen".
func cmdRoom(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: room script argument...")
	}
	script := ts.ReadFile(args[0])
	command := exec.Command(executable, args[1:]...)
	command.Dir = ts.Getenv("WORK")
	command.Env = append(os.Environ(), "TERM=xterm")
	r, err := enterRoom(command)
	ts.Check(err)
	played := r.play(script)
	if played != nil {
		_ = command.Process.Kill()
	}
	end := r.leave()
	screen := r.text()
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(screen), 0o600))
	ts.Logf("%s", screen)
	switch {
	case played != nil:
		ts.Fatalf("%v", played)
	case end == nil && neg:
		ts.Fatalf("the program ended well")
	case end != nil && !neg:
		ts.Fatalf("%v", end)
	case strings.Contains(screen, "DATA RACE"), strings.Contains(screen, "panic:"):
		ts.Fatalf("the program failed")
	}
}
