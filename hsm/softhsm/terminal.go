package softhsm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal: what is written to the keyboard is read by a program that has the screen as its
// standard input. The line discipline's echo is off. It does not become the terminal of this process.
func openTerminal() (keyboard, screen *os.File, err error) {
	keyboard, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("softhsm: terminal: %w", err)
	}
	screen, err = openScreen(keyboard)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("softhsm: terminal: %w", err), keyboard.Close())
	}
	return keyboard, screen, nil
}

func openScreen(keyboard *os.File) (*os.File, error) {
	control, err := keyboard.SyscallConn()
	if err != nil {
		return nil, err
	}
	var number int
	var failure error
	err = control.Control(func(fd uintptr) {
		if failure = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failure != nil {
			return
		}
		number, failure = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err := errors.Join(err, failure); err != nil {
		return nil, err
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := silence(screen); err != nil {
		return nil, errors.Join(err, screen.Close())
	}
	return screen, nil
}

func silence(screen *os.File) error {
	control, err := screen.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = control.Control(func(fd uintptr) {
		var state *unix.Termios
		if state, failure = unix.IoctlGetTermios(int(fd), unix.TCGETS); failure != nil {
			return
		}
		state.Lflag &^= unix.ECHO
		failure = unix.IoctlSetTermios(int(fd), unix.TCSETS, state)
	})
	return errors.Join(err, failure)
}
