package hsm

import (
	"context"
	"errors"
	"fmt"
)

// Forget takes a key out of what is configured: it is lent no more, Lends that run come to their end, within ctx, and with it go its
// issuer-level keys and what Exposure found. The master stays where it is: another process destroyed it, or will. A label that is not
// configured is forgotten already.
func (t *Token) Forget(ctx context.Context, label string) error {
	leave, err := t.enterOffice(ctx)
	if err != nil {
		return err
	}
	defer leave()
	g, err := t.generation()
	if errors.Is(err, ErrUnavailable) { // nothing is lent, and the next generation looks for what is configured then
		t.mu.Lock()
		delete(t.specs, label)
		delete(t.found, label)
		t.mu.Unlock()
		return nil
	}
	if err != nil {
		return err
	}
	e, err := t.forgetKey(ctx, g, label)
	if err != nil {
		return fmt.Errorf("forget key %q: lends still run: %w", label, err)
	}
	if e == nil {
		return nil
	}
	return t.onAdminOf(ctx, g, fmt.Sprintf("forget key %q", label), func(s *session) error {
		defer g.left(label)
		return g.forget(s, e)
	})
}
