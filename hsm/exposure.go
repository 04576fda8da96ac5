package hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
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
// is not sensitive and is extractable, private or not, of the master's type or of none. What it gets is in locked memory for the time of
// the look, is of a random factor, and is wiped and destroyed at once. Attempts that tell nothing are an error.
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
		return Exposure{}, fmt.Errorf("key %q: %w", label, err)
	}
	report.Extractable = out
	report.Detail = "the token refuses to derive a key that can be read"
	if out {
		report.Detail = "the token derives keys that can be read: the holder of the PIN is the boundary"
	}
	return report, nil
}

// policy are the answers that refuse a readable key because it would be readable. Others, such as of a key type that the token
// lacks, say nothing of that.
var policy = map[pkcs11.Error]bool{
	pkcs11.CKR_TEMPLATE_INCONSISTENT:   true,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID: true,
	pkcs11.CKR_ATTRIBUTE_SENSITIVE:     true,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:     true,
	pkcs11.CKR_KEY_UNEXTRACTABLE:       true,
	pkcs11.CKR_ACTION_PROHIBITED:       true,
}

// errNotTold says that an attempt failed for a reason that tells nothing of the key's exposure.
var errNotTold = errors.New("whether the token gives derived keys away is not known")

// extract reports whether a derived key could be read, in any of the forms that a thief would try. That it could not is reported
// only when the token refused each of them by policy.
func (e *entry) extract(s *session) (out bool, err error) {
	var unclear error
	for _, form := range []struct {
		keyType, valueLen uint
		may               rights
	}{
		{e.dialect.keyType, 0, extractable},
		{e.dialect.keyType, 0, extractable | private},
		{pkcs11.CKK_GENERIC_SECRET, suite.KeySize, extractable},
		{pkcs11.CKK_GENERIC_SECRET, suite.KeySize, extractable | private},
	} {
		var factor [suite.KeySize]byte
		rand.Read(factor[:])
		in, n := e.dialect.input(factor)
		object, err := s.derive(e.dialect.deriveECB, e.master.key, in[:n], form.keyType, form.valueLen, form.may)
		if err == nil {
			out, err = s.steal(object)
		}
		var code pkcs11.Error
		switch {
		case out && classOf(err) <= classRequest:
			return true, nil
		case classOf(err) > classRequest:
			return false, fmt.Errorf("try to derive a readable key: %w", err)
		case !errors.As(err, &code) || !policy[code]:
			unclear = fmt.Errorf("%w: try to derive a readable key: %w", errNotTold, err)
		}
	}
	return false, unclear
}

// steal reads a derived key and destroys it. A value of another length than asked for is one that was given away too.
func (s *session) steal(object pkcs11.ObjectHandle) (out bool, err error) {
	stolen := secret.New(longKey) // wiped at the end of this function, whatever it holds
	defer stolen.Wipe()
	value := stolen.Reveal("to see whether the token gives it away")
	err = s.value(object, value)
	if err == nil || errors.Is(err, errLength) {
		out, err = !bytes.Equal(value, make([]byte, longKey)), nil
	}
	if gone := s.destroy(object); gone != nil && classOf(err) <= classRequest {
		err = gone
	}
	return out, err
}
