package hsm

import (
	"context"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// The CARD boundary on a token that derives nothing: the key at the issuer levels, too, is in locked memory, from C_Encrypt to the end
// of the Lend. The master is not.

// issuerKey makes that key: the token the first level, the process those below it. path has a level. The caller wipes it.
func (g *generation) issuerKey(ctx context.Context, e *entry, path keyderive.Path) (secret.Bytes, error) {
	steps := path.Levels()
	key, err := g.cardKey(ctx, e, e.master, steps[0])
	if err != nil {
		return secret.Bytes{}, err
	}
	for _, step := range steps[1:] {
		next := secret.New(suite.KeySize)
		maker, err := makeKeys(e.spec.Algorithm, key)
		key.Wipe()
		if err != nil {
			next.Wipe()
			return secret.Bytes{}, err
		}
		maker.write(next, step)
		key = next
	}
	return key, nil
}

// keyMaker makes the keys below one in memory. The schedule of its cipher is in ordinary Go memory until it is collected
// (keyderive.InMemory).
type keyMaker struct {
	encrypt func(dst, src []byte)
	size    int
}

func makeKeys(alg suite.Algorithm, key secret.Bytes) (keyMaker, error) {
	block, err := alg.New(key.Reveal("to derive from it in memory"))
	if err != nil {
		return keyMaker{}, err
	}
	return keyMaker{block.Encrypt, block.BlockSize()}, nil
}

// write overwrites key with the ECB encryption of data.
func (m keyMaker) write(key secret.Bytes, data [suite.KeySize]byte) {
	out := key.Reveal("to write a derived key")
	for at := 0; at < len(data); at += m.size {
		m.encrypt(out[at:at+m.size], data[at:at+m.size])
	}
}

// lendWithoutDerivation is Lend there.
func (g *generation) lendWithoutDerivation(ctx context.Context, e *entry, path keyderive.Path, use func(keyderive.Unit) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	issuer, err := g.issuerKey(ctx, e, path)
	if err != nil {
		return err
	}
	loan := &memoryLoan{spec: &e.spec, keys: []secret.Bytes{issuer}}
	defer loan.end() // wipes it
	unit, err := loan.lend(issuer, depthLent, keyderive.ToDerive)
	if err != nil {
		return err
	}
	return use(unit)
}

// lendCardsWithoutDerivation is LendCards there. The token, which has no part after the first level, is looked at again as often as
// where it makes the cards' keys: a loan of a million cards does not outlive its generation by more than some hundreds.
func (g *generation) lendCardsWithoutDerivation(ctx context.Context, e *entry, path keyderive.Path, cards []keyderive.Factor,
	use func(i int, card keyderive.Card) error,
) error {
	issuer, err := g.issuerKey(ctx, e, path)
	if err != nil {
		return err
	}
	defer issuer.Wipe()
	maker, err := makeKeys(e.spec.Algorithm, issuer)
	if err != nil {
		return err
	}
	key := secret.New(suite.KeySize) // one card's at a time, to the end of this function
	defer key.Wipe()
	for from := 0; from < len(cards); from += maxBatch {
		if err := g.stillLends(ctx); err != nil {
			return err
		}
		some := keyderive.RootFirst(cards[from:min(from+maxBatch, len(cards))]...)
		for i, level := range some.Levels() {
			maker.write(key, level)
			value := key.Reveal("to lend a card key made in memory")
			if err := e.lendOne(value, func(card keyderive.Card) error { return use(from+i, card) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *generation) stillLends(ctx context.Context) error {
	if closed(g.down) {
		return g.unavailable()
	}
	return ctx.Err()
}
