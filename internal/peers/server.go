package peers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// Server is the server's certificate with its key. The key stays on the Go heap as long as it is in use: that is how crypto/tls works.
type Server struct {
	pair tls.Certificate
	leaf *x509.Certificate
}

func serverHalf(f Files) half[Server] {
	return half[Server]{
		files: []file{{field: "certificate", path: f.Certificate}, {field: "key", path: f.Key}},
		parse: func(files []file, _ *Server, now time.Time) (*Server, error) {
			return newServer(&files[0], &files[1], now)
		},
	}
}

// ReadServer reads a server's certificate and key; the error is a *Problem.
func ReadServer(f Files, now time.Time) (*Server, error) {
	h := serverHalf(f)
	s, _, err := h.look(nil, now, true)
	return s, err
}

// newServer takes a certificate that is valid now with the key that it is of.
func newServer(certificate, key *file, now time.Time) (*Server, error) {
	if _, err := certificate.blocks("CERTIFICATE", "certificate"); err != nil {
		return nil, err
	}
	if key.err != nil {
		return nil, &Problem{Field: key.field, Err: key.err}
	}
	if key.mode&0o077 != 0 {
		return nil, key.problem("has mode %04o: readable by others than its owner; chmod 0400 it", key.mode)
	}
	pair, err := tls.X509KeyPair(certificate.content, key.content)
	if err != nil {
		return nil, &Problem{Err: fmt.Errorf("certificate and key: %w", err)}
	}
	s := &Server{pair: pair, leaf: pair.Leaf}
	if now.Add(ahead).Before(s.leaf.NotBefore) {
		return nil, certificate.problem("is good from %s on, and not yet", s.leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if now.After(s.leaf.NotAfter) {
		return nil, certificate.problem("expired at %s", s.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return s, nil
}
