package hsm

import (
	"context"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// cardsOfOneUnsealing is how many cards one opening of a sealed master serves: what is derived of each is in locked memory, two
// slots a card, until the last is done.
const cardsOfOneUnsealing = 256

// lendManySealed is LendCards at the PROCESS boundary: the master is in locked memory for some hundreds of cards at a time.
func (g *generation) lendManySealed(ctx context.Context, e *entry, path keyderive.Path, cards []keyderive.Factor,
	use func(i int, card keyderive.Card) error,
) error {
	if err := e.checkLevels(path); err != nil {
		return err
	}
	for from := 0; from < len(cards); from += cardsOfOneUnsealing {
		some := cards[from:min(from+cardsOfOneUnsealing, len(cards))]
		err := g.lendSealed(ctx, e, path, func(issuer keyderive.Unit) error {
			return keyderive.EachCard(e.spec.Algorithm, issuer, some, func(i int, card keyderive.Card) error { return use(from+i, card) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}
