package custody

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// A restored catalogue holds what always holds of one, and says of every key what became of it.
func TestRestored(t *testing.T) {
	c := founded(t)
	key := func(kind keyderive.Kind, state KeyState, kcv, copied string) Key {
		k := Key{Name: Name{Kind: kind, Version: 1}, State: state, Boundary: keyderive.BoundaryToken, Label: Label("demo", Name{Kind: kind, Version: 1}),
			KCV: CheckValue{Value: kcv, Algorithm: suite.TDES.String()}, Origin: "generated", Created: noon, Wrapped: copied, Changed: strings.Repeat("1", 32)}
		if state == PreActive {
			k.ActivateAt = noon.Add(1)
		}
		return k
	}
	c.KeySets = []KeySet{{Definition: definition(), Changing: strings.Repeat("2", 32), Keys: []Key{
		key(keyderive.KindPurchase, Destroyed, "000001", ""), key(keyderive.KindLoad, PreActive, "000002", "AA"),
		key(keyderive.KindUnload, PreActive, "000003", ""), key(keyderive.KindTAC, Compromised, "000004", "BB"),
	}}}
	c.Transports = []Transport{{Name: "bank", Label: "pursekeeper/transport/bank"}}
	require.NoError(t, c.Check())

	id := strings.Repeat("3", 32)
	restored, lost := c.Restored(id)
	require.NoError(t, restored.Check())
	assert.Equal(t, c.Revision+1, restored.Revision)
	assert.Equal(t, []string{"demo/unload/1", "transport/bank"}, lost)
	assert.Empty(t, restored.Transports)
	assert.Empty(t, restored.KeySets[0].Changing)
	keys := restored.KeySets[0].Keys
	assert.Equal(t, c.KeySets[0].Keys[0], keys[0], "destroyed before")
	assert.Equal(t, []KeyState{Destroyed, PreActive, Destroyed, Compromised}, []KeyState{keys[0].State, keys[1].State, keys[2].State, keys[3].State})
	assert.Equal(t, []string{"generated", "restored", "generated", "restored"}, []string{keys[0].Origin, keys[1].Origin, keys[2].Origin, keys[3].Origin})
	assert.Equal(t, c.KeySets[0].Keys[1].ActivateAt, keys[1].ActivateAt)
	assert.Zero(t, keys[2].ActivateAt)
	assert.Equal(t, id, keys[2].Changed)
}

// What came in a key block is not exported again: such a block says N. A restore does not make it exportable.
func TestAKeyThatIsNotExportable(t *testing.T) {
	c := founded(t)
	name := Name{Kind: keyderive.KindLoad, Version: 1}
	c.KeySets = []KeySet{{Definition: definition(), Keys: []Key{{Name: name, State: PreActive, Boundary: keyderive.BoundaryToken, Label: Label("demo", name),
		KCV: CheckValue{Value: "000002", Algorithm: suite.TDES.String()}, Origin: "components", Created: noon, Wrapped: "AA", Changed: strings.Repeat("1", 32)}}}}
	c.Transports = []Transport{{Name: "bank", Label: "pursekeeper/transport/bank"}}
	export := func(c Catalogue) error {
		_, err := c.Propose(draft(policy.ExportKey, func(change *Change) {
			change.Keys = &KeysChange{Set: "demo", Transport: "bank", Keys: []KeyChange{{Name: name, KCV: "000002"}}}
		}), noon)
		return err
	}
	require.NoError(t, export(c))
	c.KeySets[0].Keys[0].Origin = "key-block"
	require.ErrorContains(t, export(c), "not exportable")
	restored, _ := c.Restored(strings.Repeat("3", 32))
	restored.Transports = c.Transports
	require.ErrorIs(t, export(restored), ErrInvalid)
}

func TestCustodiansOfAChange(t *testing.T) {
	tests := []struct {
		names      []string
		components int
		want       bool
	}{
		{nil, 2, true}, {nil, 0, true}, {[]string{"li-na", "Wáng Wěi"}, 2, true}, {[]string{"a", "b", "c"}, 3, true},
		{[]string{"a"}, 2, false}, {[]string{"a", "b"}, 0, false}, {[]string{"a", "A"}, 2, false}, {[]string{"a", "\x1b[2J"}, 2, false}, {[]string{"a", ""}, 2, false},
	}
	for _, test := range tests {
		assert.Equal(t, test.want, areCustodians(test.names, test.components), "%q of %d", test.names, test.components)
	}
	named := TransportChange{Name: "bank", Bits: 128, KCV: "ABCDEF", Components: 2, Custodians: []string{"li-na", "Wáng Wěi"}}
	w := &words{}
	w.transport(named)
	assert.True(t, slices.ContainsFunc(strings.Split(w.String(), "\n"), func(line string) bool {
		return strings.Contains(line, "custodians") && strings.Contains(line, "li-na")
	}))
}
