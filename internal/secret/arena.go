package secret

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Small secrets are slots of one locked region, so that a card key costs no system call; larger ones get pages of their own.
const (
	slotSize   = 64
	regionSize = 64 << 10
)

// arena is the process's locked memory. mu guards free; a slot is owned by whoever took it until it is given back zeroed.
var arena struct {
	mu   sync.Mutex
	free [][]byte
}

// Available reports whether the process may lock memory at all; serve and dev ask before they open the token.
func Available() error {
	mem, err := take(1)
	if err != nil {
		return err
	}
	give(mem[:cap(mem)])
	return nil
}

func take(n int) ([]byte, error) {
	if n > slotSize {
		mem, err := lock(n)
		if err != nil {
			return nil, err
		}
		return mem[:n], nil
	}
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if len(arena.free) == 0 {
		region, err := lock(regionSize)
		if err != nil {
			return nil, err
		}
		for at := 0; at < regionSize; at += slotSize {
			arena.free = append(arena.free, region[at:at+slotSize:at+slotSize])
		}
	}
	last := len(arena.free) - 1
	slot := arena.free[last]
	arena.free = arena.free[:last]
	return slot[:n], nil
}

// give takes back a whole slot or mapping.
func give(whole []byte) {
	clear(whole)
	if len(whole) > slotSize {
		_ = unix.Munmap(whole) // zeroed already; a failure leaves an unused, locked, empty mapping
		return
	}
	arena.mu.Lock()
	arena.free = append(arena.free, whole)
	arena.mu.Unlock()
}

// lock maps n bytes outside the Go heap, locks them in memory and leaves them out of core dumps.
func lock(n int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map secret memory: %w", err)
	}
	if err := unix.Mlock(mem); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("lock secret memory (see ulimit -l): %w", err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("keep secret memory out of core dumps: %w", err)
	}
	return mem, nil
}
