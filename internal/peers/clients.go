package peers

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"
)

// Clients is whose signature makes a certificate one of a client, and which certificates they took back.
type Clients struct {
	authorities []*x509.Certificate
	pool        *x509.CertPool
	listed      bool // there are lists: each authority has one
	lists       map[authorityID]*revocationList
	grace       time.Duration
	unused      []string // issuers of lists that are no authority's
}

// authorityID tells authorities apart by their name and key, which is what a list is signed under: an authority whose certificate was
// renewed is the same one.
type authorityID [sha256.Size]byte

func identify(c *x509.Certificate) authorityID {
	h := sha256.New()
	subject := sha256.Sum256(c.RawSubject)
	h.Write(subject[:])
	h.Write(c.RawSubjectPublicKeyInfo)
	return authorityID(h.Sum(nil))
}

func clientsHalf(f Files) half[Clients] {
	h := half[Clients]{files: []file{{field: "clientCA", path: f.ClientCA}}}
	if f.CRL != "" {
		h.files = append(h.files, file{field: "crl", path: f.CRL})
	}
	h.parse = func(files []file, before *Clients, now time.Time) (*Clients, error) {
		c, err := newClients(&files[0], f.Grace)
		if err == nil && len(files) > 1 {
			err = c.takeLists(&files[1], before, now)
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return h
}

// ReadClients reads the authorities of clients with their lists; the error is a *Problem.
func ReadClients(f Files, now time.Time) (*Clients, error) {
	h := clientsHalf(f)
	c, _, err := h.look(nil, now, true)
	return c, err
}

func newClients(f *file, grace time.Duration) (*Clients, error) {
	blocks, err := f.blocks("CERTIFICATE", "certificate")
	if err != nil {
		return nil, err
	}
	c := &Clients{pool: x509.NewCertPool(), lists: map[authorityID]*revocationList{}, grace: grace}
	for i, der := range blocks {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, f.problem("certificate %d: %w", i+1, err)
		}
		c.authorities = append(c.authorities, ca)
		c.pool.AddCert(ca)
	}
	return c, nil
}

// takeLists gives each authority its list.
func (c *Clients) takeLists(f *file, before *Clients, now time.Time) error {
	lists, err := f.revocationLists()
	if err != nil {
		return err
	}
	c.listed = true
	for _, list := range lists {
		if err := c.takeList(f, list, before, now); err != nil {
			return err
		}
	}
	for _, ca := range c.authorities {
		if c.lists[identify(ca)] == nil {
			return f.problem("holds no list of the authority %q, which tls.clientCA names: its revoked certificates would not be known", ca.Subject)
		}
	}
	return nil
}

// takeList finds the authority that signed a list. A list of nobody that clients may be under is left alone: an authority may be taken out
// before its list is.
func (c *Clients) takeList(f *file, list *revocationList, before *Clients, now time.Time) error {
	var named, signed *x509.Certificate
	var why error
	for _, ca := range c.authorities {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		named = ca
		err := list.CheckSignatureFrom(ca)
		if err == nil {
			signed = ca
			break
		}
		why = err
	}
	switch {
	case named == nil:
		c.unused = append(c.unused, list.Issuer.String())
		return nil
	case signed == nil:
		return f.problem("the list of %q was not signed by that authority: %w", list.Issuer, why)
	}
	id := identify(signed)
	if c.lists[id] != nil {
		return f.problem("holds two lists of %q, expected the newest alone", list.Issuer)
	}
	if err := list.check(now); err != nil {
		return f.problem("the list of %q %w", list.Issuer, err)
	}
	if before != nil && before.lists[id] != nil {
		if err := list.follows(before.lists[id]); err != nil {
			return f.problem("the list of %q %w", list.Issuer, err)
		}
	}
	c.lists[id] = list
	return nil
}

// issuerOf finds the authority that issued a certificate, itself where it did that itself; nil when it is not among them.
func (c *Clients) issuerOf(certificate *x509.Certificate) *x509.Certificate {
	for _, ca := range c.authorities {
		if bytes.Equal(ca.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// name is how an error calls a certificate.
func name(c *x509.Certificate) string { return fmt.Sprintf("%X of %q", c.SerialNumber, c.Issuer) }
