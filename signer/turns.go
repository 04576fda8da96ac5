package signer

import (
	"context"

	"github.com/pursekeeper/pursekeeper/policy"
)

// Turns shares the processors among works that are long, such as batches of TACs, so that they leave some to the short ones. A long work
// takes a turn for each part of some milliseconds.
type Turns interface {
	// Take returns when a part of client's work may run, or with the error of ctx. done ends the part. At any time one part may run.
	Take(ctx context.Context, client string) (done func(), err error)
}

// freely is no Turns: each part runs at once.
type freely struct{}

func (freely) Take(context.Context, string) (done func(), err error) { return func() {}, nil }

// inTurn does one part of a caller's long work.
func (s *service) inTurn(ctx context.Context, caller policy.Caller, part func() error) error {
	done, err := s.turns.Take(ctx, caller.Name())
	if err != nil {
		return err
	}
	defer done()
	return part()
}
