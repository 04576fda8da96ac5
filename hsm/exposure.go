package hsm

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Exposure is the truth about a key's boundary (DESIGN, §2): whether whoever holds the PIN can take card keys out of the token.
type Exposure struct {
	Label       string
	Boundary    keyderive.Boundary
	Extractable bool
	Detail      string // a sentence for the operator, without a value
}

// Exposure tries to take a key out of the token that is derived from the master, as a thief with the PIN would: as an object that
// is not sensitive and is extractable. What it gets is in locked memory for the time of the look, is of a random factor, and is
// wiped and destroyed at once.
func (t *Token) Exposure(ctx context.Context, label string) (Exposure, error) {
	g, err := t.generation()
	if err != nil {
		return Exposure{}, err
	}
	e, err := g.entry(label)
	if err != nil {
		return Exposure{}, err
	}
	report := Exposure{Label: label, Boundary: e.spec.Boundary, Extractable: true}
	switch {
	case e.sealed != nil:
		report.Detail = "the master itself passes through process memory"
		return report, nil
	case e.right == mayEncrypt:
		report.Detail = "the master makes card keys by encryption, which the boundary allows"
		return report, nil
	}
	var out bool
	err = g.do(ctx, g.admin, newJob(simple(func(s *session) (err error) {
		out, err = e.extract(s)
		return err
	})))
	if err != nil {
		return Exposure{}, err
	}
	report.Extractable = out
	report.Detail = "the token refuses to derive a key that can be read"
	if out {
		report.Detail = "the token derives keys that can be read: the holder of the PIN is the boundary"
	}
	return report, nil
}

// extract reports whether a derived key could be read. A refusal of the request class is the good answer.
func (e *entry) extract(s *session) (out bool, err error) {
	var factor [suite.KeySize]byte
	rand.Read(factor[:])
	in, n := e.dialect.input(factor)
	object, err := s.derive(e.dialect.deriveECB, e.master.key, in[:n], e.dialect.keyType, 0, extractable)
	if classOf(err) == classRequest {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("try to derive a readable key: %w", err)
	}
	stolen := secret.New(n) // wiped at the end of this function, whatever it holds
	defer stolen.Wipe()
	err = s.value(object, stolen.Reveal("to see whether the token gives it away"))
	out = err == nil
	if isCode(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) || classOf(err) == classRequest {
		err = nil
	}
	if gone := s.destroy(object); err == nil {
		err = gone
	}
	return out, err
}
