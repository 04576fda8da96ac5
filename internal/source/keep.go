package source

import (
	"context"
	"fmt"
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

func (v *vault) keep(ctx context.Context, report func(error)) {
	var ended *api.Client
	for tries := 0; ctx.Err() == nil; {
		client, err := v.loggedIn(ctx, ended)
		if err == nil {
			tries = 0
			ended = client
			err = v.renew(ctx, client)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			report(err)
		}
		sleep(ctx, v.relogs.after(tries))
		tries++
	}
}

// renew holds client's token alive, and answers when it has ended or is about to: nil when its time was simply up.
func (v *vault) renew(ctx context.Context, client *api.Client) error {
	v.mu.Lock()
	lease := v.lease
	v.mu.Unlock()
	if lease.Auth.LeaseDuration == 0 {
		<-ctx.Done() // it never ends; one that is revoked is replaced by the next read
		return nil
	}
	watcher, err := client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: lease})
	if err != nil {
		return fmt.Errorf("%v: renew: %w", v, err)
	}
	go watcher.Start() // ends by Stop, at the latest when the request in flight does
	defer watcher.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-watcher.DoneCh():
		if err != nil {
			return v.fault(ctx, "renew the token", err)
		}
		return nil
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
