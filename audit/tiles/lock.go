package tiles

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked: another process of this host seals into the folder.
var ErrLocked = errors.New("another process seals into the folder")

// Lock makes the folder and holds the right to write to it until close is called, or the process ends, however it does.
func (f Folder) Lock() (unlock func() error, err error) {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(string(f)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("%w: %s.lock: %w", ErrLocked, string(f), err)
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
