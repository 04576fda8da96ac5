package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Reason is why a certificate that once was good is refused. The zero value is none.
type Reason string

// The reasons.
const (
	Revoked     Reason = "revoked"
	Expired     Reason = "expired"
	Untrusted   Reason = "untrusted"      // its authority was taken out, or it is not for clients
	ListMissing Reason = "list_missing"   // an authority on its way has no list
	ListLate    Reason = "list_late"      // the list of an authority on its way is out of date
	NoPeer      Reason = "no_certificate" // the connection has none
)

// Reasons are all of them.
func Reasons() []Reason { return []Reason{Revoked, Expired, Untrusted, ListMissing, ListLate, NoPeer} }

// Refused is the error of a certificate that is not to be trusted now.
type Refused struct {
	Reason Reason
	Detail string
}

func (r *Refused) Error() string { return r.Detail }

// judgement is what was found out about a connection's certificate, and for how long that holds.
type judgement struct {
	generation uint64
	until      time.Time
	err        error
}

// refusedAgain is for how long a refusal holds by itself: time alone can mend one.
const refusedAgain = time.Second

// connectionKey carries a connection's judgement in its context.
type connectionKey struct{}

// ConnContext is for http.Server: each connection keeps its own judgement.
func (p *Peers) ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(atomic.Pointer[judgement]))
}

// Check judges the certificate of a request's connection as of now; the error is a *Refused.
func (p *Peers) Check(ctx context.Context, state *tls.ConnectionState) error {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return &Refused{NoPeer, "a client certificate is needed"}
	}
	now, current := p.config.Now(), p.current.Load()
	kept, _ := ctx.Value(connectionKey{}).(*atomic.Pointer[judgement])
	if kept != nil {
		if j := kept.Load(); j != nil && j.generation == current.generation && now.Before(j.until) {
			return j.err
		}
	}
	p.judged.Add(1)
	until, err := current.clients.Judge(state.PeerCertificates, now)
	if err != nil {
		until = now.Add(refusedAgain)
	}
	if kept != nil {
		kept.Store(&judgement{current.generation, until, err})
	}
	return err
}

// Judge verifies what a peer presented, its own certificate first. Until is when that has to be done again although no file has changed.
// One whole chain that holds is enough.
func (c *Clients) Judge(presented []*x509.Certificate, now time.Time) (until time.Time, err error) {
	between := x509.NewCertPool()
	for _, certificate := range presented[1:] {
		between.AddCert(certificate)
	}
	chains, err := presented[0].Verify(x509.VerifyOptions{
		Roots: c.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return until, &Refused{Expired, "the client certificate, or one above it, is expired"}
		}
		return until, &Refused{Untrusted, "no authority of clients stands for the client certificate any more"}
	}
	var first error
	for _, chain := range chains {
		until, err := c.judgeChain(chain, now)
		if err == nil {
			return until, nil
		}
		if first == nil {
			first = err
		}
	}
	return until, first
}

// judgeChain looks each certificate of a chain up in the list of the one above it, also those of authorities that stand at its end: an
// authority in the file may itself be under another in the file.
func (c *Clients) judgeChain(chain []*x509.Certificate, now time.Time) (until time.Time, err error) {
	until = chain[0].NotAfter
	for _, certificate := range chain {
		until = earlier(until, certificate.NotAfter)
	}
	until = until.Add(time.Nanosecond) // it is good at its last moment still
	if !c.listed {
		return until, nil
	}
	const highest = 16 // no way up is longer, but two authorities that vouch for one another make one without an end
	way := chain[:len(chain):len(chain)]
	for i := 0; i < len(way) && i < highest; i++ {
		var above *x509.Certificate
		if i+1 < len(way) {
			above = way[i+1]
		} else if above = c.issuerOf(way[i]); above == nil {
			break // the file stands for it, and names nobody above it
		} else if !above.Equal(way[i]) {
			way = append(way, above)
		}
		ends, err := c.lookUp(way[i], above, now)
		if err != nil {
			return until, err
		}
		until = earlier(until, ends)
	}
	return until, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lookUp finds a certificate in its issuer's list. ends is when the list lets nobody in any more.
func (c *Clients) lookUp(certificate, issuer *x509.Certificate, now time.Time) (ends time.Time, err error) {
	list := c.lists[identify(issuer)]
	if list == nil {
		return ends, &Refused{ListMissing, fmt.Sprintf("there is no list of the certificates that %q revoked", issuer.Subject)}
	}
	if at, revoked := list.revoked[string(certificate.SerialNumber.Bytes())]; revoked {
		return ends, &Refused{Revoked, fmt.Sprintf("certificate %s is revoked since %s", name(certificate), at.UTC().Format(time.RFC3339))}
	}
	ends = list.NextUpdate.Add(c.grace)
	if !now.Before(ends) {
		return ends, &Refused{ListLate, fmt.Sprintf("the list of the certificates that %q revoked is out of date since %s",
			issuer.Subject, list.NextUpdate.UTC().Format(time.RFC3339))}
	}
	return ends, nil
}
