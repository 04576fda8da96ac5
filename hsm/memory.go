package hsm

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// memoryUnit is a key in locked process memory on loan, behind the CARD and PROCESS boundaries. It refuses what the key's kind
// never does, as a key object of the token would.
type memoryUnit struct {
	keyderive.Unit
	loan    *memoryLoan
	depth   int
	purpose keyderive.Purpose
}

// memoryLoan is one Lend of such a key. It runs on its caller's goroutine: only the calls of the token have workers.
type memoryLoan struct {
	spec *KeySpec
	keys []secret.Bytes // card keys, wiped at the end
	ends []func()       // what was derived of them in memory, wiped before
	over bool
}

func (l *memoryLoan) end() {
	l.over = true
	for _, end := range l.ends {
		end()
	}
	for i := range l.keys {
		l.keys[i].Wipe()
	}
}

func (u *memoryUnit) allowed(purpose keyderive.Purpose) error {
	if u.loan.over {
		return errOver
	}
	if u.purpose != purpose {
		return fmt.Errorf("use a %v key at depth %d: %w", u.loan.spec.Kind, u.depth, errRight)
	}
	return nil
}

func (u *memoryUnit) Derive(data [16]byte, purpose keyderive.Purpose) (keyderive.Unit, error) {
	if err := u.allowed(keyderive.ToDerive); err != nil {
		return nil, err
	}
	if err := mayBecome(u.loan.spec, u.depth+1, purpose); err != nil {
		return nil, err
	}
	unit, err := u.Unit.Derive(data, purpose)
	if err != nil {
		return nil, err
	}
	return &memoryUnit{unit, u.loan, u.depth + 1, purpose}, nil
}

// DangerousIssue implements keyderive.DangerousIssuer for the card keys of a PROCESS master, and of a CARD master whose issuer-level
// key is in memory. The bytes end with the loan.
func (u *memoryUnit) DangerousIssue(data [16]byte) (secret.Bytes, error) {
	if err := u.allowed(keyderive.ToDerive); err != nil {
		return secret.Bytes{}, err
	}
	if err := mayLeave(u.loan.spec, u.depth+1); err != nil {
		return secret.Bytes{}, err
	}
	issuer, ok := u.Unit.(keyderive.DangerousIssuer)
	if !ok {
		return secret.Bytes{}, keyderive.ErrStays
	}
	return issuer.DangerousIssue(data)
}

func (u *memoryUnit) FoldHalves() (keyderive.Unit, error) {
	if err := u.allowed(keyderive.ToFold); err != nil {
		return nil, err
	}
	unit, err := u.Unit.FoldHalves()
	if err != nil {
		return nil, err
	}
	return &memoryUnit{unit, u.loan, depthSession, keyderive.ToEncrypt}, nil
}

func (u *memoryUnit) CBC(iv, padded []byte) ([]byte, error) {
	if err := u.allowed(keyderive.ToEncrypt); err != nil {
		return nil, err
	}
	if err := checkBlocks(u.loan.spec.Algorithm, iv, padded); err != nil {
		return nil, err
	}
	return u.Unit.CBC(iv, padded)
}

func (u *memoryUnit) ECB(blocks []byte) ([]byte, error) {
	if err := u.allowed(keyderive.ToEncrypt); err != nil {
		return nil, err
	}
	return u.Unit.ECB(blocks)
}

// cardSource is the unit that the CARD boundary lends: a key of the token that only makes card keys.
type cardSource struct {
	loan       *memoryLoan
	ctx        context.Context // of the Lend: a unit's methods take none
	generation *generation
	entry      *entry
	parent     *parent
}

// Derive has the token make a card key, which is in locked memory from here to the end of the loan.
func (c *cardSource) Derive(data [16]byte, purpose keyderive.Purpose) (keyderive.Unit, error) {
	if c.loan.over {
		return nil, errOver
	}
	if err := mayBecome(c.loan.spec, depthCard, purpose); err != nil {
		return nil, err
	}
	key, err := c.generation.cardKey(c.ctx, c.entry, c.parent, data)
	if err != nil {
		return nil, err
	}
	c.loan.keys = append(c.loan.keys, key)
	return c.loan.lend(key, depthCard, purpose)
}

// DangerousIssue implements keyderive.DangerousIssuer: the card key that the token makes is in locked memory at this boundary
// anyway, from here to the end of the loan.
func (c *cardSource) DangerousIssue(data [16]byte) (secret.Bytes, error) {
	if c.loan.over {
		return secret.Bytes{}, errOver
	}
	if err := mayLeave(c.loan.spec, depthCard); err != nil {
		return secret.Bytes{}, err
	}
	key, err := c.generation.cardKey(c.ctx, c.entry, c.parent, data)
	if err != nil {
		return secret.Bytes{}, err
	}
	c.loan.keys = append(c.loan.keys, key)
	return key, nil
}

// lend makes a unit of a key in locked memory; what is derived of it is wiped with the loan.
func (l *memoryLoan) lend(key secret.Bytes, depth int, purpose keyderive.Purpose) (keyderive.Unit, error) {
	unit, end, err := keyderive.Borrow(l.spec.Algorithm, key)
	if err != nil {
		return nil, err
	}
	l.ends = append(l.ends, end)
	return &memoryUnit{unit, l, depth, purpose}, nil
}

func (c *cardSource) FoldHalves() (keyderive.Unit, error) { return nil, c.refuse() }

func (c *cardSource) CBC(_, _ []byte) ([]byte, error) { return nil, c.refuse() }

func (c *cardSource) ECB([]byte) ([]byte, error) { return nil, c.refuse() }

func (c *cardSource) refuse() error {
	return fmt.Errorf("use a %v key above the card: %w", c.loan.spec.Kind, errRight)
}
