package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// errInClear is what the guard refuses.
var errInClear = errors.New("it redirects to plain http")

// errRefused is a status 400: what we asked makes no sense to Vault.
var errRefused = fmt.Errorf("%w: it refuses the request", ErrUnusable)

// maxWait bounds what Vault can ask us to wait.
const maxWait = 10 * time.Minute

// limited is ErrRateLimited with the time that Vault asks to be left alone, 0 where it does not say.
type limited struct{ after time.Duration }

func (l limited) Error() string {
	if l.after == 0 {
		return ErrRateLimited.Error()
	}
	return fmt.Sprintf("%v: ask again in %v", ErrRateLimited, l.after)
}

func (limited) Is(target error) bool { return target == ErrRateLimited }

// RetryAfter is how long the Vault that gave an ErrRateLimited asks to be left alone, at most ten minutes; 0 where it does not
// say, and for every other error.
func RetryAfter(err error) time.Duration {
	var l limited
	errors.As(err, &l)
	return l.after
}

// reply is what is kept of an answer's head.
type reply struct {
	status int
	after  time.Duration
}

func (r *reply) note(answer *api.Response) {
	r.status = answer.StatusCode
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.after = min(time.Duration(seconds)*time.Second, maxWait)
	}
}

// redirected says that Vault sent us on once more than the library goes.
func (r *reply) redirected() bool { return r.status >= 300 && r.status < 400 }

// classify names what went wrong. What the server wrote is left out: it may repeat what we sent.
func (s *server) classify(ctx context.Context, heard reply, err error) error {
	var answered *api.ResponseError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, ErrUnusable): // made here, so it may be shown
		return err
	case errors.As(err, &answered):
		return s.status(ctx, heard, answered.StatusCode)
	case err == nil:
		return s.status(ctx, heard, heard.status)
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %w", ErrUntrusted, untrusted.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: it does not answer in time: %w", ErrAway, context.DeadlineExceeded)
	case errors.Is(err, errInClear):
		return fmt.Errorf("%w: %w", ErrUnusable, errInClear)
	case heard.status == 0:
		return unanswered(err)
	}
	return ErrUnusable
}

// unanswered is of a request that got no answer: the kernel's own errors and those of TLS may be shown, for others may hold
// what the server wrote.
func unanswered(err error) error {
	var broken *net.OpError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("%w: %w", ErrAway, broken)
	case errors.As(err, &notTLS):
		return fmt.Errorf("%w: it does not speak TLS", ErrUnusable)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it broke the connection", ErrAway)
	}
	return ErrUnusable
}

// status classifies an HTTP status. 500 and 503 are what a sealed Vault answers, one that stands by without an active node, and
// one that is overloaded: only its health tells, and it is asked without a token and outside any namespace.
func (s *server) status(ctx context.Context, heard reply, code int) error {
	kind := ErrAway
	switch code {
	case http.StatusForbidden, http.StatusUnauthorized:
		kind = ErrDenied
	case http.StatusNotFound:
		kind = ErrMissing
	case http.StatusBadRequest:
		kind = errRefused
	case http.StatusTooManyRequests:
		return limited{heard.after}
	case http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTemporaryRedirect:
		kind = s.unwell(ctx)
	}
	return fmt.Errorf("%w (status %d)", kind, code)
}

// health is what Vault says of itself to anybody.
func (s *server) health(ctx context.Context) (*api.HealthResponse, error) {
	client, err := s.connect("")
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return client.Sys().HealthWithContext(within)
}

// unwell says why Vault does not answer as it does when it is well.
func (s *server) unwell(ctx context.Context) error {
	health, err := s.health(ctx)
	switch {
	case err != nil, !health.Initialized:
		return ErrAway
	case health.Sealed:
		return ErrSealed
	case health.Standby && !health.PerformanceStandby:
		return ErrStandby
	}
	return ErrAway
}
