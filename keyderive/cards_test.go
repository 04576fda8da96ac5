package keyderive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// oneByOne is a Key that makes cards one by one, or says so of itself.
type oneByOne struct{ Key }

type saysSo struct{ Key }

func (saysSo) LendCards(context.Context, Path, []Factor, func(int, Card) error) error {
	return fmt.Errorf("many: %w", ErrUnsupported)
}

func manyFactors(n int) []Factor {
	cards := make([]Factor, n)
	for i := range cards {
		binary.BigEndian.PutUint64(cards[i][:], uint64(i)*0x9E3779B97F4A7C15)
	}
	return cards
}

// Many cards at once are the same cards as one by one, in order and each once, on every way that an engine may have.
func TestManyCardsAreTheSameCards(t *testing.T) {
	cards := manyFactors(2*cardsOfOneLoan + 3)
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		memory, err := InMemory(alg, secret.Copy([]byte("0123456789ABCDEF")))
		require.NoError(t, err)
		var first []MAC
		for _, key := range []Key{memory, oneByOne{memory}, saysSo{memory}} {
			master := NewMaster(key, RootFirst(Factor{1}, Factor{2}))
			var macs []MAC
			require.NoError(t, master.WithCards(t.Context(), cards, func(i int, c Card) error {
				require.Equal(t, len(macs), i)
				tac, err := c.TAC()
				require.NoError(t, err)
				mac, err := tac.MAC([]byte("purchase"))
				macs = append(macs, mac)
				return err
			}))
			require.Len(t, macs, len(cards))
			if first == nil {
				first = macs
			}
			require.Equal(t, first, macs, "%T", key)
		}
		assert.NotEqual(t, first[0], first[1])
	}
}

func TestManyCardsEndWithTheFirstError(t *testing.T) {
	memory, err := InMemory(suite.TDES, secret.Copy([]byte("0123456789ABCDEF")))
	require.NoError(t, err)
	mine := errors.New("mine")
	for _, key := range []Key{memory, oneByOne{memory}, saysSo{memory}} {
		calls := 0
		err := NewMaster(key, Path{}).WithCards(t.Context(), manyFactors(9), func(i int, _ Card) error {
			calls++
			if i == 4 {
				return mine
			}
			return nil
		})
		require.ErrorIs(t, err, mine)
		assert.Equal(t, 5, calls)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, NewMaster(key, Path{}).WithCards(ended, manyFactors(9), func(int, Card) error { return nil }), context.Canceled)
	}
}
