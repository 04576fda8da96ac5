package hsm

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// The bulk path of a sealed master makes the same cards, in order; kinds keep to their rights there too, and a TOKEN master has no
// such path.
func TestLendCardsOfASealedMaster(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	cards := make([]keyderive.Factor, 2*cardsOfOneUnsealing+7)
	for i := range cards {
		cards[i] = keyderive.Factor{byte(i >> 8), byte(i)}
	}
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		label := alg.String()
		key := importKey(t, token, specOf(t, label, keyderive.KindTAC, alg, keyderive.BoundaryProcess, 1, tacMaster), tacMaster)
		bulk, single := make([]keyderive.MAC, len(cards)), make([]keyderive.MAC, len(cards))
		into := func(macs []keyderive.MAC) func(int, keyderive.Card) error {
			return func(i int, card keyderive.Card) error {
				tac, err := card.TAC()
				if err == nil {
					macs[i], err = tac.MAC([]byte("record"))
				}
				return err
			}
		}
		require.NoError(t, key.LendCards(t.Context(), demoPath, cards, into(bulk)))
		for i := range cards {
			require.NoError(t, keyderive.NewMaster(key, demoPath).WithCard(t.Context(), cards[i], func(c keyderive.Card) error { return into(single)(i, c) }))
		}
		assert.Equal(t, single, bulk)

		err := key.LendCards(t.Context(), demoPath, cards, func(_ int, card keyderive.Card) error {
			_, err := card.Session(keyderive.Factor{})
			return err
		})
		require.ErrorIs(t, err, errRight, "a TAC key makes no session key")
		mine := errors.New("mine")
		require.ErrorIs(t, key.LendCards(t.Context(), demoPath, cards, func(int, keyderive.Card) error { return mine }), mine)
		require.ErrorContains(t, key.LendCards(t.Context(), keyderive.Path{}, cards, into(bulk)), "0 issuer levels, the key set has 1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, key.LendCards(ctx, demoPath, cards, into(bulk)), context.Canceled)
	}
	inside := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	require.ErrorIs(t, inside.LendCards(t.Context(), demoPath, cards, func(int, keyderive.Card) error { return nil }), keyderive.ErrUnsupported)
}
