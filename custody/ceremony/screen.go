package ceremony

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Screen is the terminal of the room. An implementation
//   - reads a Secret with the echo off from before the prompt is seen, straight into locked memory, and keeps no copy;
//   - writes what Reveal is given straight from locked memory;
//   - wipes what can be seen and scrolled back to in Clear;
//   - ends with an error when its terminal is closed or ctx ends, with the echo as it was before.
type Screen interface {
	Show(text string) error
	Line(ctx context.Context, prompt string) (string, error)
	Secret(ctx context.Context, prompt string) (secret.Bytes, error) // the caller wipes it
	Reveal(text secret.Bytes) error
	Clear() error
}

// maxTries is how often a custodian may type one thing.
const maxTries = 3

// What a ceremony ends by, beside a Screen's own errors. Nothing has been done then.
var (
	ErrTooManyTries = errors.New("typed wrong too often")
	ErrCheckValue   = errors.New("the check value of the whole key is not the approved one")
	ErrWeakKey      = errors.New("the whole key is no key")
	ErrRefused      = errors.New("not confirmed")
)

// confirm asks for one word, as often as tries are.
func confirm(ctx context.Context, s Screen, prompt, want string) error {
	for range maxTries {
		got, err := s.Line(ctx, prompt)
		if err != nil {
			return err
		}
		if got == want {
			return nil
		}
		if err := s.Show(fmt.Sprintf("That is not %s.\n", want)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s was asked for", ErrRefused, want)
}

// ConfirmSubject is the last word before anything is done: its subject, typed.
func ConfirmSubject(ctx context.Context, s Screen, p *Plan) error {
	return confirm(ctx, s, fmt.Sprintf("Type %s to go on; anything else, three times, ends the ceremony: ", p.Subject()), p.Subject())
}
