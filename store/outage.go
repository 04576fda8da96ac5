package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// learn finds out what became of a commit that nobody answered, and returns what the commit should have: nil where it was committed. Until
// it is known nothing else is decided here, for it would be decided on what may not be. What comes meanwhile is refused; the callers of the
// group wait, as long as their contexts let them.
func (w *writer) learn(unknown error) error {
	committed := false
	err := w.endure(func() (err error) {
		committed, err = w.engine.resolve()
		return err
	})
	switch {
	case err != nil: // the store is being closed
		return fmt.Errorf("%w: %w", unknown, err)
	case !committed:
		return fmt.Errorf("%w: its connection was lost: %w", errAgain, unknown)
	}
	return nil
}

// Pauses between tries to reach a database that is away: they double from the first to the last, with a part at random, so that nodes that
// lost it together do not come back together.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// endure tries until it succeeds, and refuses meanwhile everything that is asked of the store. It has an error only when the store is closed
// before: that of the last try.
func (s *Database) endure(try func() error) error {
	over := make(chan error, 1)
	go func() { over <- s.persist(try) }()
	for {
		select {
		case err := <-over:
			return err
		case waiting := <-s.queue:
			waiting.done <- fmt.Errorf("%w: %w", ErrUnavailable, errAway)
		}
	}
}

func (s *Database) persist(try func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-s.stop:
			return errors.Join(err, try()) // the last
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}
