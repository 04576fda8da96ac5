// Package peers is who may be at the other end of a TLS connection, and who this end says it is: the server's certificate and key, the
// authorities of clients, and their lists of revoked certificates. All are files, and are read again while the service runs.
//
// A certificate is judged twice. The handshake judges it as crypto/tls does. [Peers.Check] judges it anew for each request, by what the
// files say now: a connection, and a stream on it, may be open for hours after the certificate was revoked, its authority was taken out,
// or it expired. The judgement of a connection is kept until something moves that it hangs on, so a request pays for a comparison.
//
// Files are taken in two halves, each whole or not at all: the server's certificate with its key, and the authorities with their lists. A
// half that cannot be used leaves the one in use as it is, and alarms.
package peers

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Files names what is read. The paths must be absolute or relative to the working folder.
type Files struct {
	Certificate string // PEM, the server's own first, then those between it and its root
	Key         string // PEM, for the owner alone
	ClientCA    string // PEM, the authorities of clients
	CRL         string // lists of revoked certificates, PEM or one in DER; "" for none: then nothing is revoked
	// Grace is for how long after its next update was due a list still lets clients in. The zero value lets nobody in from then on.
	Grace time.Duration
}

// Problem is what is wrong with a file.
type Problem struct {
	Field string // certificate, key, clientCA or crl; "" for the certificate and the key together
	Err   error
}

func (p *Problem) Error() string {
	if p.Field == "" {
		return "tls: " + p.Err.Error()
	}
	return "tls." + p.Field + ": " + p.Err.Error()
}

func (p *Problem) Unwrap() error { return p.Err }

// Config is what Open needs.
type Config struct {
	Files Files
	Log   *slog.Logger
	Alarm func(audit.Event) // CertificatesRefused, RevocationListLate
	Now   func() time.Time  // nil: time.Now
}

// Peers is what is in use now. It may be used by many goroutines.
type Peers struct {
	config  Config
	current atomic.Pointer[trust] // replaced as a whole, by the one that holds looking

	looking sync.Mutex // one look at the files at a time; guards what follows
	server  half[Server]
	clients half[Clients]
	late    map[authorityID]bool // whose list is out of date, and was alarmed

	outdated struct{ server, clients atomic.Bool } // the newest files of the half are not in use

	judged atomic.Uint64 // judgements made: a test asks what requests cost
}

// trust is one state of both halves. It does not change.
type trust struct {
	generation uint64
	server     *Server
	clients    *Clients
	tls        *tls.Config
}

// Open reads all files; the error is a *Problem.
func Open(c Config) (*Peers, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Peers{config: c, late: map[authorityID]bool{}, server: serverHalf(c.Files), clients: clientsHalf(c.Files)}
	server, _, err := p.server.look(nil, c.Now(), true)
	if err != nil {
		return nil, err
	}
	clients, _, err := p.clients.look(nil, c.Now(), true)
	if err != nil {
		return nil, err
	}
	p.use(server, clients)
	p.alarmLate()
	return p, nil
}

// use puts a state into use. looking is held, or nobody else has p yet.
func (p *Peers) use(server *Server, clients *Clients) {
	next := &trust{generation: 1, server: server, clients: clients}
	if before := p.current.Load(); before != nil {
		next.generation = before.generation + 1
	}
	next.tls = p.serving()
	next.tls.Certificates = []tls.Certificate{server.pair}
	next.tls.ClientCAs = clients.pool
	p.current.Store(next)
}

// serving is what every connection has in common. Sessions are not resumed: a resumed one skips the judgement of the certificate.
func (p *Peers) serving() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(),
		SessionTicketsDisabled: true, NextProtos: []string{"h2", "http/1.1"}, Time: p.config.Now,
	}
}

// TLS is for a server. Each connection gets what is in use when it begins.
func (p *Peers) TLS() *tls.Config {
	c := p.serving()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return p.current.Load().tls, nil }
	return c
}

// Generation counts the states that were in use, from 1.
func (p *Peers) Generation() uint64 { return p.current.Load().generation }
