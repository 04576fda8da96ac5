package keyderive

import (
	"context"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// InMemory is the engine of keys held as bytes: the second engine of the vectors, and what is left to do in the process
// behind the CARD and PROCESS boundaries. key is 16 bytes and stays the caller's, who wipes it after the last Lend.
//
// Derived keys live in locked memory from Derive until the end of the Lend. The expanded schedule of the cipher that uses
// one lives in ordinary Go memory until it is collected; core dumps are off in the service for that reason.
func InMemory(alg suite.Algorithm, key secret.Bytes) (Key, error) {
	if !alg.Valid() || key.Len() != suite.KeySize {
		return nil, fmt.Errorf("key in memory: %v, %d bytes, expected %d", alg, key.Len(), suite.KeySize)
	}
	return memoryKey{alg, key}, nil
}

type memoryKey struct {
	alg suite.Algorithm
	key secret.Bytes
}

func (k memoryKey) Algorithm() suite.Algorithm { return k.alg }

func (k memoryKey) Lend(ctx context.Context, levels Path, use func(Unit) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	loan := &memoryLoan{alg: k.alg}
	defer loan.end()
	var unit Unit = &memoryUnit{loan: loan, key: k.key}
	for _, level := range levels.Levels() {
		var err error
		if unit, err = unit.Derive(level, ToDerive); err != nil {
			return err
		}
	}
	return use(unit)
}

// cardsOfOneLoan is how many cards' keys are in locked memory at once: 32 KiB with what is derived of each.
const cardsOfOneLoan = 256

// LendCards implements ManyLender: the key at levels is derived, and its cipher opened, once for some hundreds of cards.
func (k memoryKey) LendCards(ctx context.Context, levels Path, cards []Factor, use func(i int, card Card) error) error {
	for from := 0; from < len(cards); from += cardsOfOneLoan {
		some := cards[from:min(from+cardsOfOneLoan, len(cards))]
		err := k.Lend(ctx, levels, func(issuer Unit) error {
			return EachCard(k.alg, issuer, some, func(i int, card Card) error { return use(from+i, card) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// memoryLoan owns the derived keys of one Lend and wipes them at its end.
type memoryLoan struct {
	alg   suite.Algorithm
	owned []secret.Bytes
}

func (l *memoryLoan) end() {
	for i := range l.owned {
		l.owned[i].Wipe()
	}
}

// own moves value into locked memory for the rest of the loan.
func (l *memoryLoan) own(value []byte) *memoryUnit {
	key := secret.Take(value)
	l.owned = append(l.owned, key)
	return &memoryUnit{loan: l, key: key}
}

// memoryUnit opens its cipher at its first use.
type memoryUnit struct {
	loan  *memoryLoan
	key   secret.Bytes
	block cipher.Block
}

func (u *memoryUnit) cipher() (cipher.Block, error) {
	if u.block == nil {
		block, err := u.loan.alg.New(u.key.Reveal("to open its cipher in memory"))
		if err != nil {
			return nil, err
		}
		u.block = block
	}
	return u.block, nil
}

func (u *memoryUnit) Derive(data [16]byte, _ Purpose) (Unit, error) {
	value, err := u.ECB(data[:])
	if err != nil {
		return nil, err
	}
	return u.loan.own(value), nil
}

// DangerousIssue implements DangerousIssuer. An engine in memory does not know what its keys are for; the duty that only a card's
// key leaves is Master's, which asks at the issuer levels alone.
func (u *memoryUnit) DangerousIssue(data [16]byte) (secret.Bytes, error) {
	value, err := u.ECB(data[:])
	if err != nil {
		return secret.Bytes{}, err
	}
	return u.loan.own(value).key, nil
}

func (u *memoryUnit) FoldHalves() (Unit, error) {
	if u.loan.alg != suite.TDES {
		return nil, fmt.Errorf("fold %v key halves: %w", u.loan.alg, ErrUnsupported)
	}
	key := u.key.Reveal("to fold its halves in memory")
	var folded [suite.KeySize]byte // K‖K; own zeroes it
	subtle.XORBytes(folded[:8], key[:8], key[8:])
	copy(folded[8:], folded[:8])
	return u.loan.own(folded[:]), nil
}

func (u *memoryUnit) CBC(iv, padded []byte) ([]byte, error) {
	block, err := u.cipher()
	if err != nil {
		return nil, err
	}
	return cbcmac.Chain(block, iv, padded)
}

func (u *memoryUnit) ECB(blocks []byte) ([]byte, error) {
	block, err := u.cipher()
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(blocks) == 0 || len(blocks)%size != 0 {
		return nil, fmt.Errorf("ecb input: %d bytes, expected a positive multiple of %d", len(blocks), size)
	}
	out := make([]byte, len(blocks))
	for at := 0; at < len(blocks); at += size {
		block.Encrypt(out[at:at+size], blocks[at:at+size])
	}
	return out, nil
}

// Borrow lends key until end is called, for an engine whose keys come into memory in the middle of a Lend (the CARD boundary).
// end wipes all that was derived of key; key itself stays the caller's. The unit is used by one goroutine.
func Borrow(alg suite.Algorithm, key secret.Bytes) (unit Unit, end func(), err error) {
	if !alg.Valid() || key.Len() != suite.KeySize {
		return nil, nil, fmt.Errorf("key in memory: %v, %d bytes, expected %d", alg, key.Len(), suite.KeySize)
	}
	loan := &memoryLoan{alg: alg}
	return &memoryUnit{loan: loan, key: key}, loan.end, nil
}
