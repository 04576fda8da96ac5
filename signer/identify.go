package signer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Identify finds the caller among the names of a verified client certificate. Whom it refuses, it refuses by the newest rules: another node's
// officers may have added or resumed him a moment ago. The refusal is for Refuse to record: whoever has a certificate may ask as often as he likes.
func (s *Signer) Identify(ctx context.Context, names []string) (policy.Caller, error) {
	caller, err := s.view().keys.policy.Identify(names)
	if err == nil || s.Revision() == 0 {
		return caller, err
	}
	if err := s.refresh(ctx); err != nil {
		return policy.Caller{}, err
	}
	return s.view().keys.policy.Identify(names)
}

// refresh takes the catalogue as it stands in the store now, where officers decide on one. Those who ask at once share what is read.
func (s *Signer) refresh(ctx context.Context) error {
	if s.Revision() == 0 {
		return nil
	}
	if err := s.newest.read(func() error { return s.reload(context.WithoutCancel(ctx)) }); err != nil {
		return fmt.Errorf("%w: the catalogue could not be read: %w", store.ErrUnavailable, err)
	}
	return nil
}

// together reads for many at once: whoever comes while others read waits, and takes what was begun to be read after he came. So strangers, as many
// as there are, keep the store busy with one read at a time. The zero value is ready.
type together struct {
	begun atomic.Uint64
	mu    sync.Mutex // held while one reads; guards err
	err   error      // of the last read
}

func (t *together) read(read func() error) error {
	came := t.begun.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun.Load() == came {
		t.begun.Add(1)
		t.err = read()
	}
	return t.err
}
