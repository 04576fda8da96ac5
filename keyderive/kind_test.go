package keyderive

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The ten kinds of EPURSE.md §1, in its order, and the two of a reader, under the names of vectors and configuration.
func TestKinds(t *testing.T) {
	names := []string{
		"purchase", "load", "unload", "overdraft", "tac", "pin-unblock", "pin-reload", "maintenance", "control", "internal-auth",
		"reader", "reader-control",
	}
	require.Len(t, Kinds(), len(names))
	for i, kind := range Kinds() {
		assert.Equal(t, names[i], kind.String())
		assert.True(t, kind.Valid())
		again, err := ParseKind(names[i])
		require.NoError(t, err)
		assert.Equal(t, kind, again)
		text, err := kind.MarshalText()
		require.NoError(t, err)
		var decoded Kind
		require.NoError(t, decoded.UnmarshalText(text))
		assert.Equal(t, kind, decoded)
	}
	for _, name := range []string{"", "Load", "pin_unblock", "loads", " load"} {
		_, err := ParseKind(name)
		require.ErrorContains(t, err, "key kind", name)
		var kind Kind
		require.Error(t, kind.UnmarshalText([]byte(name)))
		assert.False(t, kind.Valid())
	}
	for _, kind := range []Kind{0, KindReaderControl + 1, 255} {
		assert.False(t, kind.Valid())
		assert.Contains(t, kind.String(), "invalid kind")
		_, err := kind.MarshalText()
		require.Error(t, err)
	}
}

// Session keys come from five kinds, folded halves from two, and no kind is both.
func TestWhatKindsDo(t *testing.T) {
	var derives, folds []Kind
	for _, kind := range Kinds() {
		if kind.Derives() {
			derives = append(derives, kind)
		}
		if kind.Folds() {
			folds = append(folds, kind)
		}
	}
	assert.Equal(t, []Kind{KindPurchase, KindLoad, KindUnload, KindOverdraft, KindReader}, derives)
	assert.Equal(t, []Kind{KindTAC, KindPINReload}, folds)
	assert.False(t, Kind(0).Derives() || Kind(0).Folds())
}

func TestBoundaries(t *testing.T) {
	for b, name := range map[Boundary]string{BoundaryToken: "TOKEN", BoundaryCard: "CARD", BoundaryProcess: "PROCESS"} {
		assert.Equal(t, name, b.String())
		again, err := ParseBoundary(name)
		require.NoError(t, err)
		assert.Equal(t, b, again)
	}
	for _, name := range []string{"", "token", "HSM", "TOKEN "} {
		_, err := ParseBoundary(name)
		require.ErrorContains(t, err, "expected TOKEN, CARD or PROCESS", name)
	}
	assert.Equal(t, "invalid boundary 0", Boundary(0).String())
	assert.Equal(t, "invalid boundary 4", Boundary(4).String())
}
