package peers

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// revocationList is one list of revoked certificates (RFC 5280 §5): a whole one, of the authority that signed it.
type revocationList struct {
	*x509.RevocationList
	revoked map[string]time.Time // by the bytes of the serial number
}

// ahead is by how much the clock of whoever signs may be ahead of this one.
const ahead = 5 * time.Minute

// What a list may carry, RFC 5280 §5.2 and §5.3.
var (
	authorityKeyID    = asn1.ObjectIdentifier{2, 5, 29, 35}
	listNumber        = asn1.ObjectIdentifier{2, 5, 29, 20}
	deltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	distributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	certificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// revocationLists reads one list in DER, or any number in PEM.
func (f *file) revocationLists() (all []*revocationList, err error) {
	blocks := [][]byte{f.content}
	if f.err != nil || !bytes.HasPrefix(f.content, []byte{0x30}) { // DER begins with a SEQUENCE
		if blocks, err = f.blocks("X509 CRL", "list of revoked certificates"); err != nil {
			return nil, err
		}
	}
	for i, der := range blocks {
		list, err := parseList(bytes.Clone(der)) // the file's own bytes are wiped
		if err != nil {
			return nil, f.problem("list %d: %w", i+1, err)
		}
		all = append(all, list)
	}
	return all, nil
}

// parseList refuses what says less than which of an authority's certificates are revoked.
func parseList(der []byte) (*revocationList, error) {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if err := wholeList(parsed.Extensions); err != nil {
		return nil, err
	}
	switch {
	case parsed.Number == nil:
		return nil, errors.New("has no number (cRLNumber), so an older one could not be told from a newer: expected a list of version 2 with it")
	case parsed.NextUpdate.IsZero():
		return nil, errors.New("does not say when the next one is due (nextUpdate)")
	case parsed.NextUpdate.Before(parsed.ThisUpdate):
		return nil, errors.New("is due for its next update before it was made")
	}
	list := &revocationList{parsed, make(map[string]time.Time, len(parsed.RevokedCertificateEntries))}
	for _, entry := range parsed.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			switch {
			case e.Id.Equal(certificateIssuer):
				return nil, errors.New("is an indirect list, of certificates of several issuers: expected the authority's own")
			case e.Critical:
				return nil, fmt.Errorf("certificate %X has a critical extension %v, which is not known", entry.SerialNumber, e.Id)
			}
		}
		list.revoked[string(entry.SerialNumber.Bytes())] = entry.RevocationTime
	}
	return list, nil
}

// wholeList refuses a list of a part, or of more than one authority.
func wholeList(extensions []pkix.Extension) error {
	for _, e := range extensions {
		switch {
		case e.Id.Equal(deltaIndicator):
			return errors.New("is a delta list, which says only what has changed: expected a whole one")
		case e.Id.Equal(distributionPoint):
			return partOf(e.Value)
		case e.Critical && !e.Id.Equal(authorityKeyID) && !e.Id.Equal(listNumber):
			return fmt.Errorf("has a critical extension %v, which is not known", e.Id)
		}
	}
	return nil
}

// issuingDistributionPoint is RFC 5280 §5.2.5, as far as it is told apart here.
type issuingDistributionPoint struct {
	Point      asn1.RawValue `asn1:"optional,tag:0"`
	User       bool          `asn1:"optional,tag:1"`
	CA         bool          `asn1:"optional,tag:2"`
	Reasons    asn1.RawValue `asn1:"optional,tag:3"`
	Indirect   bool          `asn1:"optional,tag:4"`
	Attributes bool          `asn1:"optional,tag:5"`
}

// partOf says why a list with an issuing distribution point is refused: there may be others beside it, with other certificates.
func partOf(value []byte) error {
	var point issuingDistributionPoint
	if _, err := asn1.Unmarshal(value, &point); err == nil && point.Indirect {
		return errors.New("is an indirect list, of certificates of several issuers: expected the authority's own")
	}
	return errors.New("is for one distribution point (issuingDistributionPoint), perhaps of a part of the certificates: expected one list of all")
}

// check holds the list against the clock. One that is out of date is taken: what it revokes is revoked, and [Clients.Judge] does the rest.
func (l *revocationList) check(now time.Time) error {
	if l.ThisUpdate.After(now.Add(ahead)) {
		return fmt.Errorf("is of a time to come, %s", l.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// follows refuses a list that is older than the one in use, or another of the same number.
func (l *revocationList) follows(used *revocationList) error {
	switch order := l.Number.Cmp(used.Number); {
	case order < 0:
		return fmt.Errorf("has the number %v, and the one in use has %v: it went back", l.Number, used.Number)
	case order == 0 && !bytes.Equal(l.Raw, used.Raw):
		return fmt.Errorf("has the number %v of the one in use, and is another", l.Number)
	case l.ThisUpdate.Before(used.ThisUpdate):
		return fmt.Errorf("is of %s, and the one in use is newer: it went back", l.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}
