package rpc

import (
	"context"
	"crypto/x509"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/policy"
)

// callerKey carries the caller that the client certificate proved.
type callerKey struct{}

// callerOf returns the caller of a request; the zero Caller, whom the policy knows nothing of, when there is none.
func callerOf(ctx context.Context) policy.Caller {
	caller, _ := ctx.Value(callerKey{}).(policy.Caller)
	return caller
}

// names are what a certificate calls its holder: exact URIs and DNS names, never its common name.
func names(certificate *x509.Certificate) []string {
	all := make([]string, 0, len(certificate.URIs)+len(certificate.DNSNames))
	for _, uri := range certificate.URIs {
		all = append(all, uri.String())
	}
	return append(all, certificate.DNSNames...)
}

// identified finds the caller of each request among the policy's clients before any handler runs.
func (s *service) identified(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter(strictCodecs())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			_ = refuse.Write(w, r, connect.NewError(connect.CodeUnauthenticated, errNoCertificate))
			return
		}
		caller, err := s.signer.Identify(r.Context(), names(r.TLS.VerifiedChains[0][0]))
		if err != nil {
			_ = refuse.Write(w, r, wire(err))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	})
}
