package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/vault/api"
)

// pause is the wait between tries: it doubles from first to last, with up to half of it at random, so that a fleet that lost
// Vault together does not come back together.
type pause struct{ first, last time.Duration }

func (p pause) after(tries int) time.Duration {
	wait := p.last
	if tries < 16 {
		wait = min(p.first<<tries, p.last)
	}
	return wait/2 + rand.N(wait/2+1)
}

// The library's own watcher of a token is not used: it keeps failures to itself until the token has ended, does not hear how long
// Vault asks to be left alone, and goes on with a token that a read has replaced.
func (s *server) keep(ctx context.Context, report func(error)) {
	var ended *session
	for tries := 0; ctx.Err() == nil; tries++ {
		in, err := s.loggedIn(ctx, ended)
		if err == nil {
			tries = 0
			ended = s.hold(ctx, in, report)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			report(err)
		}
		sleep(ctx, max(s.relogs.after(tries), RetryAfter(err)))
	}
}

// hold renews the token of a login when two thirds of its life are over. It returns when ctx ends, when another login has taken
// its place, or, with the login, when a new one is due: the token cannot be renewed, or for no longer, or was refused.
func (s *server) hold(ctx context.Context, in *session, report func(error)) (ended *session) {
	life, end := in.grant.life, in.at.Add(in.grant.life)
	wait := time.Until(end) - life/3
	if life == 0 {
		wait = math.MaxInt64 // it never ends; one that is revoked is replaced by the next read
	}
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-in.replaced:
			return nil
		case <-time.After(wait):
		}
		if !in.grant.renewable {
			return in
		}
		granted, err := s.renew(ctx, in.client)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failures, life = 0, granted.life
			renewed := time.Now().Add(life)
			if renewed.Before(end.Add(life / 6)) {
				return in // its longest life comes to an end: log in while it still serves
			}
			end, wait = renewed, life*2/3
		case errors.Is(err, ErrDenied), time.Now().After(end):
			return in
		default:
			report(err)
			wait = max(s.relogs.after(failures), RetryAfter(err))
			failures++
		}
	}
}

func (s *server) renew(ctx context.Context, client *api.Client) (grant, error) {
	answer, err := s.ask(ctx, client, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Auth().Token().RenewSelfWithContext(ctx, 0)
	})
	if err != nil {
		return grant{}, fmt.Errorf("%v: renew the token: %w", s, err)
	}
	return newGrant(answer)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
