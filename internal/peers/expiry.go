package peers

import (
	"crypto/x509"
	"slices"
	"time"
)

// Expiry is when something that is in use ends.
type Expiry struct {
	Kind string // server, client-ca or crl
	Name string // the subject of the certificate, or the list's issuer
	At   time.Time
}

// Expiries are when the certificates in use end: of the server's chain and of each authority the one that ends first, and of each list its
// next update.
func (p *Peers) Expiries() (all []Expiry) {
	add := func(kind, name string, at time.Time) { // a metric has one value for each name
		i := slices.IndexFunc(all, func(e Expiry) bool { return e.Kind == kind && e.Name == name })
		if i < 0 {
			all = append(all, Expiry{kind, name, at})
			return
		}
		all[i].At = earlier(all[i].At, at)
	}
	current := p.current.Load()
	server := current.server.leaf.Subject.String()
	add("server", server, current.server.leaf.NotAfter)
	for _, der := range current.server.pair.Certificate[1:] {
		if above, err := x509.ParseCertificate(der); err == nil {
			add("server", server, above.NotAfter)
		}
	}
	for _, ca := range current.clients.authorities {
		add("client-ca", ca.Subject.String(), ca.NotAfter)
	}
	for _, list := range current.clients.lists {
		add("crl", list.Issuer.String(), list.NextUpdate)
	}
	return all
}

// Outdated says which halves of the files are not in use as they are now: the server's, and the clients'.
func (p *Peers) Outdated() (server, clients bool) {
	return p.outdated.server.Load(), p.outdated.clients.Load()
}
