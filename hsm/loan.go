package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// loan is one Lend of the TOKEN boundary: one job, on one session, in one worker. It owns the objects derived meanwhile.
type loan struct {
	session *session
	spec    *KeySpec
	dialect dialect
	profile *Profile
	derived []pkcs11.ObjectHandle
	first   [4]pkcs11.ObjectHandle // where derived begins: a load needs two
	fault   error                  // the first error of the token, kept even when use drops it
	over    bool
}

var errOver = errors.New("the loan of the key is over")

// failed keeps err for the worker, and returns what the caller of the unit sees.
func (l *loan) failed(op string, err error) error {
	if err != nil && l.fault == nil {
		l.fault = err
	}
	return publicError(op, err)
}

// own adds a derived object, to be destroyed at the end of the loan whatever happens.
func (l *loan) own(key pkcs11.ObjectHandle) { l.derived = append(l.derived, key) }

// end destroys all that was derived, in the same critical section, the youngest first (rule 6). An object that could not be
// destroyed is an error of the whole loan: the Key's duties promise that none is left.
func (l *loan) end() {
	l.over = true
	for i := len(l.derived) - 1; i >= 0; i-- {
		if err := l.session.destroy(l.derived[i]); err != nil && l.fault == nil {
			l.fault = fmt.Errorf("destroy derived key: %w", err)
		}
	}
	l.derived = nil
}

// derive makes a session object of the ECB encryption of data under base. The new key's bytes exist in the token alone.
func (l *loan) derive(base pkcs11.ObjectHandle, data [16]byte, may rights) (pkcs11.ObjectHandle, error) {
	in, n := l.dialect.input(data)
	key, err := l.session.derive(l.dialect.deriveECB, base, in[:n], l.dialect.keyType, 0, may)
	if err != nil {
		return 0, l.failed("derive key", err)
	}
	l.own(key)
	return key, nil
}

// tokenUnit is a key object on loan. It implements keyderive.Unit.
type tokenUnit struct {
	loan    *loan
	key     pkcs11.ObjectHandle
	other   pkcs11.ObjectHandle // of a unit to fold: R‖R, where key is L‖L
	depth   int
	purpose keyderive.Purpose
}

func (u *tokenUnit) allowed(purpose keyderive.Purpose) error {
	if u.loan.over {
		return errOver
	}
	if u.purpose != purpose {
		return fmt.Errorf("use a %v key at depth %d: %w", u.loan.spec.Kind, u.depth, errRight)
	}
	return nil
}

func (u *tokenUnit) Derive(data [16]byte, purpose keyderive.Purpose) (keyderive.Unit, error) {
	if err := u.allowed(keyderive.ToDerive); err != nil {
		return nil, err
	}
	if err := mayBecome(u.loan.spec, u.depth+1, purpose); err != nil {
		return nil, err
	}
	unit := &tokenUnit{loan: u.loan, depth: u.depth + 1, purpose: purpose}
	var err error
	switch purpose {
	case keyderive.ToDerive:
		unit.key, err = u.loan.derive(u.key, data, mayDerive)
	case keyderive.ToEncrypt:
		unit.key, err = u.loan.derive(u.key, data, mayEncrypt)
	case keyderive.ToFold:
		unit.key, unit.other, err = u.loan.deriveHalves(u.key, data)
	}
	if err != nil {
		return nil, err
	}
	return unit, nil
}

// deriveHalves makes L‖L and R‖R of the key that data derives: E(A)‖E(A) and E(B)‖E(B) for data A‖B. They fold into one key
// inside the token, and no half leaves it.
func (l *loan) deriveHalves(base pkcs11.ObjectHandle, data [16]byte) (left, right pkcs11.ObjectHandle, err error) {
	if l.profile.XORKeys == 0 {
		return 0, 0, fmt.Errorf("fold key halves: %w", keyderive.ErrUnsupported)
	}
	twice := func(half []byte) (both [16]byte) {
		copy(both[:8], half)
		copy(both[8:], half)
		return both
	}
	if left, err = l.derive(base, twice(data[:8]), mayDerive); err != nil {
		return 0, 0, err
	}
	right, err = l.derive(base, twice(data[8:]), mayDerive)
	return left, right, err
}

func (u *tokenUnit) FoldHalves() (keyderive.Unit, error) {
	if u.loan.profile.XORKeys == 0 {
		return nil, fmt.Errorf("fold key halves: %w", keyderive.ErrUnsupported)
	}
	if err := u.allowed(keyderive.ToFold); err != nil {
		return nil, err
	}
	key, err := u.loan.session.combine(u.loan.profile.XORKeys, u.key, u.other, u.loan.dialect.keyType, mayEncrypt)
	if err != nil {
		return nil, u.loan.failed("fold key halves", err)
	}
	u.loan.own(key)
	return &tokenUnit{loan: u.loan, key: key, depth: depthSession, purpose: keyderive.ToEncrypt}, nil
}

func (u *tokenUnit) CBC(iv, padded []byte) ([]byte, error) {
	out, err := u.encrypt(u.loan.dialect.cbc, orZeros(iv, u.loan.dialect.alg.BlockSize()), padded)
	if err != nil {
		return nil, err
	}
	return out[len(out)-u.loan.dialect.alg.BlockSize():], nil
}

func (u *tokenUnit) ECB(blocks []byte) ([]byte, error) {
	return u.encrypt(u.loan.dialect.ecb, nil, blocks)
}

func (u *tokenUnit) encrypt(mechanism uint, iv, in []byte) ([]byte, error) {
	if err := u.allowed(keyderive.ToEncrypt); err != nil {
		return nil, err
	}
	if err := checkBlocks(u.loan.dialect.alg, iv, in); err != nil {
		return nil, err
	}
	out := make([]byte, len(in)) // a MAC chain or a cryptogram: no key
	if err := u.loan.session.encrypt(mechanism, u.key, iv, in, out); err != nil {
		return nil, u.loan.failed("encrypt", err)
	}
	return out, nil
}

var zeros [16]byte // never written

func orZeros(iv []byte, size int) []byte {
	if iv == nil {
		return zeros[:size]
	}
	return iv
}
