package keyderive

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The load of the demonstration card (DESIGN, §4), computed with published test keys.
func TestLoadMACsInMemory(t *testing.T) {
	for _, c := range []struct{ alg, mac1, mac2, tac string }{
		{"3DES", "7E1722D0", "60B7B5B7", "5D5364F0"},
		{"SM4", "C9A6F09C", "1FF2DC09", "15CDABFC"},
	} {
		alg, err := suite.Parse(c.alg)
		require.NoError(t, err)
		issuer, err := ParseFactor("1000100010001000")
		require.NoError(t, err)
		card, err := ParseFactor("3105228000001117")
		require.NoError(t, err)
		master := func(key string) Master {
			k, err := InMemory(alg, secret.Take(unhex(t, key)))
			require.NoError(t, err)
			return NewMaster(k, RootFirst(issuer))
		}
		in := Factor(unhex(t, "A1B2C3D4 0007 8000"))
		proof := unhex(t, "000003E8 00000064 02 112233445566")
		issue := unhex(t, "00000064 02 112233445566 20240131 235959")

		var mac2 MAC
		err = master("F7C1734AABB56E2CE6E3AE76862FDC3B").WithCard(context.Background(), card, func(card Card) error {
			session, err := card.Session(in)
			require.NoError(t, err)
			_, err = session.Answer(proof, MAC{}, issue)
			require.ErrorIs(t, err, ErrMismatch)
			mac2, err = session.Answer(proof, MAC(unhex(t, c.mac1)), issue)
			return err
		})
		require.NoError(t, err)
		require.Equal(t, unhex(t, c.mac2), mac2[:], c.alg)

		err = master("7FA79B75451FCDF820734AE367923E85").WithCard(context.Background(), card, func(card Card) error {
			tac, err := card.TAC()
			require.NoError(t, err)
			return tac.Verify(unhex(t, "0000044C 0007 00000064 02 112233445566 20240131 235959"), MAC(unhex(t, c.tac)))
		})
		require.NoError(t, err)
	}
}
