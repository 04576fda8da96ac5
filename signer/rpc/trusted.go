package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/internal/peers"
)

// trusted judges the certificate of a request's connection as of now. A refusal is counted, and recorded as one of an unknown caller is;
// but of one certificate once in a while only, for whoever holds a certificate that was taken back may ask as often as he likes.
func (s *service) trusted(ctx context.Context, r *http.Request) error {
	err := s.peers.Check(ctx, r.TLS)
	var refused *peers.Refused
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused):
		return err
	}
	s.metrics.refused.WithLabelValues(string(refused.Reason)).Inc()
	if refused.Reason != peers.NoPeer {
		if err := s.recordRefusal(ctx, r.TLS.PeerCertificates[0], string(refused.Reason), refused.Detail); err != nil {
			return err
		}
	}
	return connect.NewError(connect.CodeUnauthenticated, refused)
}

// recordRefusal records a refusal of a certificate for a reason, unless it has lately.
func (s *service) recordRefusal(ctx context.Context, certificate *x509.Certificate, reason, detail string) error {
	is, now := sha256.Sum256(append([]byte(reason+"\x00"), certificate.Raw...)), time.Now()
	if !s.refused.begin(is, now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout) // a caller who leaves does not keep it out of the record
	defer cancel()
	err := s.signer.Refuse(ctx, names(certificate), detail)
	if err != nil {
		s.refused.forget(is)
	}
	return err
}

// Of one certificate a refusal for one reason is recorded once in refusedAgain, and of no more than refusedAtMost in that time.
const (
	refusedAgain  = time.Hour
	refusedAtMost = 1000
)

// refusedCertificates are the certificates, with the reason, whose refusal was recorded, and when. The zero value is ready.
type refusedCertificates struct {
	mu       sync.Mutex // guards recorded
	recorded map[[sha256.Size]byte]time.Time
}

// begin reports whether a refusal is to be recorded, and takes it that it will be.
func (r *refusedCertificates) begin(certificate [sha256.Size]byte, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, found := r.recorded[certificate]; found && now.Sub(at) < refusedAgain {
		return false
	}
	if r.recorded == nil {
		r.recorded = map[[sha256.Size]byte]time.Time{}
	}
	if len(r.recorded) >= refusedAtMost {
		for other, at := range r.recorded {
			if now.Sub(at) >= refusedAgain {
				delete(r.recorded, other)
			}
		}
		if len(r.recorded) >= refusedAtMost {
			return false
		}
	}
	r.recorded[certificate] = now
	return true
}

func (r *refusedCertificates) forget(certificate [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.recorded, certificate)
}
