package hsm

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// The masters of the demonstration card (DESIGN, §4): published test keys.
const (
	loadMaster = "F7C1734AABB56E2CE6E3AE76862FDC3B"
	tacMaster  = "7FA79B75451FCDF820734AE367923E85"
)

func bytesOf(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	return b
}

func secretOf(t testing.TB, digits string) secret.Bytes { return secret.Take(bytesOf(t, digits)) }

func factorOf(t testing.TB, digits string) keyderive.Factor {
	t.Helper()
	f, err := keyderive.ParseFactor(digits)
	require.NoError(t, err)
	return f
}

// specOf makes the spec of a key with these bytes.
func specOf(t testing.TB, label string, kind keyderive.Kind, alg suite.Algorithm, boundary keyderive.Boundary, levels int, key string) KeySpec {
	t.Helper()
	block, err := alg.New(bytesOf(t, key))
	require.NoError(t, err)
	return KeySpec{Label: label, Kind: kind, Algorithm: alg, Boundary: boundary, IssuerLevels: levels, KCV: kcv.Of(block)}
}

func configOf(token *hsmtest.Token) Config {
	return Config{Module: token.Module, TokenLabel: token.Label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(token.PIN)), nil }}
}

// openToken opens a token for the test and closes it at its end.
func openToken(t testing.TB, config Config) *Token {
	t.Helper()
	token, err := Open(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, token.Close()) })
	return token
}

// importKey makes a master and returns it as callers see it.
func importKey(t testing.TB, token *Token, spec KeySpec, key string) *Key {
	t.Helper()
	master := secretOf(t, key)
	defer master.Wipe()
	require.NoError(t, token.ImportMaster(context.Background(), spec, master))
	k, err := token.Key(spec.Label)
	require.NoError(t, err)
	return k
}

var demoPath = keyderive.RootFirst(keyderive.Factor{0x10, 0, 0x10, 0, 0x10, 0, 0x10, 0})

// demoLoad is the load of the demonstration card, with the MAC1 that it is to have.
func demoLoad(t testing.TB, mac1 string) keyderive.Exchange {
	t.Helper()
	return keyderive.Exchange{
		Card: factorOf(t, "3105228000001117"), In: keyderive.Factor(bytesOf(t, "A1B2C3D4 0007 8000")),
		Proof: bytesOf(t, "000003E8 00000064 02 112233445566"), Got: keyderive.MAC(bytesOf(t, mac1)),
		Issue: bytesOf(t, "00000064 02 112233445566 20240131 235959"),
	}
}

// loadMAC2 does the load of the demonstration card as the signer does: the right MAC1 is demanded, and MAC2 returned.
func loadMAC2(ctx context.Context, t testing.TB, key keyderive.Key, path keyderive.Path, mac1 string) (keyderive.MAC, error) {
	return keyderive.NewMaster(key, path).Exchange(ctx, demoLoad(t, mac1))
}

// stepwise is a Key that has no way to answer at once.
type stepwise struct{ keyderive.Key }

func TestLoadInsideTheToken(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	spec := specOf(t, "demo/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	key := importKey(t, token, spec, loadMaster)
	for range 3 {
		mac2, err := loadMAC2(context.Background(), t, key, demoPath, "7E1722D0")
		require.NoError(t, err)
		require.Equal(t, bytesOf(t, "60B7B5B7"), mac2[:])
	}
	_, err := loadMAC2(context.Background(), t, key, demoPath, "00000000")
	require.ErrorIs(t, err, keyderive.ErrMismatch)
	require.NoError(t, token.Ready(context.Background()))
}
