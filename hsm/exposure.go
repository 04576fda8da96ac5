package hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

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
// the look, is of a random factor, and is wiped and destroyed at once. Attempts that tell nothing are an error. The detail also says of
// a master that it has been outside of the token, where the token knows: that is no fault of an imported one, and is not refused.
//
// The finding is kept for Findings, in the place of an earlier one; after an error there is none.
func (t *Token) Exposure(ctx context.Context, label string) (Exposure, error) {
	report, err := t.exposure(ctx, label)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		delete(t.found, label)
		return Exposure{}, err
	}
	if _, configured := t.specs[label]; configured { // and not destroyed meanwhile
		t.found[label] = report
	}
	return report, nil
}

// Findings are what Exposure found last of each key that was tried, by label. It makes no call of the token.
func (t *Token) Findings() []Exposure {
	t.mu.Lock()
	defer t.mu.Unlock()
	findings := make([]Exposure, 0, len(t.found))
	for _, label := range slices.Sorted(maps.Keys(t.found)) {
		findings = append(findings, t.found[label])
	}
	return findings
}

func (t *Token) exposure(ctx context.Context, label string) (Exposure, error) {
	g, err := t.generation()
	if err != nil {
		return Exposure{}, err
	}
	e, err := g.entry(label)
	if err != nil {
		return Exposure{}, err
	}
	report := Exposure{Label: label, Boundary: e.spec.Boundary, Extractable: true}
	if e.sealed != nil {
		report.Detail = "the master itself passes through process memory"
		return report, nil
	}
	if err := e.begin(); err != nil {
		return Exposure{}, err
	}
	var outside bool
	j := newJob(simple(func(s *session) (err error) {
		if outside, err = s.wasOutside(e.master.key); err == nil && e.right != mayEncrypt {
			report.Extractable, err = e.extract(s, t.config.Profile.XORKeys)
		}
		return err
	}))
	j.released = e.drop
	err = g.do(ctx, g.admin, j)
	switch {
	case err != nil:
		return Exposure{}, fmt.Errorf("key %q: %w", label, err)
	case e.right == mayEncrypt:
		report.Detail = "the master makes card keys by encryption, which the boundary allows"
	case report.Extractable:
		report.Detail = "the token derives keys that can be read: the holder of the PIN is the boundary"
	default:
		report.Detail = "the token refuses to derive a key that can be read"
	}
	if outside {
		report.Detail += "; the master was not made in the token, or could once leave it"
	}
	return report, nil
}

// wasOutside reports what the token remembers of a key: that it was not always sensitive, or could once be extracted. Every key that was
// imported is so. A token that does not know these attributes, or does not tell, says nothing.
func (s *session) wasOutside(key pkcs11.ObjectHandle) (bool, error) {
	for _, kind := range []uint{pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE} {
		value, known, err := s.attribute(key, kind)
		if classOf(err) > classRequest {
			return false, fmt.Errorf("attribute %#x: %w", kind, err)
		}
		if err == nil && known && len(value) == 1 && value[0] == 0 {
			return true, nil
		}
	}
	return false, nil
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

// theft is one way in which a thief with the PIN would have the token make a readable key of a master.
type theft func(*session) (pkcs11.ObjectHandle, error)

// thefts are the ways of a key: by ECB of a random factor, and by XOR with a key of random bytes where the token has that, each as an
// object of the master's type or of none, private or not.
func (e *entry) thefts(xorKeys uint) (all []theft) {
	for _, form := range []struct {
		keyType, valueLen uint
		may               rights
	}{
		{e.dialect.keyType, 0, extractable},
		{e.dialect.keyType, 0, extractable | private},
		{pkcs11.CKK_GENERIC_SECRET, suite.KeySize, extractable},
		{pkcs11.CKK_GENERIC_SECRET, suite.KeySize, extractable | private},
	} {
		all = append(all, func(s *session) (pkcs11.ObjectHandle, error) {
			var factor [suite.KeySize]byte
			rand.Read(factor[:])
			in, n := e.dialect.input(factor)
			return s.derive(e.dialect.deriveECB, e.master.key, in[:n], form.keyType, form.valueLen, form.may)
		})
		if xorKeys != 0 && form.valueLen == 0 { // a key's XOR has the key's type
			all = append(all, func(s *session) (pkcs11.ObjectHandle, error) { return e.combineWithRandom(s, xorKeys, form.may) })
		}
	}
	return all
}

// combineWithRandom makes the XOR of the master and a session key of random bytes, which is destroyed at once: whoever can read the
// result, and knows those bytes, has the master.
func (e *entry) combineWithRandom(s *session, mechanism uint, may rights) (object pkcs11.ObjectHandle, err error) {
	random := secret.New(suite.KeySize)
	rand.Read(random.Reveal("to fill it"))
	value := e.dialect.value(random)
	defer value.Wipe()
	other, err := s.create(e.dialect.keyType, mayDerive, name{}, value)
	if err != nil {
		return 0, err
	}
	object, err = s.combine(mechanism, e.master.key, other, e.dialect.keyType, may)
	return object, errors.Join(err, s.destroy(other))
}

// extract reports whether a key made of the master could be read, in any of the ways that a thief would try. That it could not is
// reported only when the token refused each of them by policy.
func (e *entry) extract(s *session, xorKeys uint) (out bool, err error) {
	var unclear error
	for _, try := range e.thefts(xorKeys) {
		object, err := try(s)
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
