package rpc

import (
	"context"
	"crypto/x509"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/policy"
)

// arrivalKey carries a request's arrival.
type arrivalKey struct{}

// arrival is a request whose caller is known. It is used by the request's goroutine alone.
type arrival struct {
	caller policy.Caller
	read   bool // its message was read, and the handler accounts for it

	trusted func(context.Context) error // judges the certificate again; nil outside a server

	control *http.ResponseController // of its time limits; nil outside a server
}

func arrivalOf(ctx context.Context) *arrival {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		return a
	}
	return &arrival{}
}

// callerOf returns the caller of a request; the zero Caller, whom the policy knows nothing of, when there is none.
func callerOf(ctx context.Context) policy.Caller { return arrivalOf(ctx).caller }

// stillTrusted judges the caller's certificate in the middle of a stream.
func (a *arrival) stillTrusted(ctx context.Context) error {
	if a.trusted == nil {
		return nil
	}
	return a.trusted(ctx)
}

// names are what a certificate calls its holder: exact URIs and DNS names, never its common name.
func names(certificate *x509.Certificate) []string {
	all := make([]string, 0, len(certificate.URIs)+len(certificate.DNSNames))
	for _, uri := range certificate.URIs {
		all = append(all, uri.String())
	}
	return append(all, certificate.DNSNames...)
}

// identified finds the caller of each request among the policy's clients before any handler runs, and accounts for the
// requests that no handler sees.
func (s *service) identified(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter(strictCodecs())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.identify(r)
		if err != nil {
			coded := wire(err)
			s.unread(r, caller, coded.Code().String(), err)
			_ = refuse.Write(w, r, coded)
			return
		}
		a := &arrival{caller: caller, control: http.NewResponseController(w)}
		a.trusted = func(ctx context.Context) error { return s.trusted(ctx, r) }
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), arrivalKey{}, a)))
		if !a.read {
			s.unread(r, caller, codeMalformed, nil)
		}
	})
}

func (s *service) identify(r *http.Request) (policy.Caller, error) {
	if err := s.trusted(r.Context(), r); err != nil {
		return policy.Caller{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout) // a refusal is recorded
	defer cancel()
	return s.signer.Identify(ctx, names(r.TLS.VerifiedChains[0][0]))
}
