package keyderive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

func memoryMaster(t testing.TB, alg suite.Algorithm) (Key, secret.Bytes) {
	t.Helper()
	value := secret.Take([]byte("0123456789abcdef"))
	key, err := InMemory(alg, value)
	require.NoError(t, err)
	return key, value
}

// Everything derived during a Lend is zero when it returns, whether use succeeded, failed or panicked; the master is not.
func TestMemoryEngineWipesWhatItDerived(t *testing.T) {
	failed := errors.New("failed")
	for name, outcome := range map[string]func() error{
		"success": func() error { return nil },
		"failure": func() error { return failed },
		"panic":   func() error { panic("in use") },
	} {
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			key, master := memoryMaster(t, alg)
			var derived []secret.Bytes
			func() {
				defer func() { _ = recover() }()
				_ = key.Lend(context.Background(), RootFirst(Factor{1}, Factor{2}), func(unit Unit) error {
					card, err := unit.Derive(Factor{3}.input(), ToDerive)
					require.NoError(t, err)
					if alg == suite.TDES {
						folded, err := card.FoldHalves()
						require.NoError(t, err)
						derived = append(derived, folded.(*memoryUnit).key)
					}
					derived = append(derived, unit.(*memoryUnit).key, card.(*memoryUnit).key)
					for _, value := range derived {
						require.NotEqual(t, make([]byte, 16), value.Reveal("test"), name)
					}
					return outcome()
				})
			}()
			require.NotEmpty(t, derived)
			for _, value := range derived {
				assert.Equal(t, make([]byte, 16), value.Reveal("test"), name)
			}
			assert.Equal(t, "0123456789abcdef", string(master.Reveal("test")), name)
			master.Wipe()
		}
	}
}

func TestInMemoryRefuses(t *testing.T) {
	for _, c := range []struct {
		alg suite.Algorithm
		n   int
	}{{0, 16}, {suite.TDES, 8}, {suite.TDES, 24}, {suite.SM4, 0}} {
		_, err := InMemory(c.alg, secret.New(c.n))
		require.ErrorContains(t, err, "key in memory")
	}
}

func TestLendEndsWithItsContext(t *testing.T) {
	key, _ := memoryMaster(t, suite.TDES)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := key.Lend(ctx, Path{}, func(Unit) error { t.Error("lent"); return nil })
	require.ErrorIs(t, err, context.Canceled)
}

func TestUnitsRefuseWhatIsNoBlock(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		key, _ := memoryMaster(t, alg)
		require.Equal(t, alg, key.Algorithm())
		require.NoError(t, key.Lend(context.Background(), Path{}, func(unit Unit) error {
			for _, n := range []int{0, 1, alg.BlockSize() - 1, alg.BlockSize() + 1} {
				_, err := unit.ECB(make([]byte, n))
				require.ErrorContains(t, err, "ecb input")
				_, err = unit.CBC(nil, make([]byte, n))
				require.ErrorContains(t, err, "cbc-mac input")
			}
			_, err := unit.CBC(make([]byte, 1), make([]byte, 16))
			require.ErrorContains(t, err, "cbc-mac iv")
			return nil
		}))
	}
	key, _ := memoryMaster(t, suite.SM4)
	require.ErrorIs(t, key.Lend(context.Background(), Path{}, func(unit Unit) error {
		_, err := unit.FoldHalves()
		return err
	}), ErrUnsupported)
}

// No print of a key, a master or a loan shows the bytes.
func TestKeysPrintNoBytes(t *testing.T) {
	key, value := memoryMaster(t, suite.TDES)
	defer value.Wipe()
	require.NoError(t, key.Lend(context.Background(), Path{}, func(unit Unit) error {
		for _, shown := range []any{key, NewMaster(key, Path{}), unit} {
			for _, verb := range []string{"%v", "%+v", "%s"} {
				out := fmt.Sprintf(verb, shown)
				assert.NotContains(t, out, "0123456789abcdef", verb)
				assert.NotContains(t, strings.ToLower(out), "30313233", verb)
				assert.NotContains(t, out, "48 49 50", verb)
			}
		}
		return nil
	}))
}
