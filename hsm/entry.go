package hsm

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// entry is a key in its generation: handle and all. A key that is not what the catalogue says fails closed, by name, and the
// others go on.
type entry struct {
	spec    KeySpec
	right   rights // TOKEN and CARD: the master's
	dialect dialect
	master  *parent // TOKEN and CARD: the master's object
	sealing sealing // PROCESS: how this token seals
	sealed  *sealed // PROCESS: the master's ciphertext
	loans   *loans  // of a key that may end before its generation: a replay's, or one that is destroyed
	failed  atomic.Pointer[error]
}

func (e *entry) failure() error {
	if err := e.failed.Load(); err != nil {
		return fmt.Errorf("key %q: %w", e.spec.Label, *err)
	}
	return nil
}

// begin, hold and drop count what may use the objects of the key: its Lends, and jobs, which may outlast them. A key that is to be
// destroyed begins nothing any more.
func (e *entry) begin() error {
	if e.loans == nil {
		return nil
	}
	if err := e.loans.begin(); err != nil {
		return fmt.Errorf("key %q: %w: it is being destroyed", e.spec.Label, ErrKeyNotFound)
	}
	return nil
}

func (e *entry) hold() {
	if e.loans != nil {
		e.loans.hold()
	}
}

func (e *entry) drop() {
	if e.loans != nil {
		e.loans.drop()
	}
}

func (e *entry) fail(err error) { e.failed.Store(&err) }

// masterRight is the one right of the master's object, the least that its boundary can do with on this token.
func (s *KeySpec) masterRight(p Profile) rights {
	if s.Boundary == keyderive.BoundaryCard && (s.IssuerLevels == 0 || !p.derives(s.Algorithm)) {
		return mayEncrypt
	}
	return mayDerive
}

// features are the mechanisms that the key uses, each proven before it does (rule 8).
func (s *KeySpec) features(p Profile) []feature {
	var list []feature
	add := func(uses ...use) {
		for _, u := range uses {
			list = append(list, feature{s.Algorithm, u})
		}
	}
	switch s.Boundary {
	case keyderive.BoundaryToken:
		add(useDerive, useECB, useCBC)
		if p.XORKeys != 0 && s.Kind.Folds() && s.Algorithm == suite.TDES {
			add(useXOR)
		}
	case keyderive.BoundaryCard:
		add(useECB, useBatch)
		if s.masterRight(p) == mayDerive {
			add(useDerive)
		}
	case keyderive.BoundaryProcess:
		list = append(list, feature{use: useSeal})
	}
	return list
}

// maxBlamed is how many starts in a row a key may spoil while others are good.
const maxBlamed = 3

// resolveAll resolves keys before traffic. A fault of the device ends the start. But a token says "general error" of the whole
// device and of a single key or mechanism alike: a key that draws it in maxBlamed starts in a row, in each of which other keys
// are good, fails closed, and the token serves the others.
func (g *generation) resolveAll(anchor *session, specs []KeySpec) error {
	blamed := g.token.blamed
	faults := map[string]error{}
	var suspects []KeySpec
	for _, spec := range specs {
		e, err := g.resolve(anchor, spec)
		switch {
		case err == nil:
			g.entries[spec.Label] = e
			delete(blamed, spec.Label)
		case vague(err):
			suspects = append(suspects, spec)
			faults[spec.Label] = err
		default:
			return err
		}
	}
	var again error
	for _, spec := range suspects {
		err := faults[spec.Label]
		if !g.anyGood() {
			return err
		}
		if blamed[spec.Label]++; blamed[spec.Label] < maxBlamed {
			again = fmt.Errorf("%w: %w", errAgain, err)
		}
	}
	if again != nil {
		return again
	}
	for _, spec := range suspects {
		e := &entry{spec: spec}
		e.fail(fmt.Errorf("in %d starts, while other keys were good: %v", blamed[spec.Label], faults[spec.Label])) // no code: it is the key's
		g.entries[spec.Label] = e
		g.token.log.Error("key fails closed", "key", spec.Label, "error", e.failure())
	}
	return nil
}

func (g *generation) anyGood() bool {
	for _, e := range g.entries {
		if e.failure() == nil {
			return true
		}
	}
	return false
}

// vague reports an error of the device class that may be one key's or mechanism's: those that the standard explains no further,
// and a vendor's.
func vague(err error) bool {
	var code pkcs11.Error
	if classOf(err) != classDevice || !errors.As(err, &code) {
		return false
	}
	_, known := returnCodes[code]
	return !known || doubtful[code]
}

// resolve finds the key and holds it against the catalogue. The error is of the token: what is wrong with the key is in the
// entry, which then fails closed.
func (g *generation) resolve(s *session, spec KeySpec) (*entry, error) {
	e := &entry{spec: spec, loans: &loans{}}
	err := g.prepare(s, e)
	if err == nil && spec.Boundary == keyderive.BoundaryProcess {
		err = e.findSealed(s)
	} else if err == nil {
		err = e.findMaster(s)
	}
	if err == nil {
		return e, nil
	}
	if classOf(err) > classRequest {
		return nil, fmt.Errorf("key %q: %w", spec.Label, err)
	}
	g.token.log.Error("key fails closed", "key", spec.Label, "error", err)
	e.fail(err)
	return e, nil
}

// prepare gives the entry its dialect and proves its mechanisms.
func (g *generation) prepare(s *session, e *entry) (err error) {
	if e.spec.Boundary != keyderive.BoundaryProcess {
		if e.dialect, err = g.token.config.Profile.dialect(e.spec.Algorithm); err != nil {
			return err
		}
		e.right = e.spec.masterRight(g.token.config.Profile)
	} else {
		e.sealing = g.token.config.Profile.sealing()
	}
	if e.spec.Boundary == keyderive.BoundaryToken && !g.token.config.Profile.derives(e.spec.Algorithm) {
		return fmt.Errorf("derive: %w", keyderive.ErrUnsupported)
	}
	for _, f := range e.spec.features(g.token.config.Profile) {
		if err := g.prove(s, f); err != nil {
			return err
		}
	}
	return nil
}

func (e *entry) findMaster(s *session) error {
	object, err := s.find(pkcs11.CKO_SECRET_KEY, e.spec.Label)
	if err != nil {
		return err
	}
	e.master = &parent{key: object}
	if err := s.checkID(object, e.spec.ID); err != nil {
		return err
	}
	if err := s.checkAttributes(object, e.dialect.keyType, e.right); err != nil {
		return err
	}
	return s.compareCheckValue(e)
}

// check computes the key's check value anew and compares it: the real call behind Ready.
func (e *entry) check(s *session) error {
	var err error
	if e.sealed != nil {
		err = e.checkSealed(s)
	} else {
		var got kcv.Value
		got, err = s.checkValue(e.dialect, e.master.key, e.right)
		if err == nil && got != e.spec.KCV {
			err = fmt.Errorf("%w: %v, expected %v", ErrKCVMismatch, got, e.spec.KCV)
		}
	}
	if errors.Is(err, ErrKCVMismatch) {
		e.fail(err)
	}
	return err
}
