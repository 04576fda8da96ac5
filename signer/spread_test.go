package signer

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSpreadDoesEachPieceOnce(t *testing.T) {
	for _, n := range []int{0, 1, 7, 64, 1000, 10_000} {
		for _, least := range []int{1, 100} {
			done := make([]atomic.Int32, n)
			require.NoError(t, spread(n, least, func(from, to int) error {
				for i := from; i < to; i++ {
					done[i].Add(1)
				}
				return nil
			}))
			for i := range done {
				require.EqualValues(t, 1, done[i].Load(), "%d of %d", i, n)
			}
		}
	}
}

// An error is returned and a panic raised in the caller's goroutine, where the server recovers it.
func TestSpreadEndsWithItsFirstFailure(t *testing.T) {
	mine := errors.New("mine")
	require.ErrorIs(t, spread(1000, 1, func(_, to int) error {
		if to == 1000 {
			return mine
		}
		return nil
	}), mine)
	assert.PanicsWithValue(t, "bug", func() {
		_ = spread(1000, 1, func(_, to int) error {
			if to == 1000 {
				panic("bug")
			}
			return nil
		})
	})
}
