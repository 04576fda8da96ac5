package keyderive

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawFactor(t *rapid.T, label string) Factor {
	return Factor(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, label))
}

func TestParseFactor(t *testing.T) {
	f, err := ParseFactor("31052280000011aF")
	require.NoError(t, err)
	assert.Equal(t, "31052280000011AF", f.String())
	for _, text := range []string{"", "3105", "31052280000011170", "3105 2280 0000 11", "310522800000111G"} {
		f, err := ParseFactor(text)
		require.ErrorContains(t, err, "16 hex digits", text)
		assert.Zero(t, f)
	}
}

// Hosts list the root first and PSAM commands the card first; both are the same path (EPURSE.md §2).
func TestPathOrder(t *testing.T) {
	issuer, region, card := Factor{1}, Factor{2}, Factor{3}
	path := RootFirst(issuer, region, card)
	assert.Equal(t, path, CardFirst(card, region, issuer))
	assert.NotEqual(t, path, CardFirst(issuer, region, card))
	assert.Equal(t, "0100000000000000/0200000000000000/0300000000000000", path.String())
	assert.Equal(t, 3, path.Len())

	parents, last, ok := path.Split()
	require.True(t, ok)
	assert.Equal(t, card, last)
	assert.Equal(t, RootFirst(issuer, region), parents)
	_, _, ok = Path{}.Split()
	assert.False(t, ok)
	assert.Empty(t, Path{}.Levels())
	assert.Empty(t, Path{}.String())
}

func TestPathsAreCopies(t *testing.T) {
	factors := []Factor{{1}, {2}}
	root, card := RootFirst(factors...), CardFirst(factors...)
	factors[0] = Factor{9}
	assert.Equal(t, RootFirst(Factor{1}, Factor{2}), root)
	assert.Equal(t, RootFirst(Factor{2}, Factor{1}), card)
}

// Levels are F‖~F from the root down.
func TestLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		factors := make([]Factor, rapid.IntRange(0, 4).Draw(t, "levels"))
		for i := range factors {
			factors[i] = drawFactor(t, "factor")
		}
		levels := RootFirst(factors...).Levels()
		require.Len(t, levels, len(factors))
		for i, level := range levels {
			require.Equal(t, factors[i], Factor(level[:8]))
			for j := range 8 {
				require.Equal(t, ^level[j], level[8+j])
			}
		}
		reversed := slices.Clone(factors)
		slices.Reverse(reversed)
		require.Equal(t, levels, CardFirst(reversed...).Levels())
	})
}
