package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/hashicorp/vault/api"
)

// fault names what went wrong while doing something. What the server wrote is left out: it may repeat what we sent.
func (v *vault) fault(ctx context.Context, doing string, err error) error {
	return fmt.Errorf("%v: %s: %w", v, doing, v.classify(ctx, err))
}

func (v *vault) classify(ctx context.Context, err error) error {
	var answered *api.ResponseError
	var untrusted *tls.CertificateVerificationError
	var unsent *url.Error
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, ErrUnusable): // made here, so it may be shown
		return err
	case errors.As(err, &answered):
		return v.status(ctx, answered.StatusCode)
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %w", ErrUntrusted, untrusted.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrAway, context.DeadlineExceeded)
	case errors.As(err, &unsent): // no connection, or it broke
		return fmt.Errorf("%w: %w", ErrAway, unsent.Err)
	}
	return ErrUnusable
}

// status classifies an HTTP status. 503 is a sealed Vault and also one that is overloaded or has no leader: only the seal's
// own status tells, and it is asked without a token and outside any namespace.
func (v *vault) status(ctx context.Context, code int) error {
	kind := ErrAway
	switch code {
	case http.StatusForbidden, http.StatusUnauthorized:
		kind = ErrDenied
	case http.StatusNotFound:
		kind = ErrMissing
	case http.StatusBadRequest:
		kind = ErrUnusable
	case http.StatusTooManyRequests:
		kind = ErrRateLimited
	case http.StatusServiceUnavailable:
		if v.sealed(ctx) {
			kind = ErrSealed
		}
	}
	return fmt.Errorf("%w (status %d)", kind, code)
}

func (v *vault) sealed(ctx context.Context) bool {
	client, err := v.connect("")
	if err != nil {
		return false
	}
	seal, err := client.Sys().SealStatusWithContext(ctx)
	return err == nil && seal.Sealed
}
