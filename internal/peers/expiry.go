package peers

import (
	"crypto/x509"
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
	current := p.current.Load()
	ends := current.server.leaf.NotAfter
	for _, der := range current.server.pair.Certificate[1:] {
		if above, err := x509.ParseCertificate(der); err == nil && above.NotAfter.Before(ends) {
			ends = above.NotAfter
		}
	}
	all = append(all, Expiry{"server", current.server.leaf.Subject.String(), ends})
	seen := map[string]int{}
	for _, ca := range current.clients.authorities {
		subject := ca.Subject.String()
		if i, twice := seen[subject]; twice { // a metric has one value for each name
			if ca.NotAfter.Before(all[i].At) {
				all[i].At = ca.NotAfter
			}
			continue
		}
		seen[subject] = len(all)
		all = append(all, Expiry{"client-ca", subject, ca.NotAfter})
	}
	clear(seen)
	for _, list := range current.clients.lists {
		issuer := list.Issuer.String()
		if i, twice := seen[issuer]; twice {
			if list.NextUpdate.Before(all[i].At) {
				all[i].At = list.NextUpdate
			}
			continue
		}
		seen[issuer] = len(all)
		all = append(all, Expiry{"crl", issuer, list.NextUpdate})
	}
	return all
}

// Outdated says which halves of the files are not in use as they are now: the server's, and the clients'.
func (p *Peers) Outdated() (server, clients bool) {
	return p.outdated.server.Load(), p.outdated.clients.Load()
}
